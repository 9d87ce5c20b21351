"""The held object: tins, bottles, balls, fruit, boxes, telephones, pens, cards and tools, of one or two primitives.

Each primitive is a superellipsoid: round or square across, round or flat at its ends. `grasp` finds where it fits.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..config import VirtualConfig
from ..rng import Draws
from . import grasp
from .parts import ABSENT, MeshPart, PartShape
from .solids import sphere

ROUND, RINGS, PIECES = 20, 12, 2


SPHERE, FACES = sphere(ROUND, RINGS)
HELD_VERTICES = PIECES * len(SPHERE)


def _shape() -> PartShape:
    """The pieces one after another; `uv` is where each vertex lies on its piece, for what is printed on it."""
    faces = np.concatenate([FACES + k * len(SPHERE) for k in range(PIECES)])
    angle = np.arctan2(SPHERE[:, 1], SPHERE[:, 0])
    uv = np.tile(np.stack([0.05 * SPHERE[:, 2], 0.03 * angle], 1), (PIECES, 1))
    return PartShape("held_object", "object", faces, uv, np.zeros(HELD_VERTICES))


HELD_OBJECT = _shape()


def superellipsoid(across: Float[np.ndarray, "*b"], ends: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b v 3"]:
    """Points of unit size: exponents 2 are round, 10 nearly square."""
    c, s = SPHERE[:, 2], np.hypot(SPHERE[:, 0], SPHERE[:, 1])
    turn = SPHERE[:, :2] / np.maximum(s, 1e-9)[:, None]
    across, ends = across[..., None], ends[..., None]
    flat = np.sign(turn) * np.abs(turn) ** (2 / across[..., None])
    z = np.sign(c) * np.abs(c) ** (2 / ends)
    return np.concatenate([flat * (s ** (2 / ends))[..., None], z[..., None]], -1)


def sample(rng: Draws, config: VirtualConfig, joints: Float[np.ndarray, "b 21 3"]) -> MeshPart:
    """Things for posed hands (`joints`: m, wrist-relative, rest frame)."""
    b = len(joints)
    out = MeshPart(
        HELD_OBJECT,
        np.full((b, HELD_VERTICES, 3), ABSENT),
        np.full((b, HELD_VERTICES, 3), 0.5),
        np.ones((b, HELD_VERTICES)),
    )
    rows = np.flatnonzero(rng.chance(config.held_object))
    if not len(rows):
        return out
    rng = rng.take(rows.tolist())
    place = grasp.fit(rng, joints[rows])
    across, ends, radii = _forms(rng, place)
    main = superellipsoid(across, ends) * radii[:, None]
    slide = rng.uniform(low=-0.6, high=0.6) * np.clip(radii[:, 2] - 0.03, 0, None)
    both = np.stack([main, _second(rng, place, radii)], 1) + np.stack([0 * slide, 0 * slide, slide], -1)[:, None, None]
    vertices = place.centre[:, None] + both.reshape(len(slide), -1, 3) @ place.axes.transpose(0, 2, 1)
    out.vertices[rows] = np.where(place.held[:, None, None], vertices, ABSENT)
    out.colours[rows], out.shine[rows] = _materials(rng)
    return out


def _forms(rng: Draws, place: grasp.Fit) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exponents across and at the ends, and half sizes, of the main piece."""
    r, kind, b = place.radius, place.kind, len(place.radius)
    length = np.where(r < 0.014, rng.log_uniform(0.04, 0.13), rng.log_uniform(0.045, 0.11))
    oval = rng.uniform(low=0.85, high=1.1)
    square = rng.uniform(2, low=0.62, high=0.8)
    flat = rng.uniform(3)
    thin = np.maximum(np.minimum(r, 0.0035), 0.0008)
    forms = (  # half sizes, exponent across, exponent of the ends
        (np.stack([r, r, length], 1), 2.0, 9.0),
        (np.stack([r, r, r * oval], 1), 2.0, 2.0),
        (np.stack([r * square[:, 0] * 1.15, r * square[:, 1] * 1.15, length * 0.8], 1), 7.0, 10.0),
        (np.stack([np.minimum(r, 0.009), np.minimum(r, 0.009), 0.06 + 0.04 * flat[:, 0]], 1), 2.5, 8.0),
        (np.stack([thin, 0.02 + 0.03 * flat[:, 1], 0.03 + 0.05 * flat[:, 2]], 1), 9.0, 10.0),
    )
    sizes = np.stack([f[0] for f in forms])[kind, np.arange(b)]
    return np.array([f[1] for f in forms])[kind], np.array([f[2] for f in forms])[kind], sizes


def _second(rng: Draws, place: grasp.Fit, radii: Float[np.ndarray, "b 3"]) -> Float[np.ndarray, "b v 3"]:
    """A neck, a cap, a blade or a hammer's head at one end of what is long; a point inside everything else."""
    what = rng.choice((0.45, 0.25, 0.15, 0.15))
    neck = radii * [0.45, 0.45, 0.35]
    blade = np.stack([0.3 * radii[:, 0], 0.45 * radii[:, 0], 0.05 + 0 * what], 1)
    head = np.stack([0.016 + 0 * what, 0.045 + 0 * what, 0.016 + 0 * what], 1)
    sizes = np.stack([radii * 0.05, neck, blade, head])[what, np.arange(len(what))]
    long = np.isin(place.kind, (grasp.CYLINDER, grasp.STICK)) & ~((what == 3) & (radii[:, 0] > 0.02))
    sizes = np.where(long[:, None], sizes, radii * 0.05)
    end = np.where(long & (what > 0), radii[:, 2] + np.where(what == 3, 0.3, 0.85) * sizes[:, 2], 0)
    points = superellipsoid(np.where(what == 3, 4.0, 2.0), np.full(len(what), 6.0)) * sizes[:, None]
    points[..., 2] += end[:, None]
    return points


def _materials(rng: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Plain, banded or printed colours; dull, plastic or shining surfaces."""
    base = rng.uniform(PIECES, 1, 3)
    grey = rng.uniform(PIECES, 1, 1)
    base = grey + rng.uniform(1, 1, 1) ** 1.6 * (base - grey)  # mostly dull, some vivid
    label = rng.uniform(PIECES, 1, 3)
    low, high = np.sort(rng.uniform(2, low=-0.9, high=0.9), 1).T[..., None, None]
    inside = (SPHERE[:, 2] > low) & (SPHERE[:, 2] < high) & rng.chance(0.4)[:, None, None]
    colour = np.where(inside[..., None], label, base)
    wave = np.sin(SPHERE @ (rng.normal(3, 1) * rng.uniform(1, 1, high=9)) + rng.uniform(1, 3, high=1.5))
    colour = colour + rng.uniform(1, 1, 1, high=0.15) ** 1.5 * wave[:, None]
    shine = rng.log_uniform(0.1, 3.5, PIECES, 1) * np.ones(len(SPHERE))
    b = len(colour)
    return colour.clip(0.04, 0.95).reshape(b, -1, 3) ** 2, shine.reshape(b, -1)
