"""The axes of a crop: those of the camera that stands where the photo's does and looks at the crop's centre.

A hand looks alike wherever it stands in a photo when it is turned with its viewing ray, so a network that sees a crop
only can but answer in the axes of the crop's own camera. With K the photo's intrinsics and c the crop's centre (px),

    r = K^-1 (c, 1) / |K^-1 (c, 1)|        v = z x r = (-r_y, r_x, 0)        [v] w = v x w

    R = I + [v] + [v] [v] / (1 + r_z)      the least rotation with R z = r: camera from crop

A point X of the crop's camera is R X before the photo's; a label Y of the photo's is R^T Y in the crop and is projected
by K R, since K R (R^T Y) = K Y. The rotation of a wrist turns likewise. `split_intrinsics` takes K R apart again.

A square cut out of the photo is not quite what the crop's camera sees: off the axis by an angle t, a photo is stretched
by 1 / cos t along the way outwards. `photo_from_crop` has the crop's own picture instead where that is much.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .crops import apply_affine, homogeneous
from .rotations import cross_matrix

WIDE = 20.0  # degrees off the axis from which a crop is its own camera's picture: there a hand is stretched by 6 %


def viewing_rays(intrinsics: Float[Tensor, "*b 3 3"], pixels: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b n 3"]:
    """Unit vectors towards `pixels`, in the axes that `intrinsics` (K, or K R) projects from.

    (K^-1 by cross products of its rows: no solver, and a row of a batch has the same bits alone.)
    """
    rows = intrinsics.unbind(-2)
    x, y, one = (torch.linalg.cross(rows[i - 2], rows[i - 1])[..., None, :] for i in range(3))
    rays = pixels[..., :1] * x + pixels[..., 1:] * y + one
    return rays / torch.linalg.vector_norm(rays, dim=-1, keepdim=True)


def camera_from_crop(intrinsics: Float[Tensor, "*b 3 3"], centre: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 3 3"]:
    """R of the module: what turns points and directions of the crop with this `centre` (px of the image of
    `intrinsics`) into the camera's axes; its inverse is its transpose."""
    ray = viewing_rays(intrinsics, centre[..., None, :])[..., 0, :]
    x, y, z = ray.unbind(-1)
    v = cross_matrix(torch.stack([-y, x, torch.zeros_like(z)], -1))
    eye = torch.eye(3, dtype=ray.dtype, device=ray.device)
    return eye + v + v @ v / (1 + z)[..., None, None]


def photo_from_crop(place: Float[Tensor, "2 3"], intrinsics: Float[Tensor, "3 3"], size: int) -> Float[Tensor, "3 3"]:
    """px of the photo from px of the crop that a network is shown: `place` (image_from_crop of `size` px, which is not
    turned), or further than WIDE off the axis the homography K R G of the crop's own camera, whose focal length keeps
    the area of what lies at the centre."""
    dtype, place, intrinsics = place.dtype, place.double(), intrinsics.double()
    middle = place.new_full((1, 2), size / 2)
    centre = apply_affine(middle, place)[0]
    turn = camera_from_crop(intrinsics, centre)
    view = intrinsics @ turn  # px of the photo from (x / z, y / z) of the crop's camera
    if turn[2, 2] > math.cos(math.radians(WIDE)):
        return homogeneous(place).to(dtype)
    slope = (view[:2, :2] - centre[:, None] * view[2:, :2]) / view[2, 2]
    step = place[:, :2] / torch.linalg.det(slope).abs().sqrt()
    matrix = view @ homogeneous(torch.cat([step, -step @ middle.T], 1))
    return (matrix / matrix[2, 2]).to(dtype)


def split_intrinsics(turned: Float[Tensor, "*b 3 3"]) -> tuple[Float[Tensor, "*b 3 3"], Float[Tensor, "*b 3 3"]]:
    """K (upper triangular, diagonal above 0, last entry 1) and the orthogonal R of turned = K R: Gram-Schmidt from the
    last row upwards (RQ). R mirrors where `turned` does."""
    first, second, third = turned.unbind(-2)
    z = third / torch.linalg.vector_norm(third, dim=-1, keepdim=True)
    y = second - (second * z).sum(-1, keepdim=True) * z
    y = y / torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    x = first - (first * z).sum(-1, keepdim=True) * z - (first * y).sum(-1, keepdim=True) * y
    x = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    rotation = torch.stack([x, y, z], -2)
    k = (turned @ rotation.transpose(-1, -2)).triu()
    return k / k[..., 2:, 2:], rotation


def turn_points(points: Float[Tensor, "*b n 3"], turn: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b n 3"]:
    """turn p of every point, summed in the same order whatever the batch."""
    return (points[..., None, :] * turn[..., None, :, :]).sum(-1)
