"""Rotations: axis-angle, matrix, quaternion and the 6D form, with gradients that stay finite everywhere.

Conventions, which are PyTorch3D's: matrices act on column vectors (y = R x); an axis-angle vector points along the axis
and is as long as the angle in radians; a quaternion has its real part first and a real part >= 0; the 6D form (Zhou et
al., "On the Continuity of Rotation Representations in Neural Networks", CVPR 2019) is the first two ROWS of the matrix.
All functions take any batch shape, dtype and device.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_SMALL = 1e-4  # squared angle below which the series below are exact to machine precision


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Rodrigues' formula: R = I + sin(t)/t K + (1 - cos t)/t^2 K^2, with K the cross-product matrix; smooth at 0."""
    squared = (axis_angle * axis_angle).sum(-1, keepdim=True)[..., None]
    small = squared < _SMALL
    angle = torch.where(small, torch.ones_like(squared), squared).sqrt()
    a = torch.where(small, 1 - squared / 6 + squared**2 / 120, angle.sin() / angle)
    half = (angle / 2).sin() / angle
    b = torch.where(small, 0.5 - squared / 24 + squared**2 / 720, 2 * half * half)
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    return eye + a * cross_matrix(axis_angle) + b * (outer - squared * eye)


def cross_matrix(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The matrix K with K x = v x x (the cross product)."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def matrix_to_quaternion(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 4"]:
    """Unit quaternions, real part first and not negative.

    Four formulas give the quaternion, each times one of its own components; the largest component is safe to divide by.
    """
    m = matrix.flatten(-2)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = m.unbind(-1)
    squares = torch.stack([m00 + m11 + m22, m00 - m11 - m22, m11 - m00 - m22, m22 - m00 - m11], -1) + 1  # 4 q_i^2
    products = torch.stack(  # row i: 4 q_i (w, x, y, z)
        [
            torch.stack([squares[..., 0], m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, squares[..., 1], m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, squares[..., 2], m12 + m21], -1),
            torch.stack([m10 - m01, m20 + m02, m21 + m12, squares[..., 3]], -1),
        ],
        -2,
    )
    best = squares.argmax(-1, keepdim=True)
    row = products.gather(-2, best[..., None].expand(*best.shape, 4)).squeeze(-2)
    quaternion = row / (2 * squares.gather(-1, best).clamp_min(_SMALL).sqrt())
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_to_matrix(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3 3"]:
    """Matrices of quaternions of any length but zero, real part first."""
    w, v = quaternion[..., :1, None], quaternion[..., 1:]
    scale = 2 / (quaternion * quaternion).sum(-1, keepdim=True)[..., None]
    eye = torch.eye(3, dtype=v.dtype, device=v.device)
    outer = v[..., :, None] * v[..., None, :]
    return eye + scale * (w * cross_matrix(v) + outer - (v * v).sum(-1, keepdim=True)[..., None] * eye)


def quaternion_to_axis_angle(quaternion: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 3"]:
    """Axis-angle of unit quaternions, radians; smooth at the identity."""
    w, v = quaternion[..., :1], quaternion[..., 1:]
    squared = (v * v).sum(-1, keepdim=True)
    small = squared < _SMALL
    length = torch.where(small, torch.ones_like(squared), squared).sqrt()
    ratio = torch.where(small, squared, torch.zeros_like(squared)) / torch.where(small, w * w, torch.ones_like(w))
    series = (2 - 2 * ratio / 3 + 2 * ratio**2 / 5) / torch.where(
        small, w, torch.ones_like(w)
    )  # 2 atan(t)/t, t = |v|/w
    return v * torch.where(small, series, 2 * torch.atan2(length, w) / length)


def matrix_to_axis_angle(matrix: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b 3"]:
    """Axis-angle with an angle in [0, pi], by way of quaternions; gradients are finite at 0 and at pi."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def rotation_6d_to_matrix(rotation_6d: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 3 3"]:
    """Gram-Schmidt of two 3-vectors; they become the first two rows, their cross product the third."""
    first, second = rotation_6d[..., :3], rotation_6d[..., 3:]
    x = F.normalize(first, dim=-1)
    y = F.normalize(second - (x * second).sum(-1, keepdim=True) * x, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -2)
