"""Points and faces of simple solids: spheres, bodies of revolution, bent tubes. Faces run outward counter-clockwise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int64


def sphere(around: int, rings: int) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]:
    """A unit sphere of `rings` rings of `around` vertices, from its pole at z = 1 to the one at z = -1."""
    a, b = np.linspace(0, 2 * np.pi, around, endpoint=False), np.linspace(0, np.pi, rings)
    x, y = np.sin(b)[:, None] * np.cos(a), np.sin(b)[:, None] * np.sin(a)
    points = np.stack([x, y, np.cos(b)[:, None] + 0 * a], -1).reshape(-1, 3)
    return points, ring_faces(rings, around)


def revolve(
    profile: Sequence[tuple[float | int, float | int]], around: int
) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]:
    """The body that a profile sweeps about the z axis.

    Args:
        profile: (radius, z) of its rings, in an order that has the outside on the left of the way (drawn with the
            radius to the right and z up): from the top of a closed body down to its bottom.
        around: vertices of a ring.
    """
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)
    radius, z = np.array(profile, np.float64).T[..., None]
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle), z + 0 * angle], -1)
    return points.reshape(-1, 3), ring_faces(len(profile), around)


def bent_tube(
    path: Float[np.ndarray, "n 3"], radius: float, around: int, across: Float[np.ndarray, "3"]
) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]:
    """A tube of one radius along a path in the plane normal to the unit vector `across`; its ends are open."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    out = np.cross(along, across)
    angle = np.linspace(0, 2 * np.pi, around, endpoint=False)[:, None]
    ring = np.cos(angle) * out[:, None] + np.sin(angle) * across
    return (path[:, None] + radius * ring).reshape(-1, 3), ring_faces(len(path), around)


def ring_faces(rings: int, around: int) -> Int64[np.ndarray, "f 3"]:
    """Faces of a tube of `rings` rings of `around` vertices that run counter-clockwise seen against the tube's way."""
    ring, place = (k.ravel() for k in np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij"))
    p, q = ring * around + place, ring * around + (place + 1) % around
    faces = np.concatenate([np.stack([p, p + around, q], -1), np.stack([q, p + around, q + around], -1)])
    return faces.astype(np.int64)
