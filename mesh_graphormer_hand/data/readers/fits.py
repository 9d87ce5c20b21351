"""MANO fits of official data sets: whose hand they are, and the mesh that their parameters stand for.

MANO itself is licensed and not here. Where its user has dropped MANO_RIGHT.pkl into mano_assets/ (or names it), labels
carry its fingerprint and parameters become meshes. Where not, vertices that a data set ships are kept under
`UNKNOWN_MANO`, which matches no hand: metrics refuse to compare them and losses pass them over.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from ...geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ...mano import hand as hands
from ...mano.hand import Hand, HandFileError, fingerprint_from_hex
from ...mano.layer import ManoLayer
from ..images import DataError

UNKNOWN_MANO = int.from_bytes(b"mano?   ", "big", signed=True)  # MANO, but no file of it is on this machine
MIRROR_SIGNS = np.array([-1.0, 1.0, 1.0])


def mano(source: str) -> Hand | None:
    """The MANO hand of the labels: `auto` (MANO_RIGHT.pkl in mano_assets/ if it is there), `none`, or a file or folder.

    Raises:
        DataError: a file that is named and is not there, or no hand.
    """
    if source == "none" or (source == "auto" and hands.locate("auto").suffix == ".npz"):
        return None
    try:
        return _bare(hands.load(source))
    except HandFileError as error:
        raise DataError(f"mano={source}: {error}") from None


def _bare(hand: Hand) -> Hand:
    """Without the mesh for pictures, which is large and would travel to every worker."""
    return replace(hand, render=None)


def labelled_hand(root: Path, source: str) -> tuple[Hand | None, int]:
    """The hand that a folder's labels belong to, and its fingerprint.

    A folder that hand-generate wrote says so in its manifest.json; any other one holds MANO.

    Raises:
        DataError: the manifest cannot be read.
    """
    manifest = root / "manifest.json"
    if source == "auto" and manifest.is_file():
        try:
            name = json.loads(manifest.read_text(encoding="utf-8"))["hand"]["fingerprint"]
            fingerprint = fingerprint_from_hex(name)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{manifest} does not say which hand its labels belong to ({error})") from None
        try:
            return _bare(hands.find(name)), fingerprint
        except HandFileError:
            return None, fingerprint
    hand = mano(source)
    return hand, UNKNOWN_MANO if hand is None else hand.fingerprint


class Fitter:
    """Parameters of fits -> meshes in camera axes. `flat`: the fit's finger pose includes the mean pose already."""

    def __init__(self, hand: Hand, flat: bool, components: int = 0) -> None:
        self.hand, self.flat, self.components = hand, flat, components

    def full_pose(self, pose: Float[np.ndarray, "p"], is_left: bool) -> Float[np.ndarray, "16 3"]:
        """16 axis-angles of the hand's own side, mean pose included, from 48 numbers (or 3 and principal components).

        Mirrored hands share their components' meaning, so a left hand's coefficients go through the right hand's.
        """
        wrist, fingers = np.asarray(pose[:3], float), np.asarray(pose[3:], float)
        turn = np.tile(-MIRROR_SIGNS if is_left else np.ones(3), 15)
        if self.components:
            fingers = fingers[: self.components] @ self.hand.hands_components[: self.components] * turn
        fingers = fingers + (0 if self.flat else self.hand.hands_mean * turn)
        return np.concatenate([wrist, fingers]).reshape(16, 3)

    def mesh(
        self,
        pose: Float[np.ndarray, "16 3"],
        shape: Float[np.ndarray, "10"],
        translation: Float[np.ndarray, "3"],
        is_left: bool = False,
        camera_from_world: Float[np.ndarray, "3 4"] | None = None,
    ) -> tuple[Float[np.ndarray, "778 3"], Float[np.ndarray, "21 3"], Float[np.ndarray, "16 3"]]:
        """Vertices and joints in camera axes (m), and the pose with its wrist turned into them.

        The hand turns about its own rest wrist and is then moved by `translation`, as in manopth and smplx.
        """
        mirror = MIRROR_SIGNS if is_left else np.ones(3)
        right = pose * (-MIRROR_SIGNS if is_left else 1)
        vertices, joints = (
            t[0].numpy() * mirror + translation for t in _layer(self.hand)(_row(right.reshape(-1)), _row(shape))
        )
        if camera_from_world is None:
            return vertices, joints, pose
        rotation, shift = camera_from_world[:, :3], camera_from_world[:, 3]
        wrist = rotation @ axis_angle_to_matrix(torch.from_numpy(np.array(pose[0]))).numpy()
        turned = pose.copy()
        turned[0] = matrix_to_axis_angle(torch.from_numpy(wrist)).numpy()
        return vertices @ rotation.T + shift, joints @ rotation.T + shift, turned


def _row(values: Float[np.ndarray, "n"]) -> torch.Tensor:
    return torch.from_numpy(np.array(values, np.float64))[None]


@lru_cache(maxsize=2)
def _layer(hand: Hand) -> ManoLayer:
    return ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand).double()
