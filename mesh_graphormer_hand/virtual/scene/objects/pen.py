"""A pen between thumb and finger or in a fist, else in the air near the hand."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ...rng import Draws
from .. import grasp
from ..parts import MeshPart, PartShape
from ..solids import revolve

PEN_AROUND = 12
# (radius, height) of the pen's rings, of its own radius and length, from the blunt end down to the tip
BLUNT_END = ((0, 1), (0.8, 0.99), (0.9, 0.97), (1, 0.96))
BARREL = ((1, 0.62), (1, 0.61), (1, 0.12), (0.75, 0.09), (0.2, 0.015), (0, 0))
CAP, TIP = 0.615, 0.1  # heights above which the cap and below which the tip has a colour of its own
MAX_HOLE_M = 0.013  # radius of a fist that holds a pen
GRIP = 0.27  # height at which fingers hold it
POINTS, FACES = revolve((*BLUNT_END, *BARREL), PEN_AROUND)
HEIGHT = POINTS[:, 2]
PEN = PartShape("pen", "object", FACES, 0.05 * POINTS[:, ::2], np.zeros(len(POINTS)))


def sample(rng: Draws, joints: Float[np.ndarray, "b 21 3"]) -> MeshPart:
    """A pen for each posed hand; see `base`."""
    length, radius = rng.uniform(low=0.115, high=0.155), rng.uniform(low=0.0035, high=0.0055)
    half = np.stack([radius, radius, (1 - GRIP) * length], 1)
    fist = grasp.enclose(joints, grasp.CYLINDER)
    held = grasp.pinch(rng, joints).otherwise(fist.where(fist.held & (fist.radius < MAX_HOLE_M)))
    place = held.otherwise(grasp.clear_of(rng, joints, half))
    radius = np.minimum(radius, np.maximum(place.radius, 0.003))
    points = (POINTS - [0, 0, GRIP]) * np.stack([radius, radius, length], 1)[:, None]
    body, cap, tip = (rng.uniform(1, 3) ** 2 for _ in range(3))
    tip = np.where(rng.chance(0.6)[:, None, None], 0.5, tip)  # of metal
    cap = np.where(rng.chance(0.5)[:, None, None], body, cap)
    high, low = (HEIGHT > CAP)[:, None], (HEIGHT < TIP)[:, None]
    colours = np.where(low, tip, np.where(high, cap, body)).clip(0.01, 0.9)
    shine = rng.log_uniform(0.5, 3.0, 1) * np.ones(len(POINTS))
    return MeshPart(PEN, place.to_hand(points), colours, shine)
