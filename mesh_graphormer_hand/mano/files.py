"""Reading and writing hands."""

from pathlib import Path

import numpy as np

from .hand import Hand, HandFileError, RenderMesh


def read_npz(path: Path) -> Hand:
    with np.load(path, allow_pickle=False) as z:
        z = {k: z[k] for k in z.files}
    f = lambda k: z[k].astype(np.float32)
    return Hand(
        f("v_template"),
        z["faces"].astype(np.int64),
        f("weights"),
        f("J_regressor"),
        f("shapedirs"),
        f("posedirs"),
        f("hands_components"),
        f("hands_mean"),
        name="open",
        wrist_loop=z["wrist_loop"].astype(np.int64),
        render=RenderMesh(
            f("hi_v"),
            z["hi_faces"].astype(np.int64),
            f("hi_weights"),
            f("hi_shapedirs"),
            f("hi_posedirs"),
            f("hi_color"),
            f("hi_gloss"),
        ),
    )
