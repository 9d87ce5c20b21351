"""Labels that follow their picture: turned, moved, mirrored and covered by the rule of their kind (contracts.Kind)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import LABELS, HandTargets, Kind
from ..geometry.crops import apply_affine, mirror_affine
from ..geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from ..geometry.viewing import turn_points

# signs under x -> -x
MIRROR_SIGNS_OF_KIND = {Kind.VECTORS: (-1.0, 1.0, 1.0), Kind.POSE: (1.0, -1.0, -1.0)}
MIRRORED_HARMONICS = (1.0, 1, 1, -1, -1, 1, 1, -1, 1)  # 1, y, z, x, xy, yz, zz, xz, xx - yy
Sampler = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b c h w"]]


def known_labels(targets: HandTargets, *kinds: Kind) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the labels of these kinds that the batch has."""
    for name, label in LABELS.items():
        if label.kind in kinds and (value := getattr(targets, name)) is not None:
            yield name, value


def turn(targets: HandTargets, new_from_old: Float[Tensor, "b 3 3"]) -> dict[str, Tensor]:
    """The labels that change when the camera axes turn."""
    turned: dict[str, Tensor] = {}
    for name, vectors in known_labels(targets, Kind.VECTORS):
        points = turn_points(vectors if vectors.ndim > 2 else vectors[:, None], new_from_old)
        turned[name] = points if vectors.ndim > 2 else points[:, 0]
    for name, pose in known_labels(targets, Kind.POSE):
        wrist = matrix_to_axis_angle(new_from_old[:, None] @ axis_angle_to_matrix(pose[:, :1]))
        if (valid := getattr(targets, LABELS[name].mask)) is not None:
            wrist = torch.where(valid[:, None, None], wrist, pose[:, :1])
        turned[name] = torch.cat([wrist, pose[:, 1:]], 1)
    columns = new_from_old[:, :, :, None, None].unbind(2)
    for name, image in known_labels(targets, Kind.VECTOR_IMAGE):
        turned[name] = sum(c * v[:, None] for c, v in zip(columns, image.unbind(1), strict=True))
    for name, harmonics in known_labels(targets, Kind.HARMONICS):
        turned[name] = turn_harmonics(harmonics, new_from_old)
    return turned


def move(targets: HandTargets, new_from_old: Float[Tensor, "b 2 3"], sample: Sampler, size: int) -> dict[str, Tensor]:
    """The labels that change when the picture moves by an affine map of its pixels.

    Args:
        sample: moves images.
        size: px, side of the picture.
    """
    moved = {name: apply_affine(points, new_from_old) for name, points in known_labels(targets, Kind.PIXELS)}
    if "joints_2d" in moved:
        inside = ((moved["joints_2d"] >= 0) & (moved["joints_2d"] < size)).all(-1)
        moved |= {name: visible.masked_fill(~inside, 0) for name, visible in known_labels(targets, Kind.VISIBILITY)}
    for name, image in known_labels(targets, Kind.IMAGE, Kind.VECTOR_IMAGE):
        channels = image if image.ndim > 3 else image[:, None]
        values = sample(channels.to(new_from_old.dtype))
        moved[name] = _as_dtype(values if image.ndim > 3 else values[:, 0], image.dtype)
    return moved


def mirror(targets: HandTargets, size: int) -> dict[str, Tensor]:
    """The labels that change in a mirror, x -> -x or px -> `size` - px."""
    mirrored: dict[str, Tensor] = {}
    for kind, signs in MIRROR_SIGNS_OF_KIND.items():
        mirrored |= {name: value * value.new_tensor(signs) for name, value in known_labels(targets, kind)}
    for name, points in known_labels(targets, Kind.PIXELS):
        mirrored[name] = apply_affine(points, mirror_affine(size, points))
    for name, boxes in known_labels(targets, Kind.BOXES):
        x0, y0, x1, y1 = boxes.unbind(-1)
        mirrored[name] = torch.stack([size - x1, y0, size - x0, y1], -1)
    mirrored |= {name: ~side for name, side in known_labels(targets, Kind.SIDE)}
    mirrored |= {name: image.flip(-1) for name, image in known_labels(targets, Kind.IMAGE, Kind.VECTOR_IMAGE)}
    for name, _ in known_labels(targets, Kind.VECTOR_IMAGE):
        mirrored[name] = mirrored[name] * mirrored[name].new_tensor(MIRROR_SIGNS_OF_KIND[Kind.VECTORS])[:, None, None]
    for name, harmonics in known_labels(targets, Kind.HARMONICS):
        mirrored[name] = harmonics * harmonics.new_tensor(MIRRORED_HARMONICS)[:, None]
    return mirrored


def cover(
    targets: HandTargets, pixels: Bool[Tensor, "b h w"], joints: Bool[Tensor, "b 21"] | None
) -> dict[str, Tensor]:
    """The labels that change when something new stands in front of `pixels` and of some `joints`."""
    covered = {
        name: image.masked_fill(pixels if image.ndim == 3 else pixels[:, None], LABELS[name].covered)
        for name, image in known_labels(targets, Kind.IMAGE, Kind.VECTOR_IMAGE)
    }
    if joints is not None:
        covered |= {name: seen.masked_fill(joints, 0) for name, seen in known_labels(targets, Kind.VISIBILITY)}
    return covered


def hide(targets: HandTargets, masks: Collection[str], rows: Bool[Tensor, "b"]) -> dict[str, Tensor]:
    """The named masks with False in some rows."""
    known = {name: mask for name in masks if (mask := getattr(targets, name)) is not None}
    return {name: mask & ~rows.view(-1, *[1] * (mask.ndim - 1)) for name, mask in known.items()}


def turn_harmonics(sh: Float[Tensor, "b 9 3"], turn: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 9 3"]:
    """Radiance in turned axes: order 1 turns as a vector, order 2 as the symmetric matrix of its quadratic form."""
    _, y, z, x, xy, yz, zz, xz, xx = sh.unbind(1)  # b 3 each
    vector = turn_points(torch.stack([x, y, z], -1), turn)
    form = torch.stack([xx - zz / 3**0.5, xy, xz, xy, -xx - zz / 3**0.5, yz, xz, yz, 2 * zz / 3**0.5], -1)
    form = turn[:, None] @ form.unflatten(-1, (3, 3)) @ turn[:, None].transpose(-1, -2)  # b colour 3 3
    (a, xy, xz), (_, b, yz), (_, _, c) = (row.unbind(-1) for row in form.unbind(-2))
    x, y, z = vector.unbind(-1)
    return torch.stack([sh[:, 0], y, z, x, xy, yz, c * 3**0.5 / 2, xz, (a - b) / 2], 1)


def _as_dtype(values: Float[Tensor, "*s"], dtype: torch.dtype) -> Tensor:
    if dtype == torch.bool:
        return values > 0.5
    return values if dtype.is_floating_point else values.round().to(dtype)
