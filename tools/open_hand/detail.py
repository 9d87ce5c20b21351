"""Relief of the render mesh: nails, finger creases, palm lines, knuckle wrinkles, tendons and veins.

`displacement` says by how much the skin recedes (+) or rises (-), in mm, so that a field plus its displacement is the
detailed hand. Takes a `surface.Hand` for its sweeps and stations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from .primitives import Points, Values

if TYPE_CHECKING:
    from .surface import Hand

# (u, v) control points in mm of the average hand, depth, width
PALM_LINES = [
    ([(63, -45), (69, -30), (73.5, -15), (78, 1), (88, 12)], 0.42, 0.85),  # heart
    ([(74, 38), (69, 24), (60, 6), (51, -12), (44, -27)], 0.37, 0.85),  # head
    ([(75, 38), (70, 25), (58, 11), (42, 3), (26, 0.5), (12, 4)], 0.52, 0.95),  # life, around the thenar
    ([(20, -8), (42, -9), (64, -6), (78, -3)], 0.16, 0.9),  # fate, faint
]
VEINS = [
    [(-16, -12), (12, -14), (36, -20), (56, -23), (70, -23.5)],
    [(12, -14), (34, -6), (56, -4), (72, -5)],
    [(-16, 14), (10, 18), (34, 15), (58, 14.5), (74, 15)],
    [(34, 15), (46, 5), (60, -3.5)],
]
TENDONS = ((1, (6, 7)), (4, (4, 2)), (10, (4, -3)), (7, (6, -8)))  # knuckle, start of its extensor tendon
KNUCKLE_WRINKLES = ((-5.2, 0.16), (-2.9, 0.30), (-0.6, 0.36), (1.7, 0.34), (4.2, 0.22))  # offset, depth
LAST_JOINT_WRINKLES = ((-2.6, 0.16), (-0.8, 0.24), (1.0, 0.24), (2.8, 0.14))


class DigitField(NamedTuple):
    """Where points lie on one digit: along, across, dorsal of its axis (mm), half width there, nearness in [0, 1]."""

    t: Values
    s: Values
    n: Values
    half_width: Values
    near: Values


def bump(x: Values, sigma: float) -> Values:
    """A Gaussian of height one."""
    return np.exp(-0.5 * (x / sigma) ** 2)


def smoothstep(x: Values, low: float, high: float) -> Values:
    """0 at `low`, 1 at `high` (which may be the smaller one), smooth between."""
    y = np.clip((x - low) / (high - low), 0, 1)
    return y * y * (3 - 2 * y)


def digit_fields(hand: Hand, x: Points) -> dict[str, DigitField]:
    """Digit -> where the points lie on it."""
    fields = {}
    for name, sweep in hand.digit.items():
        t, s, n = sweep.local(x)
        width = sweep.half_width(t)
        near = smoothstep(np.hypot(s, n), 1.7 * width, 1.35 * width) * smoothstep(t, sweep.start - 4, sweep.start + 4)
        fields[name] = DigitField(t, s, n, width, near)
    return fields


def nail(hand: Hand, name: str, at: DigitField) -> tuple[Values, Values, Values]:
    """Coordinates of a nail: 1 on its outline and less inside, 1 on the dorsal side, 0 at its root to 1 at its edge."""
    sweep, last = hand.digit[name], hand.stations[name][2]
    root, edge = last + 0.38 * (sweep.tip - last), sweep.tip - 0.7 * hand.scale
    middle = 0.5 * (root + edge)
    half_width = (0.76 if name != "thumb" else 0.78) * sweep.half_width(middle)
    half_length = 0.5 * (edge - root)
    outline = ((np.abs(at.t - middle) / half_length) ** 3.4 + (np.abs(at.s) / half_width) ** 3.4) ** (1 / 3.4)
    return outline, smoothstep(at.n, 0.6, 2.2), (at.t - root) / (edge - root)


def displacement(hand: Hand, x: Points) -> Values:
    """By how much the skin recedes (+) or rises (-) at points in the hand frame, mm."""
    d = np.zeros(len(x))
    for name, at in digit_fields(hand, x).items():
        d = _finger_creases(hand, name, at, d)
        d = _knuckle_wrinkles(hand, name, at, d)
        d += _nail_relief(hand, name, at)
    d = _palm_lines(hand, x, d)
    return _tendons_and_veins(hand, x, d)


def _finger_creases(hand: Hand, name: str, at: DigitField, d: Values) -> Values:
    g = hand.scale
    m, p, q = hand.stations[name]
    palmar = smoothstep(-at.n, -0.5 * g, 4.0 * g)
    wobble = 0.5 * np.sin(at.s / 3.1 + p) + 0.03 * at.s * at.s / g
    if name == "thumb":
        creases = [(q - 1.5, 0.5, 0.8), (q + 1.8, 0.4, 0.8), (p + 3, 0.35, 0.9)]  # place, depth, width
    else:
        short = 0.86 if name == "little" else 1
        creases = [(p - 1.6, 0.55, 0.75), (p + 1.8, 0.45, 0.75), (q - 0.2, 0.5, 0.75)]
        creases += [(m + 22.0 * short, 0.55, 0.9), (m + 25.0 * short, 0.25, 0.8)]
    for place, depth, width in creases:
        d += at.near * palmar * depth * bump(at.t - place + 0.35 * wobble, width)
    return d


def _knuckle_wrinkles(hand: Hand, name: str, at: DigitField, d: Values) -> Values:
    g = hand.scale
    _, p, q = hand.stations[name]
    dorsal = smoothstep(at.n, 1.5 * g, 5 * g)
    first = q if name == "thumb" else p
    for offset, depth in KNUCKLE_WRINKLES:
        line = bump(at.t - first - offset - 0.02 * np.sign(offset) * at.s * at.s, 0.62)
        d += at.near * dorsal * depth * line * smoothstep(np.abs(at.s), 6.8 * g, 4.2 * g)
    for offset, depth in LAST_JOINT_WRINKLES if name != "thumb" else ():
        d += at.near * dorsal * depth * bump(at.t - q - offset, 0.5) * smoothstep(np.abs(at.s), 6 * g, 3.5 * g)
    return d


def _nail_relief(hand: Hand, name: str, at: DigitField) -> Values:
    """A groove around the nail, the plate standing out of it, the fold of skin around both."""
    last, tip = hand.stations[name][2], hand.digit[name].tip
    outline, up, _ = nail(hand, name, at)
    distal = smoothstep(at.t, last + 0.20 * (tip - last), last + 0.28 * (tip - last))
    groove, plate = 0.38 * bump(outline - 1.04, 0.07), 0.22 * smoothstep(outline, 1.0, 0.9)
    return at.near * up * distal * (groove - plate - 0.18 * bump(outline - 1.22, 0.09))


def _palm_lines(hand: Hand, x: Points, d: Values) -> Values:
    g = hand.scale
    palmar = smoothstep(-x[:, 2], -2 * g, 4 * g)
    for points, depth, width in PALM_LINES:
        distance, s = _nearest_on_curve(np.array(points) * g, x[:, :2])
        ends = smoothstep(s, 0, 0.12) ** 0.5, smoothstep(s, 1.0, 0.85) ** 0.5
        d += palmar * depth * bump(distance, width) * ends[0] * ends[1]
    for u, depth in ((-3, 0.18), (1.5, 0.32)):  # wrist creases
        line = bump(x[:, 0] - u * g + 0.006 * (x[:, 1] + 2) ** 2, 0.9)
        d += palmar * depth * line * smoothstep(-x[:, 2], 5, 13)
    return d


def _tendons_and_veins(hand: Hand, x: Points, d: Values) -> Values:
    g = hand.scale
    dorsal = smoothstep(x[:, 2], 2 * g, 7 * g)
    for joint, start in TENDONS:
        start, knuckle = np.array(start), hand.joints[joint, :2]
        curve = np.array([start * g, 0.55 * start * g + 0.45 * knuckle, knuckle])
        distance, s = _nearest_on_curve(curve, x[:, :2])
        d -= dorsal * 0.75 * bump(distance, 1.9) * smoothstep(s, 0.1, 0.5) * smoothstep(s, 1.0, 0.9)
    meander = np.stack([0.8 * np.sin(x[:, 1] / 5), 1.3 * np.sin(x[:, 0] / 8.0) + 0.6 * np.sin(x[:, 0] / 3.7)], 1)
    for points in VEINS:
        distance, s = _nearest_on_curve(np.array(points) * g, x[:, :2] + meander)
        d -= dorsal * 0.24 * bump(distance, 1.5) * smoothstep(s, 1.0, 0.75) * smoothstep(x[:, 0], -8, 16)
    return d


def _nearest_on_curve(points: np.ndarray, x: np.ndarray, samples: int = 160) -> tuple[Values, Values]:
    """Distance (mm) to a smooth curve through `points`, and where along it (0 to 1) the nearest place is."""
    points = np.array(points, float)
    knots = np.r_[0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    s = np.linspace(0, knots[-1], samples)
    distance, nearest = cKDTree(CubicSpline(knots, points)(s)).query(x)
    return distance, (s / knots[-1])[nearest]
