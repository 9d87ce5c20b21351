"""Solids as (approximate) signed distances in mm, negative inside, and how they melt into one another."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from .anatomy import unit

Points = Float[np.ndarray, "n 3"]
Values = Float[np.ndarray, "n"]
MAX_SLOPE_RADIUS = 16.0  # mm: thick sweeps count their distance as if no thicker, or they would swell where they melt


class Sweep:
    """A superellipse swept along a slightly bent axis, with rounded ends.

    Args:
        origin: start of the axis.
        frame: rows along, across (s) and dorsal (n).
        stations: places along the axis at which the three profiles are given.
        profiles: half width, half depth to the dorsal side, half depth to the palmar side, at the stations.
        start, end: where each rounded end begins, and its length.
        bend: places along the axis, and the axis' offsets along s and n there.
        power: of the superellipse, 2 for an ellipse.
    """

    def __init__(self, origin, frame, stations, profiles, start, end, bend=None, power=2.25):
        self.origin, self.frame, self.power = np.asarray(origin, float), frame, power
        (self.start, self.start_length), (self.end, self.end_length) = start, end
        self.table = np.linspace(min(stations[0], self.start) - 1, max(stations[-1], self.tip) + 1, 400)
        inside = np.clip(self.table, stations[0], stations[-1])
        self.width, self.dorsal, self.palmar = (PchipInterpolator(stations, y)(inside) for y in profiles)
        self.offset_s = self.offset_n = np.zeros_like(self.table)
        if bend is not None:
            at, offset_s, offset_n = bend
            clipped = np.clip(self.table, at[0], at[-1])
            self.offset_s, self.offset_n = (PchipInterpolator(at, y)(clipped) for y in (offset_s, offset_n))

    @property
    def tip(self) -> float:
        """The far end, mm along the axis."""
        return self.end + self.end_length

    def local(self, x: Points) -> tuple[Values, Values, Values]:
        """Coordinates along the bent axis, across it and dorsal of it."""
        q = (x - self.origin) @ self.frame.T
        t = q[:, 0]
        s = q[:, 1] - np.interp(t, self.table, self.offset_s)
        return t, s, q[:, 2] - np.interp(t, self.table, self.offset_n)

    def half_width(self, t: Values) -> Values:
        """Half width at places along the axis."""
        return np.interp(t, self.table, self.width)

    def __call__(self, x: Points) -> Values:
        t, s, n = self.local(x)
        a, dorsal, palmar = (np.interp(t, self.table, y) for y in (self.width, self.dorsal, self.palmar))
        b = np.where(n > 0, dorsal, palmar)
        cap = np.maximum(self.start - t, 0) / self.start_length + np.maximum(t - self.end, 0) / self.end_length
        p = self.power
        rho = ((np.abs(s) / a) ** p + (np.abs(n) / b) ** p + cap**p) ** (1 / p)
        return (rho - 1) * np.minimum(0.5 * (a + b), MAX_SLOPE_RADIUS)


class Ellipsoid:
    """An ellipsoid: centre, three radii along the rows of `frame`."""

    def __init__(self, centre, radii, frame=None):
        self.centre, self.radii = np.asarray(centre, float), np.asarray(radii, float)
        self.frame = np.eye(3) if frame is None else frame

    def __call__(self, x: Points) -> Values:
        q = (x - self.centre) @ self.frame.T
        k0 = np.linalg.norm(q / self.radii, axis=1)
        k1 = np.linalg.norm(q / self.radii**2, axis=1)
        return k0 * (k0 - 1) / np.maximum(k1, 1e-6)


class RoundCone:
    """A capsule whose radius goes linearly from one end to the other."""

    def __init__(self, a, b, radius_a, radius_b):
        self.a, self.b, self.radius_a, self.radius_b = np.asarray(a, float), np.asarray(b, float), radius_a, radius_b

    def __call__(self, x: Points) -> Values:
        axis = self.b - self.a
        h = np.clip((x - self.a) @ axis / (axis @ axis), 0, 1)
        distance = np.linalg.norm(x - self.a - h[:, None] * axis, axis=1)
        return distance - (self.radius_a + h * (self.radius_b - self.radius_a))


class RoundTriangle:
    """A triangular plate with rounded rim whose half thickness goes linearly between its corners."""

    def __init__(self, a, b, c, radii):
        self.corners, self.radii = [np.asarray(q, float) for q in (a, b, c)], np.asarray(radii, float)

    def __call__(self, x: Points) -> Values:
        a, b, c = self.corners
        r = self.radii
        rim = [RoundCone(a, b, r[0], r[1])(x), RoundCone(b, c, r[1], r[2])(x), RoundCone(c, a, r[2], r[0])(x)]
        normal = unit(np.cross(b - a, c - a))
        q = np.linalg.solve(np.stack([b - a, c - a, normal], 1), (x - a).T).T
        inside = (q[:, 0] > 0) & (q[:, 1] > 0) & (q[:, 0] + q[:, 1] < 1)
        thickness = r[0] + q[:, 0] * (r[1] - r[0]) + q[:, 1] * (r[2] - r[0])
        return np.minimum.reduce([*rim, np.where(inside, np.abs(q[:, 2]) - thickness, 1e9)])


def melt(distances: list[Values], radius: float) -> Values:
    """A union whose seams are filled over about `radius` mm (log-sum-exp)."""
    stacked = np.stack(distances)
    low = stacked.min(0)
    return low - radius * np.log(np.exp(-(stacked - low) / radius).sum(0))
