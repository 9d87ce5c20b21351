"""Paint of the render mesh: skin, palm, blush, nails, darker creases; and how glossy each vertex is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .detail import bump, digit_fields, displacement, nail, smoothstep
from .primitives import Points, Values
from .surface import Hand

Colours = Float[np.ndarray, "n 3"]
SKIN = np.array([0.845, 0.635, 0.535])
PALM = np.array([0.90, 0.675, 0.60])
NAIL, LUNULA, NAIL_EDGE = np.array([0.875, 0.66, 0.60]), np.array([0.93, 0.82, 0.78]), np.array([0.93, 0.86, 0.79])
GLOSS, NAIL_GLOSS = 0.085, 0.14


class Masks(NamedTuple):
    """How much each vertex belongs to what, about 0 to 1."""

    blush: Values
    nail: Values
    lunula: Values
    nail_edge: Values


def colours(hand: Hand, x: Points, normals: Points) -> tuple[Colours, Values]:
    """RGB in [0, 1] and gloss of points on the skin at rest (hand frame, mm)."""
    palm = smoothstep(-normals[:, 2], -0.35, 0.5)
    masks = _masks(hand, x, normals)
    g = hand.scale
    thenar = np.exp(-(((x - np.array([38, 24, -26.0]) * g) / (np.array([26, 18, 16.0]) * g)) ** 2).sum(1))
    blush = masks.blush + 0.35 * palm * thenar
    c = SKIN * (1 - palm[:, None]) + PALM * palm[:, None]
    c = c * (1 - np.clip(blush, 0, 1)[:, None] * np.array([0.02, 0.13, 0.13]))
    c = _shade_relief(c, displacement(hand, x), masks.nail)
    paint = NAIL + masks.lunula[:, None] * 0.10 * (LUNULA - NAIL) * 4 + masks.nail_edge[:, None] * (NAIL_EDGE - NAIL)
    c = c * (1 - masks.nail[:, None]) + np.clip(paint, 0, 0.93) * masks.nail[:, None]
    mottle = np.sin(x[:, 0] / 7 + 1.3 * np.sin(x[:, 1] / 9)) * np.sin(x[:, 1] / 6 + x[:, 2] / 5)
    c = c * (1 + 0.018 * mottle[:, None] * np.array([-0.5, 1, 1]))
    return np.clip(c, 0, 1), np.full(len(x), GLOSS) + NAIL_GLOSS * masks.nail


def _masks(hand: Hand, x: Points, normals: Points) -> Masks:
    blush, nails, lunula, edge = (np.zeros(len(x)) for _ in range(4))
    for name, at in digit_fields(hand, x).items():
        m, p, q = hand.stations[name]
        tip = hand.digit[name].tip
        knuckle = 0.35 * bump(at.t - p, 6) * smoothstep(at.n, 0, 5) if name != "thumb" else 0
        last = 0.25 * bump(at.t - q, 5) * smoothstep(at.n, 0, 4)
        blush += at.near * (0.55 * smoothstep(at.t, tip - 15, tip - 3) + knuckle + last)
        if name != "thumb":
            blush += 0.3 * at.near * bump(at.t - m, 8) * smoothstep(normals[:, 2], 0, 0.6)
        outline, up, s = nail(hand, name, at)
        on = at.near * up * smoothstep(at.t, q + 2, q + 4)
        nails = np.maximum(nails, on * smoothstep(outline, 1.03, 0.93))
        middle = smoothstep(np.abs(at.s) / at.half_width, 0.6, 0.3)
        lunula = np.maximum(lunula, on * smoothstep(s, 0.30, 0.18) * middle)
        edge = np.maximum(edge, on * smoothstep(s, 0.86, 0.92))
    return Masks(blush, nails, lunula, edge)


def _shade_relief(c: Colours, relief: Values, nails: Values) -> Colours:
    """Grooves are darker and redder, ridges a little paler."""
    groove = np.clip(relief, -0.3, 0.8)
    groove = np.where(nails > 0.2, np.clip(groove, 0, 0.3), groove)
    c = c * (1 - np.clip(groove, 0, 1)[:, None] * np.array([0.15, 0.25, 0.27]))
    return c * (1 + 0.10 * np.clip(-groove, 0, 0.4)[:, None] * np.array([-0.3, -0.1, 0.1]))
