"""Closed-form fits of cameras and similarities to correspondences."""

import torch
from jaxtyping import Float
from torch import Tensor

from .rotations import quaternion_to_matrix

_LEAST_SPREAD = 1e-6  # m^2: keeps the fit finite for points that (still) lie in one place
_SQUARINGS = 12  # power iteration by squaring: 2^12 steps
_IN_RANGE = 3  # squarings that leave a matrix of trace 1 far from underflow: its largest entry is 4^-8 or more


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


def fit_similarity(
    source: Float[Tensor, "b n 3"],
    target: Float[Tensor, "b n 3"],
    weights: Float[Tensor, "b n"],
    scales: tuple[float, float] = (1.0, 60.0),
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b 3 3"], Float[Tensor, "b 3"]]:
    """Scale, proper rotation and translation that bring `source` to `target`: target = scale rotation source + t.

    Weighted least squares (Horn 1987: the rotation's quaternion is the largest eigenvector of a 4 x 4 matrix, found
    here by repeated squaring, which unlike an eigensolver exists on every device and in every exported format). The
    scale is kept within `scales`. The rotation passes no gradient on: it has none where points lie in one place.
    """
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    source_mean, target_mean = (share * source).sum(-2), (share * target).sum(-2)
    x, y = source - source_mean[:, None], target - target_mean[:, None]
    rotation = _largest_rotation(((share * x).transpose(-1, -2) @ y).detach())
    turned = x @ rotation.transpose(-1, -2)
    scale = (share * turned * y).sum((-1, -2)) / ((share * x * x).sum((-1, -2)) + _LEAST_SPREAD)
    scale = scale.clamp(*scales)
    return scale, rotation, target_mean - scale[:, None] * (rotation @ source_mean[..., None])[..., 0]


def _largest_rotation(covariance: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """The rotation R that maximises trace(R covariance), covariance = sum of x y^T."""
    s = covariance
    trace = _diagonal(s).sum(-1)
    twist = torch.stack([s[:, 1, 2] - s[:, 2, 1], s[:, 2, 0] - s[:, 0, 2], s[:, 0, 1] - s[:, 1, 0]], -1)
    one = torch.eye(3, dtype=s.dtype, device=s.device)
    top = torch.cat([trace[:, None], twist], -1)[:, None]
    below = torch.cat([twist[..., None], s + s.transpose(-1, -2) - trace[:, None, None] * one], -1)
    matrix = torch.cat([top, below], 1)
    size = matrix.square().sum((-1, -2), keepdim=True).sqrt() + 1e-20
    matrix = matrix / size + torch.eye(4, dtype=s.dtype, device=s.device)  # eigenvalues in [0, 2]
    for step in range(_SQUARINGS):
        if step % _IN_RANGE == 0:
            matrix = matrix / _diagonal(matrix).sum(-1)[:, None, None]
        matrix = matrix @ matrix
    largest = _diagonal(matrix).argmax(-1)
    column = matrix.gather(-1, largest[:, None, None].expand(-1, 4, 1))[..., 0]
    return quaternion_to_matrix(column / column.square().sum(-1, keepdim=True).sqrt())


def _diagonal(matrix: Float[Tensor, "b n n"]) -> Float[Tensor, "b n"]:
    """As `matrix.diagonal`, which in exported formats becomes a dozen operators."""
    return matrix.flatten(1)[:, :: matrix.shape[-1] + 1]
