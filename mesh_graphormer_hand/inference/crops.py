"""The third stage of the predictor: a square of the photo for each detection, cut out as the network wants it.

A square is (centre x, centre y, side) in px of the photo. Left hands are mirrored, since networks know right hands.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..config import CropSpec
from ..data.images import cut_view, to_tensor
from ..geometry.crops import box_to_square, compose_affine, crop_affine, mirror_affine, tight_box
from ..geometry.viewing import photo_from_crop
from .detectors.base import Detection, Side

RECROP_SIDE = (0.12, 1.6)  # least and largest side of a second crop over that of the first one


def square_of(detection: Detection, crop: CropSpec) -> Float[Tensor, "3"]:
    """The square of a detection, which may reach out of the photo; a proposal's is the box itself."""
    if detection.is_proposal:
        x0, y0, x1, y1 = detection.box.tolist()
        return torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, max(x1 - x0, y1 - y0)])
    centre, side = box_to_square(torch.from_numpy(np.asarray(detection.box, np.float32)), crop.over("box"))
    return torch.cat([centre, side[None]])


def square_around_joints(
    joints: Float[Tensor, "21 2"], first: Float[Tensor, "3"], crop: CropSpec
) -> Float[Tensor, "3"] | None:
    """The square around joints (px of the photo) that were predicted in the square `first`; None: it is implausible."""
    centre, side = box_to_square(tight_box(joints), crop.over("keypoints"))
    low, high = RECROP_SIDE
    inside = ((centre - first[:2]).abs() < first[2] / 2).all()
    return torch.cat([centre, side[None]]) if inside and low * first[2] < side < high * first[2] else None


def place_crops(
    squares: Sequence[Float[Tensor, "3"]], sides: Sequence[Side], K: Float[np.ndarray, "3 3"], size: int
) -> Float[Tensor, "b 3 3"]:
    """photo_from_crop of each square: homographies from px of a crop of `size` px to px of the photo."""
    placed = []
    for square, side in zip(squares, sides, strict=True):
        placement = crop_affine(square[:2], square[2], size)
        if side == "left":
            placement = compose_affine(placement, mirror_affine(size, placement))
        placed.append(photo_from_crop(placement, torch.from_numpy(K), size))
    return torch.stack(placed)


def cut_crops(
    photo: UInt8[np.ndarray, "h w 3"], placed: Float[Tensor, "b 3 3"], size: int
) -> Float[Tensor, "b 3 size size"]:
    """The crops, RGB in [0, 1]."""
    return torch.stack([to_tensor(cut_view(photo, p, size)) for p in placed])
