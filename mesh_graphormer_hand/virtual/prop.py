"""An object in or at the hand: a rounded box, ball, stick or disc (a superellipsoid) between palm and fingertips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ..skeleton import TIPS
from .config import VirtualConfig
from .draws import Draws
from .forearm import ABSENT

ROUND, RINGS = 20, 12
POWERS = np.array([1.0, 2.5, 6.0])  # ball, rounded, box


@dataclass(frozen=True, eq=False)
class Prop:
    vertices: Float[np.ndarray, "b v 3"]  # m, rest frame, wrist-relative; a point where there is none
    colours: Float[np.ndarray, "b v 3"]  # linear


def _sphere() -> tuple[np.ndarray, np.ndarray]:
    a, b = np.linspace(0, 2 * np.pi, ROUND, endpoint=False), np.linspace(0, np.pi, RINGS)
    x, y = np.sin(b)[:, None] * np.cos(a), np.sin(b)[:, None] * np.sin(a)
    points = np.stack([x, y, np.cos(b)[:, None] + 0 * a], -1).reshape(-1, 3)
    ring, around = (k.ravel() for k in np.meshgrid(np.arange(RINGS - 1), np.arange(ROUND), indexing="ij"))
    p, q = ring * ROUND + around, ring * ROUND + (around + 1) % ROUND
    faces = np.concatenate([np.stack([p, p + ROUND, q], -1), np.stack([q, p + ROUND, q + ROUND], -1)])
    return points, faces.astype(np.int64)


SPHERE, _FACES = _sphere()


def faces() -> Int64[np.ndarray, "f 3"]:
    """Faces of the object, outward counter-clockwise."""
    return _FACES


def sample(
    draws: Draws,
    config: VirtualConfig,
    joints: Float[np.ndarray, "b 21 3"],
    rotations: Float[np.ndarray, "b 3 3"],
) -> Prop:
    """Objects for posed hands (`joints`: m, wrist-relative, rest frame); `rotations` turn them at random."""
    palm = joints[:, [0, 5, 9, 17]].mean(1)
    normal = np.cross(joints[:, 5] - joints[:, 0], joints[:, 17] - joints[:, 0])  # out of the palm
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    reach = joints[:, list(TIPS)].mean(1) - palm
    power = POWERS[draws.choice((0.4, 0.3, 0.3))][:, None, None]
    unit = np.sign(SPHERE) * np.abs(SPHERE) ** (1 / power)
    radii = draws.uniform(1, low=0.012, high=0.042) * np.exp(0.35 * draws.normal(3))
    radii[:, 2] *= np.where(draws.chance(0.25), 2.5, 1.0)
    radii = radii.clip(0.006, 0.07)
    centre = palm + normal * (radii.min(-1, keepdims=True) + 0.012) + reach * draws.uniform(1, low=0.2, high=0.8)
    vertices = centre[:, None] + (unit * radii[:, None]) @ rotations.transpose(0, 2, 1)
    wave = np.sin(SPHERE @ (draws.normal(3, 1) * draws.uniform(1, 1, high=9)) + draws.uniform(1, 3, high=1.5))
    colours = draws.uniform(1, 3, low=0.03) + draws.uniform(1, 1, high=0.3) * wave
    present = draws.chance(config.held_object)[:, None, None]
    return Prop(np.where(present, vertices, ABSENT), colours.clip(0.02, 1) ** 2)
