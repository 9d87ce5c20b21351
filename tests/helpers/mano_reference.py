"""What manopth and smplx answered for an invented hand, cut down to the few vertices that fit into the repository.

tests/data/mano_reference.npz holds 38 vertices of that hand with all their arrays, what its joint regressor needs, and
both programs' outputs for them. The other vertices are filled with zeros and compared with nothing.
"""

import numpy as np
import torch

from helpers.places import DATA
from mesh_graphormer_hand.mano.hand import Hand

DATA = np.load(DATA / "mano_reference.npz")
VERTICES = DATA["vertices"]


def spread(rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """778 rows, zero but for `rows` at `where`."""
    full = np.zeros((778, *rows.shape[1:]), np.float32)
    full[where] = rows
    return full


def invented_hand() -> Hand:
    """The cut-down hand; its faces mean nothing."""
    weights = spread(DATA["weights"], VERTICES)
    weights[weights.sum(1) == 0, 0] = 1
    return Hand(
        v_template=spread(DATA["template"], DATA["both"]),
        faces=np.stack([np.arange(1538) % 776 + k for k in range(3)], 1),
        weights=weights,
        joint_regressor=np.ascontiguousarray(spread(DATA["regressor"].T, DATA["regressor_vertices"]).T),
        shapedirs=spread(DATA["shapedirs"], DATA["both"]),
        posedirs=spread(DATA["posedirs"], VERTICES),
        hands_components=DATA["hands_components"],
        hands_mean=DATA["hands_mean"],
    )


def tensor(key: str) -> torch.Tensor:
    return torch.from_numpy(DATA[key])


CASES = {  # stored output -> arguments of the layer, columns of the pose, translated
    "axisang_flat": ({"use_pca": False, "flat_hand_mean": True}, 48, False),
    "axisang_mean": ({"use_pca": False, "flat_hand_mean": False}, 48, False),
    "axisang_mean_trans": ({"use_pca": False, "flat_hand_mean": False}, 48, True),
    "pca12_mean": ({"use_pca": True, "ncomps": 12, "flat_hand_mean": False}, 15, False),
    "pca45_flat_center9": ({"use_pca": True, "ncomps": 45, "flat_hand_mean": True, "center_idx": 9}, 48, False),
    "rot6d": ({"use_pca": False, "flat_hand_mean": True, "root_rot_mode": "rot6d"}, 51, False),
}
