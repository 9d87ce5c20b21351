"""What skin has that a mesh of a few thousand vertices has not: creases, wrinkles, tendons, veins, blushes, nails.

Everything is a function of where a point lies on the hand at rest (its bones' frames, the palm's plane), so any hand in
MANO's layout gets it, whatever its vertices. `footprint` (m) is the width of what will be one pixel: finer detail is
evaluated already blurred to it, so nothing ever aliases. Slopes are of the surface's height over its own tangents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy.spatial import cKDTree

from .anatomy import FINGER_CHAINS, THUMB, Anatomy

PAINT = ("crease", "wrinkle", "blush", "vein", "plate", "white", "groove", "dark")  # channels of colour
RELIEF = ("crease", "wrinkle", "tendon", "vein", "nail")  # channels of height, each a slope (m / m)
CREASE, WRINKLE, BLUSH, VEIN, PLATE, WHITE, GROOVE, DARK = range(len(PAINT))
R_CREASE, R_WRINKLE, R_TENDON, R_VEIN, R_NAIL = range(len(RELIEF))
Number = float | int | np.ndarray
MM = 1e-3
CHAINS = (THUMB, *FINGER_CHAINS)
# Across each joint: (mm along the finger, how strong). The palm ends at creases of their own, beyond the base joint.
DORSAL = {
    "base": ((-3.0, 0.18), (0.3, 0.22), (3.2, 0.16)),
    "middle": ((-4.6, 0.45), (-2.9, 0.7), (-1.2, 1.0), (0.5, 0.95), (2.1, 0.75), (3.9, 0.5)),
    "end": ((-1.9, 0.5), (-0.3, 0.75), (1.3, 0.5)),
}
PALMAR = {"middle": ((-0.9, 1.0), (1.1, 0.85)), "end": ((0.1, 0.95), (1.9, 0.35)), "root": ((0.0, 1.0), (2.2, 0.5))}
NAIL_ROOT = 0.46  # of the first phalanx from its joint: where the finger leaves the palm
# The palm's three great lines and a faint fourth, in (towards the middle knuckle, little to index knuckle).
PALM_LINES = (
    (1.0, ((0.86, -0.22), (0.90, 0.08), (0.96, 0.36), (1.02, 0.62), (1.12, 0.80), (1.20, 0.86))),
    (0.9, ((0.88, 1.26), (0.82, 0.98), (0.74, 0.66), (0.66, 0.36), (0.56, 0.08))),
    (1.0, ((0.88, 1.26), (0.78, 1.00), (0.62, 0.80), (0.42, 0.66), (0.22, 0.60), (0.06, 0.64))),
    (0.35, ((0.10, 0.52), (0.35, 0.50), (0.60, 0.56), (0.82, 0.60))),
)


@dataclass(frozen=True, eq=False)
class Skinned:
    """Points of a hand's skin at rest."""

    points: Float[np.ndarray, "n 3"]  # m
    normals: Float[np.ndarray, "n 3"]
    weights: Float[np.ndarray, "n 16"]


@dataclass(frozen=True, eq=False)
class Nail:
    """Where one digit's nail lies in the frame of its last joint."""

    joint: int
    origin: Float[np.ndarray, "3"]  # m, the joint at rest
    frame: Float[np.ndarray, "3 3"]  # rows: along, across, up
    start: float  # m along
    length: float
    middle: float  # m across
    half: float


class Detail:
    """Colour and slope of every point; `paint` and `slope` are summed up by what draws itself on it."""

    def __init__(self, skin: Skinned, footprint: float) -> None:
        self.skin, self.footprint = skin, footprint
        self.paint = np.zeros((len(skin.points), len(PAINT)), np.float32)
        self.slope = np.zeros((len(skin.points), len(RELIEF), 3), np.float32)

    def line(self, rows, distance, direction, width, amount, paint, relief, depth) -> None:
        """A groove (or, with negative depth, a ridge) of Gaussian profile at signed `distance` m of `rows`."""
        blurred = np.hypot(width, 0.45 * self.footprint)
        profile = np.exp(-0.5 * (distance / blurred) ** 2) * (width / blurred) * amount
        if paint is not None:
            self.paint[rows, paint] += profile
        slope = depth * profile * distance / blurred**2
        self.slope[rows, relief] += slope[:, None] * direction

    def spot(self, rows, paint, values) -> None:
        """Add `values` to one channel of colour."""
        self.paint[rows, paint] += values


def evaluate(anatomy: Anatomy, nails: list[Nail], skin: Skinned, footprint: float, variant: int) -> Detail:
    """All that points of a hand's skin carry; `variant` decides the lines that differ from person to person."""
    out = Detail(skin, footprint)
    rng = np.random.default_rng(variant + 17)
    for chain in CHAINS:
        _joints(out, anatomy, chain, rng)
    _palm(out, anatomy, rng)
    _dorsum(out, anatomy, rng)
    for nail in nails:
        _nail(out, nail)
    np.clip(out.paint, -1.5, 1.5, out=out.paint)
    np.clip(out.slope, -1.2, 1.2, out=out.slope)
    return out


def find_nails(anatomy: Anatomy, skin: Skinned, shine: Float[np.ndarray, "n"]) -> list[Nail]:
    """Nails where a mesh shines (`shine` above 0.5), else where a nail should be."""
    found = []
    for digit, chain in enumerate(CHAINS):
        joint = chain.stop - 1
        frame, length = anatomy.frames[joint], np.linalg.norm(anatomy.tips[digit] - anatomy.joints[joint])
        rows = (shine > 0.5) & (skin.weights[:, chain].sum(1) > 0.5)
        if rows.sum() < 8:
            found.append(Nail(joint, anatomy.joints[joint], frame, 0.4 * length, 0.55 * length, 0.0, 0.0053))
            continue
        up = skin.normals[rows].mean(0)
        up -= frame[0] * (up @ frame[0])
        up /= np.linalg.norm(up)
        turned = np.stack([frame[0], np.cross(up, frame[0]), up])
        q = (skin.points[rows] - anatomy.joints[joint]) @ turned.T
        low, high = np.percentile(q[:, :2], (2, 98), axis=0)
        half = (high[1] - low[1]) / 2
        found.append(Nail(joint, anatomy.joints[joint], turned, low[0], high[0] - low[0], (low[1] + high[1]) / 2, half))
    return found


def knuckles(anatomy: Anatomy, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 16"]:
    """How near each point is to each joint, 0 to 1: where bending smooths or deepens the skin."""
    distance = np.linalg.norm(points[:, None] - anatomy.joints, axis=-1)
    near = np.exp(-((distance / 0.013) ** 2))
    near[:, 0] = 0
    return near.astype(np.float32)


# ------------------------------------------------------------------------------------------------------- digits


def _joints(out: Detail, anatomy: Anatomy, chain: slice, rng: np.random.Generator) -> None:
    skin, thumb = out.skin, chain is THUMB
    mine = np.flatnonzero(skin.weights[:, chain].sum(1) > 0.02)
    for k, joint in enumerate(range(chain.start, chain.stop)):
        frame = anatomy.frames[joint]
        rows, q, up, share = _near(skin, mine, anatomy.joints[joint], frame, chain, 0.02 if k else 0.017)
        kind = ("base", "middle", "end")[k]
        part = (up > -0.15) & ((share > 0.35) | (k == 0))
        back, at, facing = rows[part], q[part], up[part]
        strength = 0.0 if thumb and k == 0 else 1.0
        _wrinkles(out, back, at, facing, frame[0], DORSAL[kind], strength, rng)
        spread = np.exp(-((at[:, 0] / 0.008) ** 2) - (at[:, 1] / 0.009) ** 2) * _step(facing, 0.1, 0.8)
        out.spot(back, BLUSH, (0.5, 0.5, 0.3)[k] * strength * spread)
        out.spot(back, DARK, (0.6, 1.0, 0.7)[k] * strength * spread)
        if k:
            front = (np.abs(q[:, 0]) < 0.012) & (up < 0.45) & (share > 0.4)
            _creases(out, rows[front], q[front], up[front], frame[0], PALMAR[kind], 1.0, rng)
    base, middle, end = range(chain.start, chain.stop)
    if not thumb:
        frame = anatomy.frames[base]
        root = anatomy.joints[base] + NAIL_ROOT * (anatomy.joints[middle] - anatomy.joints[base])
        rows, q, up, share = _near(skin, mine, root, frame, chain, 0.02)
        front = (np.abs(q[:, 0]) < 0.01) & (up < 0.3) & (share > 0.4) & (np.abs(q[:, 1]) < 0.013)
        _creases(out, rows[front], q[front], up[front], frame[0], PALMAR["root"], 1.0, rng)
    reach = np.linalg.norm(anatomy.tips[CHAINS.index(chain)] - anatomy.joints[end])
    tip = mine[skin.weights[mine, end] > 0.4]
    along = (skin.points[tip] - anatomy.joints[end]) @ anatomy.frames[end, 0]
    out.spot(tip, BLUSH, 0.75 * _step(along / reach, 0.45, 0.95))


def _near(
    skin: Skinned,
    rows: Int64[np.ndarray, "n"],
    centre: Float[np.ndarray, "3"],
    frame: Float[np.ndarray, "3 3"],
    chain: slice,
    reach: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which of `rows` lie within `reach` m of a joint; where in its frame, how dorsal, how much the digit's own."""
    offset = skin.points[rows] - centre
    close = np.einsum("nk,nk->n", offset, offset) < reach**2
    rows = rows[close]
    return rows, offset[close] @ frame.T, skin.normals[rows] @ frame[2], skin.weights[rows, chain].sum(1)


def _wrinkles(out, rows, q, up, along, lines, strength, rng) -> None:
    """Arches over the back of a joint."""
    visible = _step(up, 0.1, 0.6) * strength
    for offset, amount in lines:
        bow = 1 - rng.uniform(0.15, 0.5) * (q[:, 1] / 0.008) ** 2
        wobble = 0.25 * MM * np.sin(q[:, 1] * rng.uniform(500, 1200) + rng.uniform(0, 6.3))
        distance = q[:, 0] - (offset + rng.normal() * 0.3) * MM * bow - wobble
        width = 0.009 * rng.uniform(0.6, 1.1)
        fade = visible * np.exp(-((np.abs(q[:, 1] - rng.normal() * 0.001) / width) ** 3))
        out.line(rows, distance, along, 0.33 * MM, amount * rng.uniform(0.7, 1.2) * fade, WRINKLE, R_WRINKLE, 0.28 * MM)


def _creases(out, rows, q, up, along, lines, strength, rng) -> None:
    """Straight folds across the palm's side of a joint."""
    visible = _step(-up, -0.4, 0.2) * strength
    for offset, amount in lines:
        tilt = rng.normal() * 0.05
        wobble = 0.3 * MM * np.sin(q[:, 1] * rng.uniform(250, 600) + rng.uniform(0, 6.3))
        distance = q[:, 0] - (offset + rng.normal() * 0.25) * MM - tilt * q[:, 1] - wobble
        out.line(rows, distance, along, 0.34 * MM, amount * rng.uniform(0.8, 1.1) * visible, CREASE, R_CREASE, 0.4 * MM)
        # The flesh bulges beside a fold: a broad, shallow valley.
        out.line(rows, distance, along, 1.7 * MM, amount * 0.6 * visible, None, R_CREASE, 0.45 * MM)


# ----------------------------------------------------------------------------------------------- palm and back


class _Plane:
    """The palm's plane, seen from above: (towards the middle knuckle, from little to index knuckle) -> metres."""

    def __init__(self, anatomy: Anatomy) -> None:
        index, middle, _, little = (anatomy.joints[f.start][[0, 2]] for f in FINGER_CHAINS)
        self.wrist, self.up, self.side = anatomy.joints[0][[0, 2]], middle - anatomy.joints[0][[0, 2]], index - little
        self.centre = (middle - little) @ self.side / (self.side @ self.side)

    def __call__(self, uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        u, v = uv[:, :1], uv[:, 1:]
        return self.wrist + u * self.up + (v - self.centre) * self.side * (0.62 + 0.38 * np.clip(u, 0, 1))


def _curve(points: Float[np.ndarray, "n 2"], steps: int = 60) -> Float[np.ndarray, "m 2"]:
    """A smooth curve through points (Catmull-Rom)."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, len(points) - 1 - 1e-9, steps)
    k, f = t.astype(int), (t % 1)[:, None]
    a, b, c, d = (p[k + i] for i in range(4))
    return 0.5 * (2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3)


def _strokes(out, rows, curves, width, paint, relief, depth, visible) -> None:
    """Draw (amount, curve) pairs onto the plane of the palm, each fading out at its ends."""
    dense, amounts = [], []
    for amount, curve in curves:
        t = np.linspace(0, 1, 4 * len(curve))
        dense.append(np.stack([np.interp(t, np.linspace(0, 1, len(curve)), c) for c in curve.T], 1))
        amounts.append(amount * np.clip(7 * np.minimum(t, 1 - t), 0.25, 1))
    dense, amounts = np.concatenate(dense), np.concatenate(amounts)
    flat = out.skin.points[rows][:, [0, 2]]
    distance, nearest = cKDTree(dense).query(flat, distance_upper_bound=4 * np.hypot(width, out.footprint))
    hit = np.isfinite(distance)
    rows, distance, nearest = rows[hit], distance[hit], nearest[hit]
    away = (flat[hit] - dense[nearest]) / np.maximum(distance, 1e-9)[:, None]
    direction = np.stack([away[:, 0], 0 * distance, away[:, 1]], 1)
    out.line(rows, distance, direction, width, amounts[nearest] * visible[hit], paint, relief, depth)


def _palm(out: Detail, anatomy: Anatomy, rng: np.random.Generator) -> None:
    skin, plane = out.skin, _Plane(anatomy)
    knuckle = skin.weights[:, [0, 1, 4, 7, 10, 13, 14]].sum(1)
    rows = np.flatnonzero((knuckle > 0.5) & (skin.normals[:, 1] < 0.15))
    visible = _step(-skin.normals[rows, 1], -0.1, 0.35)
    great = []
    for amount, points in PALM_LINES:
        jitter = rng.normal(size=(len(points), 2)) * [0.02, 0.03]
        great.append((amount * rng.uniform(0.75, 1.1), plane(_curve(np.array(points) + jitter))))
    _strokes(out, rows, great, 0.45 * MM, CREASE, R_CREASE, 0.4 * MM, visible)
    _strokes(out, rows, great, 2.2 * MM, None, R_CREASE, 0.7 * MM, visible)
    fine = []
    for _ in range(34):
        start = np.array([rng.uniform(0.05, 1.05), rng.uniform(-0.2, 1.25)])
        turn = rng.normal() * 0.5 + (rng.random() < 0.35) * 1.5
        step = rng.uniform(0.06, 0.16) * np.array([np.cos(turn), np.sin(turn)])
        points = start + np.outer(np.arange(4), step) + rng.normal(size=(4, 2)) * 0.012
        fine.append((rng.uniform(0.12, 0.42), plane(_curve(points, 16))))
    _strokes(out, rows, fine, 0.33 * MM, CREASE, R_CREASE, 0.22 * MM, visible)
    wrist = [(0.8, plane(_curve(np.array([(u, -0.2), (u + 0.01, 0.4), (u, 1.1)])))) for u in (0.03, -0.05)]
    _strokes(out, rows, wrist, 0.5 * MM, CREASE, R_CREASE, 0.35 * MM, visible)
    # Red where the palm rests: the balls of thumb and little finger and below the fingers.
    for (u, v), reach, amount in (((0.35, 1.05), 0.017, 0.45), ((0.4, -0.05), 0.016, 0.4), ((1.05, 0.5), 0.02, 0.3)):
        flat = skin.points[rows][:, [0, 2]] - plane(np.array([[u, v]]))
        out.spot(rows, BLUSH, amount * visible * np.exp(-(flat**2).sum(1) / reach**2))


def _dorsum(out: Detail, anatomy: Anatomy, rng: np.random.Generator) -> None:
    skin, plane = out.skin, _Plane(anatomy)
    knuckle = skin.weights[:, [0, 1, 4, 7, 10, 13]].sum(1)
    rows = np.flatnonzero((knuckle > 0.5) & (skin.normals[:, 1] > -0.1))
    visible = _step(skin.normals[rows, 1], 0.1, 0.6)
    across = [
        (anatomy.joints[f.start][[0, 2]] - anatomy.joints[FINGER_CHAINS[3].start][[0, 2]]) @ plane.side
        for f in FINGER_CHAINS
    ]
    across = np.array(across) / (plane.side @ plane.side)
    tendons = []
    for v in across:
        points = np.array([(0.22, 0.5 + 0.45 * (v - 0.5)), (0.6, 0.5 + 0.75 * (v - 0.5)), (0.9, v), (1.0, v)])
        tendons.append((rng.uniform(0.7, 1.1), plane(_curve(points))))
    points = np.array([(0.12, 1.15), (0.35, 1.3), (0.55, 1.42)])  # the long extensor of the thumb
    tendons.append((0.8, plane(_curve(points))))
    _strokes(out, rows, tendons, 1.9 * MM, None, R_TENDON, -1.1 * MM, visible)
    veins = []
    between = (across[:-1] + across[1:]) / 2
    for v in between:
        u = 0.92 + 0.05 * rng.normal()
        path = [(u, v)]
        for _ in range(4):
            u, v = u - rng.uniform(0.14, 0.24), v + rng.normal() * 0.1
            path.append((u, v))
        veins.append((rng.uniform(0.6, 1.0), plane(_curve(np.array(path)))))
        fork = np.array(path[1]), np.array(path[1]) + [0.16, rng.choice((-0.2, 0.2))]
        veins.append((0.7, plane(_curve(np.stack([fork[0], 0.5 * (fork[0] + fork[1]) + 0.02, fork[1]]), 20))))
    link = np.array([(0.5 + 0.06 * rng.normal(), v) for v in np.linspace(between[2], between[0], 5)])
    veins.append((0.8, plane(_curve(link + rng.normal(size=link.shape) * 0.04))))
    _strokes(out, rows, veins, 1.2 * MM, VEIN, R_VEIN, -0.55 * MM, visible)


# --------------------------------------------------------------------------------------------------------- nails


def _nail(out: Detail, nail: Nail) -> None:
    skin = out.skin
    chain = next(c for c in CHAINS if nail.joint == c.stop - 1)
    rows = np.flatnonzero((skin.weights[:, chain.stop - 1] > 0.3) & (skin.normals @ nail.frame[2] > -0.1))
    q, up = (skin.points[rows] - nail.origin) @ nail.frame.T, skin.normals[rows] @ nail.frame[2]
    s, x = (q[:, 0] - nail.start) / nail.length, (q[:, 1] - nail.middle) / nail.half
    body = np.where(s < 0.5, np.abs(2 * s - 1) ** 2.6, np.abs(2 * s - 1) ** 3.5)
    radius = (np.abs(x) ** 2.8 + body) ** (1 / 3)
    inside = (1 - radius) * nail.half  # m, signed, about
    soft = np.hypot(0.25 * MM, 0.5 * out.footprint)
    plate = _step(inside, -soft, soft) * _step(up, 0.0, 0.2)
    out.paint[rows, PLATE] = plate
    for paint in (CREASE, WRINKLE, BLUSH, DARK):
        out.paint[rows, paint] *= 1 - plate
    out.slope[rows] *= (1 - plate)[:, None, None]
    edge = _step(s, 0.9 - soft / nail.length, 0.9 + soft / nail.length)
    moon = 1 - np.hypot(x / 0.62, s / 0.24)
    out.paint[rows, WHITE] = plate * np.maximum(edge, 0.35 * _step(moon, -0.1, 0.3))
    rim = _step(0.8 - s, 0.0, 0.2) * _step(up, -0.1, 0.2)
    blurred = np.hypot(0.3 * MM, 0.45 * out.footprint)
    fold = np.exp(-0.5 * (inside / blurred) ** 2) * (0.3 * MM / blurred) * rim
    out.paint[rows, GROOVE] = fold
    away = -np.sign(inside)[:, None] * (
        np.sign(x)[:, None] * np.abs(x)[:, None] ** 2 * nail.frame[1] + np.sign(s - 0.5)[:, None] * nail.frame[0]
    )
    out.slope[rows, R_NAIL] += (0.9 * fold * np.abs(inside) / blurred)[:, None] * away
    # The plate is curved across, more than the skin that carries it.
    out.slope[rows, R_NAIL] += (-0.35 * plate * x)[:, None] * nail.frame[1]


def _step(value: Float[np.ndarray, "*n"], low: Number, high: Number) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
