"""The skin of the hand as one signed distance field: a skeleton with flesh on it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import map_coordinates

from . import detail
from .anatomy import CHAINS, FINGERS, WRIST_PLANE, Params, Skeleton, bone_frame, unit
from .primitives import Ellipsoid, Points, RoundCone, RoundTriangle, Sweep, Values, melt

DORSAL = np.array([0, 0, 1.0])
GRADIENT_STEP = 0.05  # mm
GIRTH = {"index": 1.0, "middle": 1.03, "ring": 0.97, "little": 0.86, "thumb": 1.0}
# metacarpal rays: base (mm), half width (mm), depth relative to the index
RAYS = {
    "index": ((16, 12.5, 1.5), 12.0, 1.0),
    "middle": ((14, 3.0, 3.0), 11.0, 1.0),
    "ring": ((14, -7.5, 2.0), 10.4, 0.95),
    "little": ((16, -17.0, -1.5), 10.6, 0.88),
}
PALM_MELT, DIGIT_MELT, ROOT_MELT = 3.2, 0.7, 2.0  # mm: seams within the palm, between digits, palm to digits


class Hand(Skeleton):
    """Skeleton, primitives and the field that they make; callable: points (mm) -> signed distance (about mm).

    Attributes:
        digit: digit -> the sweep from its first phalanx to its tip.
        palm: everything else.
    """

    def __init__(self, params: Params | None = None):
        super().__init__(params)
        self.digit = {name: self._digit(name) for name in CHAINS}
        self.palm = [
            *self._rays(),
            *self._knuckles(),
            self._forearm(),
            *self._webs(),
            *self._thumb_base(),
            *self._core(),
            self._thumb_web(),
            self._hypothenar(),
        ]
        # along each digit's sweep: its three joints
        self.stations = {
            name: [float(sweep.local(self.joints[j][None])[0][0]) for j in CHAINS[name]]
            for name, sweep in self.digit.items()
        }

    # ------------------------------------------------------------------ flesh
    def _digit(self, name: str) -> Sweep:
        chain, p = CHAINS[name], self.params
        first = 1 if name == "thumb" else 0  # the thumb's metacarpal belongs to the palm
        points = np.stack([*(self.joints[j] for j in chain[first:]), self.tips[name]])
        frame = bone_frame(unit(points[-1] - points[0]), self.frames[chain[1]][2])
        local = (points - points[0]) @ frame.T
        along = local[:, 0]
        girth = GIRTH[name] * self.scale
        girth *= p.thumb_girth if name == "thumb" else p.finger_girth
        profile = _thumb_profile if name == "thumb" else _finger_profile
        stations, (width, dorsal, palmar), start, end = profile(along, girth, p.joint_bulge)
        towards_tip = np.clip((stations - along[0]) / (along[-1] - along[0]), 0, 1)
        taper = 1 + (p.taper - 1) * towards_tip
        bend = (along, local[:, 1], local[:, 2])
        return Sweep(
            points[0], frame, stations, (width * taper, dorsal * taper, palmar * taper), start, end, bend, power=2.2
        )

    def _rays(self) -> list[Sweep]:
        p, g = self.params, self.scale
        rays = []
        for finger in FINGERS:
            base, half_width, depth = RAYS[finger]
            base = np.array(base) * g * [p.palm_len, p.palm_width, p.palm_depth]
            knuckle = self.joints[CHAINS[finger][0]]
            length = np.linalg.norm(knuckle - base)
            frame = bone_frame(unit(knuckle - base), self.frames[CHAINS[finger][0]][2])
            width = half_width * g * p.palm_width * np.array([0.95, 1, 1, 1, 0.98])
            dorsal = np.array([11.5, 9.2, 7.8, 8.6, 9.2]) * g * p.palm_depth
            dorsal[3:] += 1.1 * (p.knuckle - 1) * g
            palmar = np.array([12.5, 10.5, 10.5, 11.5, 12.0]) * g * p.palm_depth * depth
            stations = np.array([0, 0.35, 0.7, 0.9, 1.0]) * length
            profiles = (width, dorsal * depth, palmar)
            rays.append(Sweep(base, frame, stations, profiles, (0, 14 * g), (length - 1 * g, 13 * g), power=2.2))
        return rays

    def _knuckles(self) -> list[Ellipsoid]:
        """Heads of the metacarpals, which stand out on the back."""
        p, g = self.params, self.scale
        heads = []
        for finger in FINGERS:
            joint, size = CHAINS[finger][0], g * GIRTH[finger]
            along, _, dorsal = self.frames[joint]
            centre = self.joints[joint] - along * 1.5 * g + dorsal * (2.2 + 0.8 * (p.knuckle - 1)) * g
            radii = np.array([9.5, 7.0 * p.palm_width, 7.6 * p.palm_depth]) * size
            heads.append(Ellipsoid(centre, radii, self.frames[joint]))
        return heads

    def _forearm(self) -> Sweep:
        """Carpus, wrist and the stub of the forearm."""
        p, g = self.params, self.scale
        girth = p.wrist * g
        stations = np.array([-40.0, -16, 0, 14, 34]) * g
        profiles = (
            np.array([30.0, 28.4, 27.3, 27.8, 25]) * girth * (0.5 + 0.5 * p.palm_width),
            np.array([17.0, 16.5, 15.5, 13.5, 9.0]) * girth,
            np.array([17.0, 16.5, 16.0, 16.5, 12.0]) * girth,
        )
        origin = [0, -1.5 * g, -1.0 * g]
        return Sweep(origin, np.eye(3), stations, profiles, (-40 * g, 8 * g), (26 * g, 22 * g), power=2.3)

    def _webs(self) -> list[RoundCone]:
        """Distal pads of the palm and the webs between neighbouring fingers."""
        g, reach = self.scale, 13.0 * self.scale
        webs = []
        for one, other in zip(FINGERS[:-1], FINGERS[1:], strict=True):
            f1, f2 = self.frames[CHAINS[one][0]], self.frames[CHAINS[other][0]]
            short = 1.5 if other == "little" else 0
            a = self.joints[CHAINS[one][0]] + f1[0] * reach - f1[2] * 4.8 * g
            b = self.joints[CHAINS[other][0]] + f2[0] * (reach - short) - f2[2] * 4.8 * g
            webs.append(RoundCone(a, b, 5.4 * g, 5.2 * g))
        return webs

    def _thumb_base(self) -> list[Sweep | Ellipsoid]:
        """The thumb's metacarpal and the thenar muscles around it."""
        p, g = self.params, self.scale
        joint = CHAINS["thumb"][0]
        frame, length, girth = self.frames[joint], self.lengths["thumb"][0], g * p.thumb_girth
        profiles = (
            np.array([10.0, 11.0, 11.0, 10.8, 11.2]) * girth,
            np.array([9.5, 9.5, 8.2, 8.6, 9.6]) * girth,
            np.array([10.0, 11.5, 12.5, 11.5, 10.8]) * girth,
        )
        stations = np.array([-8, 0, 0.35 * length, 0.75 * length, length])
        parts: list[Sweep | Ellipsoid] = [
            Sweep(self.joints[joint], frame, stations, profiles, (-2, 12 * g), (length, 12 * g))
        ]
        middle = self.joints[joint] + frame[0] * length * 0.46
        along = unit(frame[0] * 1.0 + np.array([0.30, -0.12, 0.05]))
        muscle = bone_frame(along, np.array([0, 0.15, 1.0]))
        swell = np.array([1, p.thenar, p.thenar]) ** 0.8
        for offset, radii in (((0.0, -8.0, -3.5), (31, 15.5, 12.0)), ((-7.0, -14.0, -4.5), (22, 15.0, 9.5))):
            parts.append(Ellipsoid(middle + np.array(offset) * g, np.array(radii) * g * swell, muscle))
        return parts

    def _core(self) -> list[Ellipsoid]:
        """What fills the palm between the rays."""
        p, g = self.params, self.scale
        pl, pw, pd = p.palm_len, p.palm_width, p.palm_depth
        tilted = bone_frame(np.array([1.0, 0, 0]), np.array([0, 0.05, 1.0]))
        return [
            Ellipsoid(np.array([50.0, -7.0 * pw, -3.5]) * g, np.array([40 * pl, 31 * pw, 10.5 * pd]) * g, tilted),
            Ellipsoid(np.array([80.0 * pl, -6.0 * pw, -6.5 * pd]) * g, np.array([17, 37 * pw, 7.5 * pd]) * g),
        ]

    def _thumb_web(self) -> RoundTriangle:
        g = self.scale
        base, mcp = CHAINS["thumb"][:2]
        index = self.joints[1] - self.frames[1][0] * 22 * g + np.array([0, 2.0, -3.0]) * g
        corner = self.joints[mcp] - self.frames[base][0] * 7 * g + np.array([-1, -2, 1.0]) * g
        radii = np.array([10.0, 6.5, 7.0]) * g
        return RoundTriangle(self.joints[base] + np.array([10, 0, 4.0]) * g, corner, index, radii)

    def _hypothenar(self) -> Ellipsoid:
        p, g = self.params, self.scale
        h, pw = p.hypothenar, p.palm_width
        a, b = np.array([16, -19 * pw, -8.0]) * g, np.array([58, -31.5 * pw, -8.5]) * g
        frame = bone_frame(unit(b - a), np.array([0, -0.35, 1.0]))
        return Ellipsoid(0.5 * (a + b), np.array([34, 13.5 * h**0.5, 13.0 * h]) * g, frame)

    # ------------------------------------------------------------------ field
    def __call__(self, x: Points, relief: bool = False) -> Values:
        """Signed distance; with `relief`, nails, creases, tendons and veins too (what the render mesh follows)."""
        x, g = np.asarray(x, float), self.scale
        palm = melt([part(x) for part in self.palm], PALM_MELT * g)
        digits = melt([self.digit[name](x) for name in CHAINS], DIGIT_MELT * g)
        f = melt([palm, digits], ROOT_MELT * g)
        hollow = (x - np.array([47.0, -3.0, -17.0]) * g) / (np.array([24.0, 15.0, 10.0]) * g)
        f = f + 2.6 * g * np.exp(-(hollow**2).sum(1))
        return f + detail.displacement(self, x) if relief else f

    def gradient(self, x: Points, relief: bool = False, value: Values | None = None) -> Points:
        """By central differences; one-sided and half the price where the field's `value` at x is at hand."""
        n, h = len(x), GRADIENT_STEP
        step = np.eye(3) * h
        if value is not None:
            f = self(np.concatenate([x + step[0], x + step[1], x + step[2]]), relief).reshape(3, n)
            return ((f - value) / h).T
        around = np.concatenate([x + step[0], x - step[0], x + step[1], x - step[1], x + step[2], x - step[2]])
        f = self(around, relief).reshape(3, 2, n)
        return ((f[:, 0] - f[:, 1]) / (2 * h)).T

    def normals(self, x: Points, relief: bool = False) -> Points:
        """Outward unit normals."""
        return unit(self.gradient(x, relief))

    def project(
        self,
        x: Points,
        iterations: int = 6,
        relief: bool = False,
        in_plane: Bool[np.ndarray, "n"] | None = None,
        max_step: float = 3.0,
    ) -> Points:
        """Newton steps onto the skin; points `in_plane` keep their u coordinate."""
        x = np.array(x, float)
        for _ in range(iterations):
            f = self(x, relief)
            gradient = self.gradient(x, relief, value=f)
            if in_plane is not None:
                gradient[in_plane, 0] = 0
            step = -f[:, None] * gradient / np.maximum((gradient**2).sum(1, keepdims=True), 1e-3)
            length = np.linalg.norm(step, axis=1, keepdims=True)
            x += step * np.minimum(1, max_step / np.maximum(length, 1e-9))
        return x


def _thumb_profile(along: Float[np.ndarray, "3"], girth: float, bulge: float):
    """Stations, (half width, dorsal, palmar) there, and the two rounded ends of the thumb's two phalanges."""
    m, i, e = along
    near, far = i - m, e - i
    stations = [m - 16, m, m + 0.35 * near, m + 0.62 * near, i - 1, i + 0.30 * far, i + 0.62 * far, e - 2]
    width = np.array([11.0, 11.4, 10.2, 9.7, 10.5 * (1 + 0.04 * (bulge - 1)), 11.0, 10.9, 9.3]) * girth
    dorsal = np.array([10.0, 10.4, 8.6, 8.0, 8.6 * (1 + 0.05 * (bulge - 1)), 6.9, 6.0, 4.4]) * girth
    palmar = np.array([11.0, 11.2, 10.4, 9.6, 9.0, 9.6, 9.2, 6.2]) * girth
    ends = (m - 8, 14 * girth), (e - 11.5 * girth, 11.5 * girth)
    return np.array(stations), (width, dorsal, palmar), *ends


def _finger_profile(along: Float[np.ndarray, "4"], girth: float, bulge: float):
    """Stations, (half width, dorsal, palmar) there, and the two rounded ends of a finger's three phalanges."""
    m, p, q, e = along
    first, middle, last = p - m, q - p, e - q
    stations = [m - 14, m, m + 0.30 * first, m + 0.62 * first, p - 1, p + 0.48 * middle, q - 1]
    stations += [q + 0.38 * last, q + 0.68 * last, e - 1.5]
    wide, deep = 1 + 0.05 * (bulge - 1), 1 + 0.06 * (bulge - 1)
    width = np.array([9.9, 9.7, 9.7, 9.3, 9.9 * wide, 8.7, 8.75 * wide, 8.3, 7.9, 6.8]) * girth
    dorsal = np.array([9.0, 9.2, 8.0, 7.2, 8.1 * deep, 6.3, 6.2 * deep, 5.2, 4.5, 3.4]) * girth
    palmar = np.array([12.0, 12.0, 11.2, 9.9, 9.0, 8.9, 7.5, 8.0, 7.6, 5.2]) * girth
    ends = (m - 5, 14 * girth), (e - 9.0 * girth, 9.0 * girth)
    return np.array(stations), (width, dorsal, palmar), *ends


def triangulate(hand: Hand, voxel: float, relief: bool = False) -> tuple[Points, np.ndarray]:
    """Marching cubes in a narrow band around the skin: dense outward triangles, left open at the wrist plane.

    Args:
        voxel: mm.
    """
    from skimage.measure import marching_cubes  # the extra's only use: the rest of this package runs without it

    low, high = np.array([WRIST_PLANE, -66, -62.0]), np.array([216.0, 112, 34])
    count = np.ceil((high - low) / voxel).astype(int) + 1
    axes = [low[i] + voxel * np.arange(count[i]) for i in range(3)]
    block = 5.0  # mm: a coarse grid says where the band is
    coarse_count = np.ceil((high - low) / block).astype(int) + 2
    coarse_axes = [low[i] + block * np.arange(coarse_count[i]) for i in range(3)]
    coarse = hand(np.stack(np.meshgrid(*coarse_axes, indexing="ij"), -1).reshape(-1, 3)).reshape(coarse_count)
    index = np.stack(np.meshgrid(*[np.arange(k) for k in count], indexing="ij"), 0) * (voxel / block)
    volume = map_coordinates(coarse, index, order=1).astype(np.float32)
    band = np.argwhere(np.abs(volume) < 5.0)
    points = np.stack([axes[i][band[:, i]] for i in range(3)], 1)
    chunk = 200000
    volume[tuple(band.T)] = np.concatenate([hand(points[i : i + chunk], relief) for i in range(0, len(points), chunk)])
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(voxel,) * 3)
    vertices = vertices + low
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals, centres = np.cross(b - a, c - a), (a + b + c) / 3
    some = np.arange(0, len(faces), max(1, len(faces) // 2000))
    inward = (normals[some] * hand.gradient(centres[some])).sum(1).mean() < 0
    return vertices, faces[:, ::-1].copy() if inward else faces
