"""A cup with a handle, in a hand that closes round it, else in the air near the hand."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ...rng import Draws
from .. import grasp
from ..parts import MeshPart, PartShape
from ..solids import bent_tube, revolve

CUP_AROUND = 20
WALL = 0.92  # inner radius, of the outer one
# (radius, height) of the cup's rings, of its radius and half height: drink, inside, rim, outside, foot
INSIDE = ((0, 0.7), (WALL, 0.7), (WALL, 0.71), (WALL, 0.97))
OUTSIDE = ((0.96, 1), (1, 0.97), (1, 0.6), (1, -0.6), (0.97, -0.97), (0.9, -1), (0, -1))
DRINK = 2 * CUP_AROUND  # vertices of the drink, the first ones
BODY, BODY_FACES = revolve((*INSIDE, *OUTSIDE), CUP_AROUND)
ANGLES = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)
PATH = np.stack([0.95 + 0.55 * np.cos(ANGLES), 0 * ANGLES, 0.6 * np.sin(ANGLES)], 1)
HANDLE, HANDLE_FACES = bent_tube(PATH, 0.1, 8, np.array([0.0, 1, 0]))
POINTS = np.concatenate([BODY, HANDLE])
UV = 0.04 * np.stack([POINTS[:, 2], np.arctan2(POINTS[:, 1], POINTS[:, 0])], 1)
CUP = PartShape("cup", "object", np.concatenate([BODY_FACES, HANDLE_FACES + len(BODY)]), UV, np.zeros(len(POINTS)))
MIN_RADIUS_M = 0.024  # m, radius of a cup


def sample(rng: Draws, joints: Float[np.ndarray, "b 21 3"]) -> MeshPart:
    """A cup for each posed hand; see `base`."""
    radius, stout = rng.uniform(low=0.03, high=0.043), rng.uniform(low=0.95, high=1.4)
    held = grasp.enclose(joints, grasp.CYLINDER)
    held = held.where(held.held & (held.radius > MIN_RADIUS_M))
    place = held.otherwise(grasp.clear_of(rng, joints, np.stack([1.6 * radius, 1.6 * radius, radius * stout], 1)))
    radius = np.where(held.held, held.radius, radius)
    turn = rng.uniform(high=2 * np.pi)  # of the handle about the cup
    c, s, zero = np.cos(turn), np.sin(turn), 0 * turn
    about = np.stack([c, -s, zero, s, c, zero, zero, zero, zero + 1], 1).reshape(-1, 3, 3)
    size = np.stack([radius, radius, radius * stout], 1)[:, None]
    points = (POINTS * size) @ about.transpose(0, 2, 1)
    glaze, drink = rng.uniform(1, 3), rng.uniform(1, 3) * [0.3, 0.2, 0.1]
    pale = rng.chance(0.5)[:, None, None]
    glaze = np.where(pale, 0.75 + 0.2 * glaze, glaze) ** 2
    outside = (np.abs(POINTS[:, 2:]) < 0.62) & (np.arange(len(POINTS)) < len(BODY))[:, None]
    band = rng.chance(0.4)[:, None, None] & outside
    colours = np.where(band, rng.uniform(1, 3) ** 2, glaze)
    colours[:, :DRINK] = drink
    shine = rng.log_uniform(0.8, 3.5, 1) * np.ones(len(POINTS))
    return MeshPart(CUP, place.to_hand(points), colours.clip(0.01, 0.9), shine)
