"""Where the camera stands: view over the whole sphere, distance, focal length, and the crop as a hand detector cuts it.

A sample IS a square crop, so the camera is the crop's: focal length and principal point in units of its side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..config import VirtualConfig
from ..hand.anatomy import turn
from ..rng import Draws

CANDIDATES = 6
MAX_CUT_FRACTION = 0.35  # of the box, the most that a border cuts off
ARM_AT_LENS_COSINE = -0.72  # cosine beyond which the forearm, pointing at the camera, would cover the hand
FINGERS_UP = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])  # back of the hand to the camera, fingers to the left
AXES = np.eye(3)


@dataclass(frozen=True, eq=False)
class Camera:
    rotation: Float[np.ndarray, "b 3 3"]  # camera from the hand's rest frame
    root: Float[np.ndarray, "b 3"]  # m, the wrist in the camera
    pinhole: Float[np.ndarray, "b 4"]  # f, f, cx, cy in units of the crop's side


def sample(rng: Draws, config: VirtualConfig, joints: Float[np.ndarray, "b 21 3"]) -> Camera:
    """Cameras for hands with `joints` (m, wrist-relative, rest frame)."""
    rotation = _view(rng, config)
    seen = joints @ rotation.transpose(0, 2, 1)
    distance = rng.log_uniform(*config.distance)
    root = np.stack([0 * distance, 0 * distance, distance], -1) - seen.mean(1)
    uv = seen + root[:, None]
    uv = uv[..., :2] / uv[..., 2:]
    low, high = uv.min(1), uv.max(1)
    # An end-on hand is small in its own box: a detector's box has a least size, here that of a fist.
    side = np.maximum((high - low).max(-1), 0.07 / distance)
    focal = rng.uniform(low=config.fill[0], high=config.fill[1]) / side
    room = np.maximum(1.04 - (high - low) * focal[:, None], 0.04) / 2
    centre = 0.5 + room * rng.uniform(2, low=-1, high=1) * config.offset * rng.uniform(1)
    centre = _cut(rng, config, centre, (high - low) * focal[:, None])
    principal = centre - focal[:, None] * (low + high) / 2
    return Camera(rotation, root, np.concatenate([focal[:, None], focal[:, None], principal], 1))


def _cut(
    rng: Draws, config: VirtualConfig, centre: Float[np.ndarray, "b 2"], size: Float[np.ndarray, "b 2"]
) -> Float[np.ndarray, "b 2"]:
    """Where boxes of `size` stand, of the crop's side, once some of them stick out at one of the four borders."""
    beyond, border = rng.uniform(low=0.03, high=MAX_CUT_FRACTION), np.sign(rng.uniform(low=-1, high=1))
    moved, row, axis = centre.copy(), np.arange(len(centre)), rng.choice((1, 1))
    moved[row, axis] = 0.5 + border * (0.5 + (beyond - 0.5) * size[row, axis])
    return np.where(rng.chance(config.truncated)[:, None], moved, centre)


def _view(rng: Draws, config: VirtualConfig) -> Float[np.ndarray, "b 3 3"]:
    """The first of a few rotations that does not hold the forearm into the lens."""
    n = CANDIDATES
    tilt_axis = rng.uniform(n, high=2 * np.pi)
    tilt = np.radians(config.view_tilt) * rng.normal(n)
    axis = np.stack([np.cos(tilt_axis), np.sin(tilt_axis), 0 * tilt_axis], -1)
    flip = np.pi * rng.chance(0.55, n)
    spin = rng.uniform(n, low=-np.pi, high=np.pi)
    plausible = turn(AXES[2], spin) @ turn(axis, tilt) @ turn(AXES[1], flip) @ FINGERS_UP
    uniform = uniform_rotations(rng, n)
    views = np.where(rng.chance(config.view_uniform)[:, None, None, None], uniform, plausible)
    towards = views[..., 2, 0]  # the forearm's axis along the view
    chosen = np.where(
        (towards > ARM_AT_LENS_COSINE).any(1), (towards > ARM_AT_LENS_COSINE).argmax(1), towards.argmax(1)
    )
    return views[np.arange(len(views)), chosen]


def uniform_rotations(rng: Draws, n: int) -> Float[np.ndarray, "b n 3 3"]:
    """`n` rotations for each sample, uniform over all."""
    q = rng.normal(n, 4)
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return np.stack(rows, -1).reshape(*w.shape, 3, 3)
