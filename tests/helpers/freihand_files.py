"""24 invented samples in FreiHAND's evaluation format and what its own eval.py says of them (tests/data)."""

import json
from pathlib import Path

import numpy as np

from helpers.places import DATA

PATH = DATA / "freihand_scores.npz"  # micrometres, relative to each sample's first point
NAMES = ("joints", "vertices", "joints_predicted", "vertices_predicted")


def arrays() -> dict[str, np.ndarray]:
    """The samples in metres, float64, exactly as the official program read them."""
    with np.load(PATH) as file:
        return {n: (file[n].astype(np.int64) + file[f"{n}_first"]) / 1e6 for n in NAMES}


def official_lines() -> list[str]:
    """scores.txt."""
    with np.load(PATH) as file:
        return str(file["scores"]).splitlines()


def write(folder: Path) -> tuple[Path, Path]:
    """The folder of the truth and the pred.json."""
    data, truth = arrays(), folder / "ref"
    truth.mkdir(parents=True)
    (truth / "evaluation_xyz.json").write_text(json.dumps(data["joints"].tolist()))
    (truth / "evaluation_verts.json").write_text(json.dumps(data["vertices"].tolist()))
    answer = [data["joints_predicted"].tolist(), data["vertices_predicted"].tolist()]
    (folder / "pred.json").write_text(json.dumps(answer))
    return truth, folder / "pred.json"
