"""The labels of a renderer under augmentation: parts, normals, visible shares and light move with their picture."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import PARTS, HandTargets

IN_FRONT = PARTS.index("in front")
MIRRORED = (1.0, 1, 1, -1, -1, 1, 1, -1, 1)  # signs of the harmonics 1, y, z, x, xy, yz, zz, xz, xx - yy under x -> -x


def moved(
    targets: HandTargets,
    turn: Float[Tensor, "b 3 3"],
    sample: Callable[[Tensor], Tensor],
    inside: Bool[Tensor, "b 21"] | None,
) -> dict[str, Tensor]:
    """After a turn about the viewing axis; `sample` moves images (b c h w), `inside`: joints still in the picture."""
    out: dict[str, Tensor] = {}
    if targets.parts is not None:
        out["parts"] = sample(targets.parts[:, None].to(turn.dtype))[:, 0].round().to(torch.uint8)
    if targets.normals is not None:
        normals = sample(targets.normals)
        out["normals"] = (turn @ normals.flatten(2)).view_as(normals)
    if targets.joints_share is not None and inside is not None:
        out["joints_share"] = targets.joints_share * inside
    if targets.light_direction is not None:
        out["light_direction"] = (turn @ targets.light_direction[..., None])[..., 0]
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
    """Radiance in axes turned about z: pairs of coefficients of order m turn by m times the angle."""
    cos, sin = turn[:, 0, 0, None], turn[:, 1, 0, None]
    out = sh.clone()
    for x, y, c, s in ((3, 1, cos, sin), (7, 5, cos, sin), (8, 4, cos * cos - sin * sin, 2 * sin * cos)):
        out[:, x], out[:, y] = c * sh[:, x] - s * sh[:, y], s * sh[:, x] + c * sh[:, y]
    return out
