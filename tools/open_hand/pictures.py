"""Pictures of the built hand: the render mesh with its forearm from six sides, and the hand in twelve poses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Int64, UInt8

from mesh_graphormer_hand.mano.io import read_npz
from mesh_graphormer_hand.render.overlay import side_view
from mesh_graphormer_hand.virtual.hand import poses
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy

from . import forearm
from .anatomy import ASSET_FROM_HAND, WRIST_ASSET, unit
from .volumes import posed_by

Image = UInt8[np.ndarray, "h w 3"]
View = tuple[tuple[float, float, float], tuple[float, float, float]]  # looking along, up, in the hand frame
SIDES: dict[str, View] = {
    "back": ((0, 0, -1), (1, 0, 0)),
    "palm": ((0, 0, 1), (1, 0, 0)),
    "thumb side": ((0, -1, 0), (1, 0, 0)),
    "little finger side": ((0, 1, 0), (1, 0, 0)),
    "fingertips": ((-1, 0, 0), (0, 0, 1)),
    "with its forearm": ((-0.1, -0.6, -0.75), (1, 0, 0.2)),
}
PALM: View = ((0, -0.25, 1), (1, 0, 0))
THUMB: View = ((-0.25, -0.75, 0.75), (1, 0, 0.2))
POSES: dict[str, View] = {
    "fist": THUMB,
    "thumbs_up": PALM,
    "point": THUMB,
    "v_sign": PALM,
    "pinch": ((-0.2, -0.95, 0.35), (1, 0, 0)),
    "ok": ((-0.1, -0.9, 0.4), (1, 0, 0)),
    "hook": ((0, -1, 0.2), (1, 0, 0)),
    "feix_cylinder": ((-0.3, -0.8, 0.5), (1, 0, 0.2)),
    "four": PALM,
    "asl_y": PALM,
    "open_spread": PALM,
    "relaxed": ((0, -0.9, 0.4), (1, 0, 0)),
}
TILE, COLUMNS = 400, {"open_hand.png": 3, "open_hand_poses.png": 4}
ARM_SHOWN = 0.075  # m of the forearm in all tiles but one
DISPLAY_GAMMA = 2.2  # the file's colours were picked on a screen; the renderer takes linear light


def save(path: Path, folder: Path) -> list[Path]:
    """Write open_hand.png (six sides) and open_hand_poses.png (twelve poses) of the hand in `path`."""
    with np.load(path) as file:
        arrays = dict(file)
    anatomy = Anatomy.of(read_npz(path))
    rest = np.tile(np.eye(3), (16, 1, 1))
    arms = [*[ARM_SHOWN] * (len(SIDES) - 1), 1.0]
    sides = [_tile(arrays, rest, view, name, arm) for (name, view), arm in zip(SIDES.items(), arms, strict=True)]
    shown = [
        _tile(arrays, poses.named(name, anatomy), view, name.replace("_", " "), ARM_SHOWN)
        for name, view in POSES.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, tiles in (("open_hand.png", sides), ("open_hand_poses.png", shown)):
        wide = COLUMNS[name]
        rows = [np.concatenate(tiles[i : i + wide], 1) for i in range(0, len(tiles), wide)]
        cv2.imwrite(str(folder / name), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return [folder / name for name in COLUMNS]


def _tile(
    arrays: dict[str, np.ndarray], rotations: Float[np.ndarray, "16 3 3"], view: View, label: str, arm: float
) -> Image:
    vertices = np.concatenate([posed_by(arrays, rotations), arrays["arm_v"]])
    faces = _near(vertices, forearm.whole(arrays)[1], arrays["J"][0, 0] + arm)
    used, faces = np.unique(faces, return_inverse=True)
    local = (vertices[used] - WRIST_ASSET / 1e3) @ ASSET_FROM_HAND  # the rotation is its own inverse
    colours = np.concatenate([arrays["hi_color"], arrays["arm_color"]])[used] ** DISPLAY_GAMMA
    local = (local @ _camera(view).T).astype(np.float32)
    image = side_view(local, faces.reshape(-1, 3), (TILE, TILE), 0, colours, fill=0.92)
    ink, where = (70, 70, 70), (12, 26)
    return cv2.putText(image, label, where, cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)


def _near(vertices: np.ndarray, faces: Int64[np.ndarray, "f 3"], limit: float) -> Int64[np.ndarray, "f 3"]:
    """Faces up to a place along the arm, m."""
    return faces[vertices[faces][..., 0].max(1) < limit]


def _camera(view: View) -> Float[np.ndarray, "3 3"]:
    """Rows right, down, forward."""
    forward = unit(np.array(view[0], float))
    right = unit(np.cross(forward, np.array(view[1], float)))
    return np.stack([right, np.cross(forward, right), forward])
