"""Points on a hand's skin moved by where its 21 joints are: skinning from positions alone.

A joint's position says how its bone points, not how it turns about itself. Down a finger each bone turns as its parent
does and then by the smallest rotation that makes it point to its joint, so that no bone turns by more than its own
joint's bend; the bones of the palm do not turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..skeleton import FINGERS, PARENTS
from .rotations import cross_matrix

REACH = 0.006  # m: how fast a bone's hold falls off with the distance from it
_CHAIN = len(PARENTS) // len(FINGERS)  # bones of a finger, the palm's first
_CHILDREN, _OWNERS = [j for j, p in enumerate(PARENTS) if p >= 0], [p for p in PARENTS if p >= 0]
_LEAST_COSINE = -0.95  # bones that point straight back have no smallest rotation


@dataclass(frozen=True)
class Binding:
    """How points hang on the 20 bones (to joint j of canonical order, j = 1 .. 20) of a hand at rest."""

    start: Float[Tensor, "n 20"]  # share of each bone's beginning
    along: Float[Tensor, "n 20"]  # share of each bone's vector
    offset: Float[Tensor, "n 60"]  # from each bone, by bone then xyz, m, times the bone's share
    bones: Float[Tensor, "20 3"]  # at rest, m


def bind(points: Float[Tensor, "n 3"], joints: Float[Tensor, "21 3"]) -> Binding:
    """Hang `points` (m) on the bones between `joints`, nearer bones holding more."""
    start, bones = joints[_OWNERS], joints[_CHILDREN] - joints[_OWNERS]
    to = points[:, None] - start
    place = ((to * bones).sum(-1) / bones.square().sum(-1)).clamp(0, 1)
    offset = to - place[..., None] * bones
    share = torch.softmax(-0.5 * offset.square().sum(-1) / REACH**2, -1)
    return Binding(share, share * place, (share[..., None] * offset).flatten(1), bones)


def pose(binding: Binding, joints: Float[Tensor, "b 21 3"]) -> Float[Tensor, "b n 3"]:
    """Where the bound points are when the joints are at `joints` (m, the palm as at rest)."""
    start, bones = joints[:, _OWNERS], joints[:, _CHILDREN] - joints[:, _OWNERS]
    turn = turns(binding.bones, bones)  # b 20 3 3
    turned = turn.permute(0, 2, 1, 3).flatten(2) @ binding.offset.T  # b 3 n
    return binding.start @ start + binding.along @ bones + turned.transpose(1, 2)


def with_lengths(joints: Float[Tensor, "b 21 3"], bones: Float[Tensor, "20 3"]) -> Float[Tensor, "b 21 3"]:
    """`joints` with the fingers' bones as long as `bones`, pointing as before; the palm stays. A joint that was put in
    the mean of the places that it may have is too close to its parent."""
    seen = (joints[:, _CHILDREN] - joints[:, _OWNERS]).unflatten(1, (len(FINGERS), _CHAIN))
    lengths = bones.norm(dim=-1).unflatten(0, (len(FINGERS), _CHAIN))
    steps = torch.nn.functional.normalize(seen[:, :, 1:], dim=-1, eps=1e-4) * lengths[:, 1:, None]
    base = (joints[:, :1] + seen[:, :, 0])[:, :, None]
    return torch.cat([joints[:, :1], torch.cat([base, base + steps.cumsum(2)], 2).flatten(1, 2)], 1)


def turns(rest: Float[Tensor, "20 3"], bones: Float[Tensor, "b 20 3"]) -> Float[Tensor, "b 20 3 3"]:
    """The rotation of every bone from rest, the palm's none."""
    fingers = bones.unflatten(1, (len(FINGERS), _CHAIN))
    directions = rest.unflatten(0, (len(FINGERS), _CHAIN))
    chain = [torch.eye(3, dtype=bones.dtype, device=bones.device).expand(*fingers.shape[:2], 3, 3)]
    for k in range(1, _CHAIN):
        carried = (chain[-1] @ directions[:, k, :, None])[..., 0]
        chain.append(smallest_rotation(carried, fingers[:, :, k]) @ chain[-1])
    return torch.stack(chain, 2).flatten(1, 2)


def smallest_rotation(source: Float[Tensor, "*b 3"], target: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation by the smallest angle that makes `source` point as `target` does (of lengths above 0)."""
    a, b = (torch.nn.functional.normalize(v, dim=-1, eps=1e-6) for v in (source, target))
    twist = cross_matrix(torch.linalg.cross(a, b))
    cosine = (a * b).sum(-1).clamp_min(_LEAST_COSINE)[..., None, None]
    return torch.eye(3, dtype=a.dtype, device=a.device) + twist + twist @ twist / (1 + cosine)
