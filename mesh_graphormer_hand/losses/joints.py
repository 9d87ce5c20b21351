"""Terms of the joints: 3D errors in metres (L1) or square metres (MSE), 2D errors in crop units (it is [-1, 1]).

Each term takes (prediction, targets, context), gives one value per sample and is 0 without gradient where nothing is
labelled. Means run over the labelled joints and the coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.masked import masked_mean
from ..skeleton import WRIST
from .common import Context, in_hand_frame, same_joints, same_mesh, wrist_rotation


def joints(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joints that count, each set minus its own wrist."""
    return _joints(p, t, p.joints, torch.square)


def joints_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joints that count, each set minus its own wrist."""
    return _joints(p, t, p.joints, torch.abs)


def joints_token(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joint queries' joints, each set minus its own wrist."""
    return _joints(p, t, p.joints_token, torch.square)


def joints_token_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' joints, each set minus its own wrist."""
    return _joints(p, t, p.joints_token, torch.abs)


def joints_2d(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the 2D joints, in crop units."""
    return _joints_2d(t, p.joints_2d, torch.square)


def joints_2d_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the 2D joints, in crop units."""
    return _joints_2d(t, p.joints_2d, torch.abs)


def joints_token_2d(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joint queries' projected joints, in crop units."""
    return _joints_2d(t, p.joints_token_2d, torch.square)


def joints_token_2d_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' projected joints, in crop units."""
    return _joints_2d(t, p.joints_token_2d, torch.abs)


def joints_local_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joints that count in the hand's own frame, each set minus its own wrist."""
    return _joints_local(p, t, p.joints)


def joints_token_local_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' joints in the hand's own frame, each set minus its own wrist."""
    return _joints_local(p, t, p.joints_token)


def _joints(
    p: HandPrediction, t: HandTargets, predicted: Float[Tensor, "b 21 3"], power: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b"]:
    # Targets are relative to their wrist already; where the wrist has no label its entry is 0 and changes nothing.
    wrist = [points[..., WRIST : WRIST + 1, :] for points in (predicted, t.joints)]
    error = power((predicted - wrist[0]) - (t.joints - wrist[1])).mean(-1)  # b 21
    return masked_mean(error, _rows(t.joints_valid, same_joints(p, t)))


def _joints_2d(
    t: HandTargets, predicted: Float[Tensor, "b 21 2"], power: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b"]:
    units_per_px = 2.0 / t.crop_size[..., None, None]
    valid = t.joints_2d_valid if t.shows_left is None else t.joints_2d_valid & ~t.shows_left[:, None]  # no right hand's
    return masked_mean(power((predicted - t.joints_2d) * units_per_px).mean(-1), valid)


def _joints_local(p: HandPrediction, t: HandTargets, predicted: Float[Tensor, "b 21 3"]) -> Float[Tensor, "b"]:
    labelled = t.joints_valid & (t.mano_valid & same_mesh(p, t))[:, None]
    local = replace(t, joints=in_hand_frame(t.joints, wrist_rotation(t)), joints_valid=labelled)
    return _joints(p, local, in_hand_frame(predicted, p.rotation), torch.abs)


def _rows(valid: Bool[Tensor, "b n"], samples: Bool[Tensor, "b"] | bool) -> Bool[Tensor, "b n"]:
    return valid & samples[..., None] if isinstance(samples, Tensor) else valid
