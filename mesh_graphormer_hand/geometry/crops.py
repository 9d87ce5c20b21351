"""Square crops as 2x3 affine maps: where a crop's pixels lie in the photo, and back.

An affine `a_from_b` (*b, 2, 3) takes points of frame b to frame a: `p_a = A[:, :2] p_b + A[:, 2]`. All pixels are
measured from the image's top-left corner (see `contracts`), so a mirrored crop of side `size` is `x -> size - x`.

    image_from_crop = crop_affine(centre, side, size=224, angle=0.3)
    crop_from_image = invert_affine(image_from_crop)
    joints_photo = apply_affine(joints_crop, image_from_crop)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def crop_affine(
    centre: Float[Tensor, "*b 2"], side: Float[Tensor, "*b"], size: int, angle: Float[Tensor, "*b"] | float = 0.0
) -> Float[Tensor, "*b 2 3"]:
    """image_from_crop of the square crop around `centre` (px of the image) with `side` (px), shown in `size` x `size`.

    With `angle` (radians) the image's content appears turned by that angle in the crop: from x towards y, which on the
    screen is clockwise.
    """
    angle = torch.as_tensor(angle, dtype=centre.dtype, device=centre.device).expand(side.shape)
    cos, sin = torch.cos(angle) * side / size, torch.sin(angle) * side / size
    linear = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    middle = linear.new_full((2,), size / 2)
    return torch.cat([linear, (centre - linear @ middle)[..., None]], -1)


def box_to_square(box: Float[Tensor, "*b 4"], scale: float = 1.0) -> tuple[Float[Tensor, "*b 2"], Float[Tensor, "*b"]]:
    """Centre and side (px) of the square around the boxes x0, y0, x1, y1: their longer side times `scale`."""
    low, high = box[..., :2], box[..., 2:]
    return (low + high) / 2, (high - low).amax(-1) * scale


def tight_box(points: Float[Tensor, "*b n 2"]) -> Float[Tensor, "*b 4"]:
    """The smallest upright box x0, y0, x1, y1 around the points."""
    return torch.cat([points.amin(-2), points.amax(-2)], -1)


def apply_affine(points: Float[Tensor, "*#b n 2"], affine: Float[Tensor, "*#b 2 3"]) -> Float[Tensor, "*#b n 2"]:
    """The points in the other frame."""
    return points @ affine[..., :2].transpose(-1, -2) + affine[..., None, :, 2]


def invert_affine(affine: Float[Tensor, "*b 2 3"]) -> Float[Tensor, "*b 2 3"]:
    """b_from_a of a_from_b, in closed form (a 2x2 inverse needs no solver)."""
    (a, b), (c, d) = affine[..., 0, :2].unbind(-1), affine[..., 1, :2].unbind(-1)
    linear = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2) / (a * d - b * c)[..., None, None]
    return torch.cat([linear, -linear @ affine[..., 2:]], -1)


def compose_affine(first: Float[Tensor, "*#b 2 3"], second: Float[Tensor, "*#b 2 3"]) -> Float[Tensor, "*#b 2 3"]:
    """a_from_c of a_from_b (`first`) and b_from_c (`second`)."""
    linear = first[..., :2]
    return torch.cat([linear @ second[..., :2], linear @ second[..., 2:] + first[..., 2:]], -1)


def mirror_affine(size: int, like: Tensor) -> Float[Tensor, "2 3"]:
    """The map x -> size - x, its own inverse, with the type and device of `like`."""
    return torch.tensor([[-1.0, 0.0, size], [0.0, 1.0, 0.0]], dtype=like.dtype, device=like.device)


def homogeneous(affine: Float[Tensor, "*b 2 3"]) -> Float[Tensor, "*b 3 3"]:
    """The same map as a 3x3 matrix, to multiply intrinsics with: K_crop = homogeneous(crop_from_image) @ K."""
    row = affine.new_tensor([0.0, 0.0, 1.0]).expand(*affine.shape[:-2], 1, 3)
    return torch.cat([affine, row], -2)


def apply_homography(points: Float[Tensor, "*#b n 2"], matrix: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*#b n 2"]:
    """The points in the other frame, of a map between two pictures that one camera took, turned in between."""
    moved = points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]
    return moved[..., :2] / moved[..., 2:]


def linearised(matrix: Float[Tensor, "*b 3 3"], at: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b 2 3"]:
    """The affine map that is nearest to a homography round the point `at`."""
    there = apply_homography(at[..., None, :], matrix)[..., 0, :]
    depth = (matrix[..., 2, :2] * at).sum(-1) + matrix[..., 2, 2]
    linear = (matrix[..., :2, :2] - there[..., None] * matrix[..., 2:, :2]) / depth[..., None, None]
    return torch.cat([linear, (there - (linear @ at[..., None])[..., 0])[..., None]], -1)
