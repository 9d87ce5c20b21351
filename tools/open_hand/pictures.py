"""Pictures of the built hand: the render mesh from six sides, and in a fist, a pinch and a spread."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano.files import read_npz
from mesh_graphormer_hand.mano.hand import Hand
from mesh_graphormer_hand.mano.layer import skin, skin_tensors
from mesh_graphormer_hand.render.overlay import side_view

from .anatomy import ASSET_FROM_HAND, WRIST_ASSET, Skeleton, unit
from .poses import NAMED, axis_angles

Image = UInt8[np.ndarray, "h w 3"]
View = tuple[tuple[float, float, float], tuple[float, float, float]]  # looking along, up, in the hand frame
SIDES: dict[str, View] = {
    "back": ((0, 0, -1), (1, 0, 0)),
    "palm": ((0, 0, 1), (1, 0, 0)),
    "thumb side": ((0, -1, 0), (1, 0, 0)),
    "little finger side": ((0, 1, 0), (1, 0, 0)),
    "fingertips": ((-1, 0, 0), (0, 0, 1)),
    "wrist": ((1, -0.2, -0.3), (0, 0, 1)),
}
POSES: dict[str, View] = {
    "fist": ((-0.25, -0.75, 0.75), (1, 0, 0.2)),
    "pinch": ((-0.2, -0.95, 0.35), (1, 0, 0)),
    "spread": ((0, 0, 1), (1, 0, 0)),
}
TILE = 400  # px
DISPLAY_GAMMA = 2.2  # the file's colours were picked on a screen; the renderer takes linear light


def save(path: Path, folder: Path) -> list[Path]:
    """Write open_hand.png (six sides) and open_hand_poses.png of the hand in `path`; the files written."""
    hand = read_npz(path)
    rest = np.zeros((16, 3))
    sides = [_tile(hand, rest, view, name) for name, view in SIDES.items()]
    skeleton = Skeleton()
    poses = [_tile(hand, axis_angles(skeleton, NAMED[name]), view, name) for name, view in POSES.items()]
    written = []
    for name, tiles in (("open_hand.png", sides), ("open_hand_poses.png", poses)):
        rows = [np.concatenate(tiles[i : i + 3], 1) for i in range(0, len(tiles), 3)]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        written.append(folder / name)
    return written


def _tile(hand: Hand, pose: Float[np.ndarray, "16 3"], view: View, label: str) -> Image:
    mesh = hand.render
    rotations = axis_angle_to_matrix(torch.from_numpy(pose).float())[None]
    vertices = skin(skin_tensors(hand, mesh), rotations, torch.zeros(1, 10))[0][0].numpy()
    local = (vertices - WRIST_ASSET / 1e3) @ ASSET_FROM_HAND  # the rotation is its own inverse
    colours = mesh.colours**DISPLAY_GAMMA
    image = side_view(local @ _camera(view).T, mesh.faces, (TILE, TILE), 0, colours, fill=0.92)
    ink, where = (70, 70, 70), (12, 26)
    return cv2.putText(image, label, where, cv2.FONT_HERSHEY_SIMPLEX, 0.6, ink, 1, cv2.LINE_AA)


def _camera(view: View) -> Float[np.ndarray, "3 3"]:
    """Rows right, down, forward."""
    forward = unit(np.array(view[0], float))
    right = unit(np.cross(forward, np.array(view[1], float)))
    return np.stack([right, np.cross(forward, right), forward])
