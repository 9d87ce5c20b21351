"""A plain forearm, bare or sleeved, that continues the open end of the hand's skin.

Two tubes of rings: skin, and cloth a little outside of it. Positions are in the hand's rest frame, relative to the
wrist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ..config import VirtualConfig
from ..hand.anatomy import Anatomy, turn
from ..rng import Draws
from .parts import ABSENT, MeshPart, PartShape

AROUND, RINGS = 20, 20
LENGTH_M = 0.24  # m
STATIONS_M = np.concatenate([[-0.006, 0.0], np.linspace(0.008, LENGTH_M, RINGS - 2)])  # m along the arm
BEND_LENGTH_M = 0.05  # m over which the wrist bends
ANGLES_RAD = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
SLEEVE_SHINE = 0.25


@dataclass(frozen=True, eq=False)
class Forearm:
    bare: Float[np.ndarray, "b rings around 3"]  # m
    sleeve: Float[np.ndarray, "b rings around 3"]  # m, a point where there is none
    shade: Float[np.ndarray, "b rings around"]  # factor on the skin's colour
    cloth: Float[np.ndarray, "b rings around 3"]  # linear colour of the sleeve
    grain: Float[np.ndarray, "b"]  # how coarse the cloth is, 0 to 2

    def parts(self) -> list[MeshPart]:
        """The arm, whose colours are factors on the skin's, and the sleeve."""
        b, size = len(self.bare), RINGS * AROUND
        shade = np.broadcast_to(self.shade.reshape(b, size, 1), (b, size, 3))
        arm = MeshPart(FOREARM, self.bare.reshape(b, size, 3), shade, np.ones((b, size)))
        cloth = self.cloth.reshape(b, size, 3)
        return [arm, MeshPart(SLEEVE, self.sleeve.reshape(b, size, 3), cloth, np.full((b, size), SLEEVE_SHINE))]


def sample(rng: Draws, config: VirtualConfig, anatomy: Anatomy, shape: Float[np.ndarray, "b 10"]) -> Forearm:
    """Forearms for hands of `shape`."""
    flexion, deviation = np.radians(26) * rng.normal(), np.radians(11) * rng.normal()
    present, sleeved = rng.chance(config.forearm), rng.chance(config.sleeve)
    thickness = rng.uniform(low=0.002, high=0.016)
    edge = rng.uniform(low=-0.004, high=0.15)  # m along the arm, where the sleeve begins
    wobble = rng.normal(RINGS)
    centre, opening = _opening(anatomy, shape)
    points, frames = _axis(centre, flexion, deviation)
    swell = rng.uniform(low=0.3, high=0.75)[:, None] * np.clip(STATIONS_M / LENGTH_M, 0, 1) ** 1.2
    girth = np.where(STATIONS_M < 0, 0.97, 1 + swell)
    outline = _outline(opening) * girth[..., None, None]  # b rings around 3
    bare = points[:, :, None] + outline @ frames.swapaxes(-1, -2)
    ring = np.maximum(np.searchsorted(STATIONS_M, edge)[:, None] + np.arange(RINGS) - 1, 0)
    ring = np.maximum(ring, ring[:, 1:2]).clip(max=RINGS - 1)  # the first ring closes the sleeve's opening
    cover = thickness[:, None] * (1 + 0.12 * np.cumsum(0.5 * wobble, 1).clip(-2, 2))
    cover[:, 0] = 0.0005
    row = np.arange(len(ring))[:, None]
    inside = outline[row, ring]
    cloth = inside + cover[..., None, None] * inside / np.linalg.norm(inside, axis=-1, keepdims=True)
    sleeve = points[row, ring][:, :, None] + cloth @ frames[row, ring].swapaxes(-1, -2)
    bare = np.where(present[:, None, None, None], bare, ABSENT)
    sleeve = np.where((present & sleeved)[:, None, None, None], sleeve, ABSENT)
    return Forearm(bare, sleeve, _shade(rng), _cloth(rng), rng.uniform(high=2))


def _faces() -> Int64[np.ndarray, "f 3"]:
    """Faces of one tube, outward counter-clockwise."""
    ring, around = (k.ravel() for k in np.meshgrid(np.arange(RINGS - 1), np.arange(AROUND), indexing="ij"))
    after = (around + 1) % AROUND
    a, b = ring * AROUND + around, ring * AROUND + after
    c, d = a + AROUND, b + AROUND
    return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)]).astype(np.int64)


def _palm_side() -> Float[np.ndarray, "v"]:
    """How far each point belongs to the paler, palmar side, as on the hand at the wrist and less up the arm."""
    side = np.clip(0.5 - 0.9 * np.sin(ANGLES_RAD), 0, 1) * (1 - 0.5 * _ease(STATIONS_M / 2))[:, None]
    return side.reshape(-1)


def _uv(around_m: float) -> Float[np.ndarray, "v 2"]:
    """m along the arm, and `around_m` m for each radian around it."""
    along, angle = (m.ravel() for m in np.meshgrid(STATIONS_M, ANGLES_RAD, indexing="ij"))
    return np.stack([along, around_m * angle], 1)


def _opening(
    anatomy: Anatomy, shape: Float[np.ndarray, "b 10"]
) -> tuple[Float[np.ndarray, "b 3"], Float[np.ndarray, "b around 3"]]:
    """The open end of the hand's skin: its centre (m, relative to the wrist) and its outline round the centre."""
    if len(anatomy.wrist) == 0:  # no open end: an ellipse of a wrist's size at the wrist
        ellipse = np.stack([0 * ANGLES_RAD, 0.02 * np.sin(ANGLES_RAD), 0.028 * np.cos(ANGLES_RAD)], -1)
        return np.tile([0.01, 0.0, 0.0], (len(shape), 1)), np.tile(ellipse, (len(shape), 1, 1))
    middle = anatomy.wrist.mean(0)
    angle = np.arctan2(*(anatomy.wrist - middle).T[1:])
    order = np.argsort(angle)
    weights = np.stack(
        [np.interp(ANGLES_RAD, angle[order], row[order], period=2 * np.pi) for row in np.eye(len(angle))], 1
    )
    loop = anatomy.wrist + np.einsum("nck,bk->bnc", anatomy.wrist_shape, shape)
    loop = loop - (anatomy.joints[0] + shape @ anatomy.joint_shape[0].T)[:, None]
    centre = loop.mean(1)
    return centre, weights @ loop - centre[:, None]


def _outline(opening: Float[np.ndarray, "b around 3"]) -> Float[np.ndarray, "b rings around 3"]:
    """From the hand's own outline to an ellipse, rounder than the wrist, over the length of the bend."""
    half = (opening.max(1) - opening.min(1))[:, 1:] / 2
    circle = np.stack([0 * ANGLES_RAD, 1.2 * np.sin(ANGLES_RAD), np.cos(ANGLES_RAD)], -1)
    ellipse = circle * np.insert(half, 0, 0, 1)[:, None]
    return opening[:, None] + (ellipse - opening)[:, None] * _ease(STATIONS_M)[:, None, None]


def _ease(s: Float[np.ndarray, "*n"]) -> np.ndarray:
    t = np.clip((s - STATIONS_M[0]) / BEND_LENGTH_M, 0, 1)
    return t * t * (3 - 2 * t)


def _axis(
    centre: Float[np.ndarray, "b 3"], flexion: Float[np.ndarray, "b"], deviation: Float[np.ndarray, "b"]
) -> tuple[np.ndarray, np.ndarray]:
    """Ring centres (b, rings, 3) and frames (b, rings, 3, 3) of an arm that bends by two angles at the wrist."""
    angle = np.hypot(flexion, deviation)[:, None]
    axis = np.stack([0 * flexion, deviation, flexion], -1) / np.maximum(angle, 1e-9)
    frames = turn(axis[:, None], angle * _ease(STATIONS_M))
    along = frames[..., 0]  # the arm leaves the hand towards +x
    steps = along[:, 1:] * np.diff(STATIONS_M)[:, None]
    start = centre[:, None] + along[:, :1] * STATIONS_M[0]
    return np.concatenate([start, start + np.cumsum(steps, 1)], 1), frames


def _shade(rng: Draws) -> Float[np.ndarray, "b rings around"]:
    mottle = rng.normal(RINGS, AROUND) * 0.012
    return 1 + mottle


def _cloth(rng: Draws) -> Float[np.ndarray, "b rings around 3"]:
    coloured = np.where(rng.chance(0.6)[:, None], rng.uniform(3), rng.uniform(1))
    stripes = rng.uniform(2, 1, 1) * [[[2.5]], [[0]]] + np.round(rng.uniform(2, 1, 1) * [[[0]], [[5]]])
    wave = np.sin(stripes[:, 0] * np.arange(RINGS)[:, None] + np.round(stripes[:, 1]) * ANGLES_RAD)
    pattern = 1 + rng.uniform(high=0.4)[:, None, None] * wave
    return ((0.02 + 0.95 * coloured)[:, None, None] * pattern[..., None]).clip(0.02, 1) ** 2


_PALM, _TUBE = _palm_side(), _faces()
FOREARM = PartShape("forearm", "forearm", _TUBE, _uv(0.03), 1 - 0.8 * _PALM, _PALM)
SLEEVE = PartShape("sleeve", "sleeve", _TUBE, _uv(0.04), np.ones(RINGS * AROUND))
