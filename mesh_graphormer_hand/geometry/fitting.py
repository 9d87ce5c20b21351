"""Closed-form fits of cameras to correspondences."""

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_SPREAD = 1e-5  # m^2: keeps the fit finite for points that (still) lie in one place


def fit_weak_perspective(
    points: Float[Tensor, "b n 3"],
    uv: Float[Tensor, "b n 2"],
    weights: Float[Tensor, "b n"],
    scales: tuple[float, float] = (1.0, 60.0),
) -> Float[Tensor, "b 3"]:
    """The camera (s, tx, ty), crop = s (xy + t), that maps points (m, camera axes) to `uv` (crop units) best.

    Weighted least squares, with s (1/m) kept within `scales`. Differentiable in every argument.
    """
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    xy = points[..., :2]
    centre_xy, centre_uv = (share * xy).sum(-2), (share * uv).sum(-2)
    x, u = xy - centre_xy[..., None, :], uv - centre_uv[..., None, :]
    scale = (share * x * u).sum((-1, -2)) / ((share * x * x).sum((-1, -2)) + _LEAST_SPREAD)
    scale = scale.clamp(*scales)[..., None]
    return torch.cat([scale, centre_uv / scale - centre_xy], -1)
