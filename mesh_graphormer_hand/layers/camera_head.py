"""Weak-perspective cameras that a network regresses as three numbers, and what they show of joints."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.cameras import crop_to_pixels, weak_perspective

MEAN_SCALE = 6.0  # 1/m: a hand of 0.19 m on about half of the crop
UNIT = 0.1  # m, of the shift


def camera_from(numbers: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    """Three unbounded numbers -> the camera (s, tx, ty): s is 6 per metre at 0 and always above 0."""
    scale = MEAN_SCALE * torch.exp(numbers[:, :1].clamp(-3, 3))
    return torch.cat([scale, UNIT * numbers[:, 1:]], -1)


def project(joints: Float[Tensor, "b n 3"], camera: Float[Tensor, "b 3"], side: float) -> Float[Tensor, "b n 2"]:
    """Px of a crop of `side` px of points (m, camera axes)."""
    return crop_to_pixels(weak_perspective(joints, camera), side)


def at_least_float32(values: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Half precision in float32, the rest as it is: metres and pixels need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
