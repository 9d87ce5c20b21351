"""Labels in the axes of their crop's own camera (geometry/viewing.py), which is all that a network can see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandBatch
from ..geometry.crops import homogeneous
from ..geometry.viewing import camera_from_crop, split_intrinsics, turn_points, viewing_rays
from . import labels


def look_along_crops(batch: HandBatch) -> HandBatch:
    """Turn labels and intrinsics into the axes of a camera that looks at the crop's centre: K' = K R, targets' = R^T
    targets. A second call changes nothing. Samples without intrinsics keep their axes."""
    inputs, targets = batch.inputs, batch.targets
    if inputs.image is None or inputs.intrinsics is None:
        return batch
    size = inputs.image.shape[-1]
    known = inputs.intrinsics_valid
    eye = torch.eye(3, dtype=inputs.intrinsics.dtype, device=inputs.intrinsics.device)
    k = inputs.intrinsics if known is None else torch.where(known[:, None, None], inputs.intrinsics, eye)
    old_from_new = camera_from_crop(k, k.new_full((len(k), 2), size / 2))
    if known is not None:
        old_from_new = torch.where(known[:, None, None], old_from_new, eye)
    turn = old_from_new.transpose(-1, -2)
    changed: dict[str, Any] = {"intrinsics": inputs.intrinsics @ old_from_new}
    if inputs.depth is not None:
        changed["depth"] = inputs.depth * _depth_ratio(k, turn, size)[:, None]
    turned = labels.turn(targets, turn)
    if targets.depth is not None:
        turned["depth"] = targets.depth * _depth_ratio(k, turn, size)
    return replace(batch, inputs=replace(inputs, **changed), targets=replace(targets, **turned))


def photo_cameras(batch: HandBatch) -> tuple[Float[Tensor, "b 3 3"], Float[Tensor, "b 3 3"], Bool[Tensor, "b"]]:
    """The cameras of the photos that the crops come from.

    Returns:
        K of each photo (px); photo camera axes from crop axes, which also mirrors left hands back; whether the camera
        is known. Where it is not, K is the identity and the axes only undo the mirror.
    """
    inputs, left = batch.inputs, batch.targets.is_left
    count, device = len(batch), inputs.image.device
    mirror = torch.eye(3, device=device).repeat(count, 1, 1)
    if left is not None:
        mirror[left, 0, 0] = -1.0
    eye = torch.eye(3, dtype=torch.float64, device=device).expand(count, 3, 3)
    if inputs.intrinsics is None:
        return eye.float(), mirror, torch.zeros(count, dtype=torch.bool, device=device)
    known = inputs.intrinsics_valid
    known = torch.ones(count, dtype=torch.bool, device=device) if known is None else known
    turned = inputs.intrinsics.double()
    if batch.image_from_crop is not None:
        turned = homogeneous(batch.image_from_crop.double()) @ turned
    k, camera_from_crop = split_intrinsics(torch.where(known[:, None, None], turned, eye))
    # a crop that is its own photo was mirrored before it came here
    mirrored = (torch.linalg.det(camera_from_crop) < 0)[:, None, None]
    axes = torch.where(mirrored, camera_from_crop, mirror.double() @ camera_from_crop)
    return k.float(), axes.float(), known


def _depth_ratio(intrinsics: Float[Tensor, "b 3 3"], turn: Float[Tensor, "b 3 3"], size: int) -> Float[Tensor, "b h w"]:
    """z in the new axes / z in the old ones, of what each pixel shows."""
    centres = torch.arange(size, dtype=turn.dtype, device=turn.device) + 0.5
    pixels = torch.stack([centres.expand(size, size), centres[:, None].expand(size, size)], -1).flatten(0, 1)
    rays = viewing_rays(intrinsics, pixels.expand(len(turn), -1, -1))
    return (turn_points(rays, turn)[..., 2] / rays[..., 2]).unflatten(-1, (size, size))
