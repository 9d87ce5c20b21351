"""Terms of a parametric hand's own numbers: finger rotations and shape.

Each term takes (prediction, targets, context), gives one value per sample and is 0 without gradient where nothing is
labelled. The two priors need no label.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.masked import masked
from ..geometry.rotations import axis_angle_to_matrix
from .common import Context, same_mesh


def pose(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """1 - cos(angle) between predicted and labelled rotations, mean over the 15 finger joints (the wrist's is the term
    `rotation`). Of the same hand only: another's joints have other axes at rest."""
    apart = axis_angle_to_matrix(p.pose[:, 1:]) - axis_angle_to_matrix(t.pose[:, 1:])
    return masked(apart.square().sum((-1, -2)).mean(-1) / 4, t.mano_valid & same_mesh(p, t))


def shape(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the shape coefficients, in squared standard deviations; of the same hand only."""
    return masked((p.shape - t.shape).square().mean(-1), t.mano_valid & same_mesh(p, t))


def pose_prior(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Squared norm of the finger rotations, rad^2 (Boukhayma et al., CVPR 2019)."""
    return p.pose[:, 1:].square().sum((-1, -2))


def shape_prior(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Squared norm of the shape coefficients (Boukhayma et al., CVPR 2019)."""
    return p.shape.square().sum(-1)
