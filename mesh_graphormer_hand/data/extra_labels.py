"""The labels of a renderer under augmentation: parts, normals, visible shares and light move with their picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import PARTS, HandTargets
from ..geometry.viewing import turn_points

IN_FRONT = PARTS.index("in front")
MIRRORED = (1.0, 1, 1, -1, -1, 1, 1, -1, 1)  # signs of the harmonics 1, y, z, x, xy, yz, zz, xz, xx - yy under x -> -x


def moved(
    targets: HandTargets, sample: Callable[[Tensor], Tensor], inside: Bool[Tensor, "b 21"] | None
) -> dict[str, Tensor]:
    """Where they lie in a moved picture; `sample` moves images (b c h w), `inside`: joints still in the picture."""
    out: dict[str, Tensor] = {}
    if targets.parts is not None:
        out["parts"] = sample(targets.parts[:, None].float())[:, 0].round().to(torch.uint8)
    if targets.normals is not None:
        out["normals"] = sample(targets.normals)
    if targets.joints_share is not None and inside is not None:
        out["joints_share"] = targets.joints_share * inside
    return out


def turned(targets: HandTargets, turn: Float[Tensor, "b 3 3"]) -> dict[str, Tensor]:
    """In turned axes: new from old ones."""
    out: dict[str, Tensor] = {}
    if targets.normals is not None:
        x, y, z = targets.normals.unbind(1)
        columns = turn[:, :, :, None, None].unbind(2)
        out["normals"] = sum(c * v[:, None] for c, v in zip(columns, (x, y, z), strict=True))
    if targets.light_direction is not None:
        out["light_direction"] = turn_points(targets.light_direction[:, None], turn)[:, 0]
        out["light_sh"] = turn_harmonics(targets.light_sh, turn)
    return out


def mirrored(targets: HandTargets) -> dict[str, Tensor]:
    """In a mirror, x -> -x."""
    out: dict[str, Tensor] = {}
    if targets.parts is not None:
        out["parts"] = targets.parts.flip(-1)
    if targets.normals is not None:
        out["normals"] = targets.normals.flip(-1) * targets.normals.new_tensor([-1.0, 1, 1])[:, None, None]
    if targets.light_direction is not None:
        out["light_direction"] = targets.light_direction * targets.light_direction.new_tensor([-1.0, 1, 1])
        out["light_sh"] = targets.light_sh * targets.light_sh.new_tensor(MIRRORED)[:, None]
    return out


def covered(
    targets: HandTargets, under: Bool[Tensor, "b h w"], joints: Bool[Tensor, "b 21"] | None
) -> dict[str, Tensor]:
    """With something in front of the pixels `under` and of some `joints`."""
    out: dict[str, Tensor] = {}
    if targets.parts is not None:
        out["parts"] = targets.parts.masked_fill(under, IN_FRONT)
    if targets.normals is not None:
        out["normals"] = targets.normals.masked_fill(under[:, None], 0.0)
    if targets.joints_share is not None and joints is not None:
        out["joints_share"] = targets.joints_share.masked_fill(joints, 0.0)
    return out


def turn_harmonics(sh: Float[Tensor, "b 9 3"], turn: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 9 3"]:
    """Radiance in turned axes: order 1 turns as a vector, order 2 as the symmetric matrix of its quadratic form."""
    _, y, z, x, xy, yz, zz, xz, xx = sh.unbind(1)  # b 3 each
    vector = turn_points(torch.stack([x, y, z], -1), turn)
    form = torch.stack([xx - zz / 3**0.5, xy, xz, xy, -xx - zz / 3**0.5, yz, xz, yz, 2 * zz / 3**0.5], -1)
    form = turn[:, None] @ form.unflatten(-1, (3, 3)) @ turn[:, None].transpose(-1, -2)  # b colour 3 3
    (a, xy, xz), (_, b, yz), (_, _, c) = (row.unbind(-1) for row in form.unbind(-2))
    x, y, z = vector.unbind(-1)
    return torch.stack([sh[:, 0], y, z, x, xy, yz, c * 3**0.5 / 2, xz, (a - b) / 2], 1)
