"""The forearm of the render mesh: from the open wrist to the elbow, sewn to the hand's rim.

Kept apart from the hand's own arrays (arm_*), since the virtual images bend an arm of their own at the wrist. Length
and girth are the means of men and women in ANSUR II (see `population`): 277 mm from wrist to elbow for a hand of
190 mm; 287 mm around the flexed muscle, of which a relaxed arm has a little less.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.interpolate import PchipInterpolator

from .anatomy import HAND_LENGTH, WRIST_PLANE

Arrays = dict[str, np.ndarray]
RINGS = 26
LENGTH = 277.0 + WRIST_PLANE  # mm beyond the hand's skin
STATIONS = (0, 0.1, 0.3, 0.5, 0.7, 0.85, 1.0)
HALF_WIDTH = (28.4, 28.0, 31.0, 37.5, 42.0, 42.0, 39.0)  # mm
HALF_DEPTH = (16.5, 18.0, 23.0, 30.0, 36.0, 38.0, 38.0)
MORPH = 0.14  # share of the length over which the wrist's own outline gives way to ellipses


def arrays(hand: Arrays, rim: Bool[np.ndarray, "v"]) -> Arrays:
    """arm_v, arm_faces (they number hi_v, then arm_v), arm_color, arm_shapedirs in the asset frame, m."""
    ring = _rim_loop(hand["hi_faces"])
    if set(ring) != set(np.flatnonzero(rim)):
        raise ValueError("the render mesh has another open end than its wrist")
    points = hand["hi_v"][ring].astype(float)
    centre = points.mean(0)
    share = np.linspace(0, 1, RINGS + 1)[1:]
    vertices = np.concatenate([_ring(points - centre, s) + centre for s in share])
    directions = hand["hi_shapedirs"][ring].astype(float)
    middle = directions.mean(0)
    wide = np.linalg.norm((vertices.reshape(RINGS, -1, 3) - centre)[..., 1:], axis=-1)
    wide /= np.linalg.norm((points - centre)[:, 1:], axis=-1)
    moved = middle + (directions - middle) * wide[..., None, None]
    grow = _longer(hand)  # of the hand's length, per coefficient
    moved[..., 0, :] += share[:, None, None] * LENGTH * 1e-3 * grow
    count = len(hand["hi_v"])
    return {
        "arm_v": vertices.astype(np.float32),
        "arm_faces": _faces(ring, count).astype(np.int32),
        "arm_color": np.tile(hand["hi_color"][ring], (RINGS, 1)).astype(np.float32),
        "arm_shapedirs": moved.reshape(-1, 3, moved.shape[-1]).astype(np.float16),
    }


def whole(hand: Arrays) -> tuple[Float[np.ndarray, "v 3"], Int64[np.ndarray, "f 3"]]:
    """The render mesh with its forearm."""
    faces = np.concatenate([hand["hi_faces"], hand["arm_faces"]]).astype(np.int64)
    return np.concatenate([hand["hi_v"], hand["arm_v"]]).astype(float), faces


def _ring(outline: Float[np.ndarray, "n 3"], share: float) -> Float[np.ndarray, "n 3"]:
    """The arm's outline at a share of its length (m, asset frame, round the wrist's centre)."""
    angle = np.arctan2(outline[:, 1] / HALF_DEPTH[0], outline[:, 2] / HALF_WIDTH[0])
    width, depth = (1e-3 * float(PchipInterpolator(STATIONS, y)(share)) for y in (HALF_WIDTH, HALF_DEPTH))
    ellipse = np.stack([0 * angle, depth * np.sin(angle), width * np.cos(angle)], 1)
    t = min(share / MORPH, 1.0)
    blend = t * t * (3 - 2 * t)
    out = (1 - blend) * outline + blend * ellipse
    out[:, 0] = 1e-3 * LENGTH * share
    return out


def _longer(hand: Arrays) -> Float[np.ndarray, "10"]:
    """Relative change of the hand's length along each shape direction."""
    tip = hand["v_template"][:, 0].argmin()
    reach = hand["shapedirs"][tip, 0] - hand["shapedirs"][hand["wrist_loop"], 0].mean(0)
    return -1e3 * reach / HAND_LENGTH


def _faces(ring: Int64[np.ndarray, "n"], count: int) -> Int64[np.ndarray, "f 3"]:
    n = len(ring)
    rows = np.concatenate([ring[None], count + np.arange(RINGS * n).reshape(RINGS, n)])
    a, b = rows[:-1], np.roll(rows[:-1], -1, 1)
    c, d = rows[1:], np.roll(rows[1:], -1, 1)
    return np.concatenate([np.stack([b, a, d], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def _rim_loop(faces: Int64[np.ndarray, "f 3"]) -> Int64[np.ndarray, "n"]:
    """The open boundary in the direction of its faces."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    present = set(map(tuple, edges.tolist()))
    following = {a: b for a, b in present if (b, a) not in present}
    loop = [min(following)]
    while (vertex := following[loop[-1]]) != loop[0]:
        loop.append(vertex)
    return np.array(loop)
