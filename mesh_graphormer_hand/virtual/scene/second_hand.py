"""The other hand: its owner's left, near the sample's hand: before it, behind it, sometimes over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from .. import parameters
from ..config import VirtualConfig
from ..hand.anatomy import Anatomy
from ..parameters import Parameters
from ..records import Record, take
from ..rng import Draws
from .camera import Camera, uniform_rotations

FIRST_SECOND_HAND = 2**42  # the other hands have numbers beyond those of all crops and frames
MIRROR = np.diag([1.0, 1, -1])
ROTATION_TRIES = 10
SAME_PERSON_PROBABILITY = 0.8


def sample(
    config: VirtualConfig, anatomy: Anatomy, indices: Sequence[int], p: Parameters
) -> tuple[Int64[np.ndarray, "n"], Parameters | None]:
    """Which of the samples `p` have a second hand, and those hands: left ones, by a rotation that mirrors."""
    rows = np.flatnonzero(Draws(config, indices, "second_hand").chance(config.second_hand))
    if not len(rows):
        return rows, None
    chosen = [FIRST_SECOND_HAND + indices[k] for k in rows]
    other, first = parameters.draw(config, anatomy, chosen), take(p, rows)
    rng = Draws(config, chosen, "second_hand")
    angle = rng.uniform(high=2 * np.pi)
    behind = rng.chance(0.6)
    depth = np.where(behind, rng.uniform(low=0.035, high=0.14), rng.uniform(low=-0.06, high=0.02))
    apart = np.where(behind, rng.uniform(low=0.05, high=0.17), rng.uniform(low=0.11, high=0.19))
    away = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    tried = uniform_rotations(rng, ROTATION_TRIES)
    forearm = tried[..., 0]  # from the wrist on, in the camera
    score = (forearm * away[:, None]).sum(-1) - 2 * (-forearm[..., 2] - 0.4).clip(0)
    rotation = tried[np.arange(len(rows)), score.argmax(1)] @ MIRROR
    root = _middle(anatomy, first) + apart[:, None] * away + depth[:, None] * [0, 0, 1]
    root = root - _middle(anatomy, dataclasses.replace(other, camera=_camera(rotation, 0 * root, first)))
    root[:, 2] = root[:, 2].clip(0.12)
    alike = rng.chance(SAME_PERSON_PROBABILITY)
    ring = other.accessories.ring * [0.0, 1, 1, 1]
    other = dataclasses.replace(
        other,
        camera=_camera(rotation, root, first),
        light=first.light,
        skin=_merge(first.skin, other.skin, alike),
        forearm=dataclasses.replace(other.forearm, cloth=_where(alike, first.forearm.cloth, other.forearm.cloth)),
        accessories=dataclasses.replace(other.accessories, ring=ring),
    )
    return rows, other


def _camera(rotation: Float[np.ndarray, "b 3 3"], root: Float[np.ndarray, "b 3"], first: Parameters) -> Camera:
    return dataclasses.replace(first.camera, rotation=rotation, root=root)


def _middle(anatomy: Anatomy, p: Parameters) -> Float[np.ndarray, "b 3"]:
    """The middle of the joints, m, in the camera."""
    wrist = np.broadcast_to(np.eye(3), (len(p.fingers), 1, 3, 3))
    joints = anatomy.pose(np.concatenate([wrist, p.fingers], 1), p.shape).mean(1)
    return p.camera.root + (p.camera.rotation @ joints[..., None])[..., 0]


def _where(choice: Bool[np.ndarray, "b"], a: Shaped[np.ndarray, "b *s"], b: Shaped[np.ndarray, "b *s"]) -> np.ndarray:
    return np.where(choice.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def _merge(a: Record, b: Record, choice: Bool[np.ndarray, "b"]) -> Record:
    names = [f.name for f in dataclasses.fields(a)]
    return dataclasses.replace(a, **{name: _where(choice, getattr(a, name), getattr(b, name)) for name in names})
