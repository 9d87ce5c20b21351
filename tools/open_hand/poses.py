"""Poses: what the fingers of a hand usually do, as named poses, an anatomical sampler and principal components.

Angles are degrees. A finger: knuckle flexion, knuckle abduction (towards the thumb), middle and last joint flexion. The
thumb: base flexion, abduction and pronation, middle and last joint flexion. The thumb's contacts in NAMED were solved
for by least squares on the contact points. Joint limits are our own estimates.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from .anatomy import ASSET_FROM_HAND, CHAINS, FINGERS, Skeleton

Angles = dict[str, tuple[float, ...]]  # digit -> degrees
SAMPLES = 6000  # for the principal components

FOLDED = {"index": (80, 2, 102, 64), "middle": (84, 0, 103, 64), "ring": (85, -1, 100, 60), "little": (82, -3, 92, 54)}
NAMED: dict[str, Angles] = {
    "fist": {**FOLDED, "thumb": (30, 37, 43, 50, 49)},
    "pinch": {
        "index": (60, 0, 29, 12),
        "middle": (30, 0, 38, 22),
        "ring": (22, 0, 32, 20),
        "little": (16, 0, 28, 18),
        "thumb": (44, 14, 54, 0, 6),
    },
    "point": {**FOLDED, "index": (2, 0, 4, 2), "thumb": (36, 41, 40, 53, 42)},
    "ok": {
        "index": (56, -2, 35, 14),
        "middle": (16, 0, 18, 10),
        "ring": (6, -2, 10, 6),
        "little": (-2, -6, 8, 5),
        "thumb": (42, 13, 50, 0, 6),
    },
    "thumbs_up": {**FOLDED, "thumb": (-22, 10, 0, -8, -14)},
    "spread": {
        "index": (-8, 10, -2, 0),
        "middle": (-8, 1, -2, 0),
        "ring": (-8, -8, -2, 0),
        "little": (-8, -14, 0, 0),
        "thumb": (-14, 0, 0, -6, -6),
    },
    "relaxed": {
        "index": (22, -4, 26, 14),
        "middle": (28, -1, 32, 18),
        "ring": (32, 2, 36, 20),
        "little": (34, 8, 36, 20),
        "thumb": (10, 10, 14, 8, 14),
    },
    "v_sign": {
        "index": (2, 9, 2, 1),
        "middle": (2, -8, 2, 1),
        "ring": (80, -1, 97, 58),
        "little": (80, -3, 90, 54),
        "thumb": (46, 39, 33, 48, 39),
    },
}
FAN = (8, 1, -6, -12)  # degrees of abduction of an open hand's fingers
KNUCKLE, MIDDLE, LAST = (-25, 92), (-4, 110), (-5, 75)
ABDUCTION = (-16, 14)
THUMB_LIMITS = (-25, -25, -15, -12, -20), (45, 42, 52, 55, 75)
COUPLING = 0.66  # last joint flexion per middle joint flexion


def axis_angles(skeleton: Skeleton, angles: Angles) -> Float[np.ndarray, "16 3"]:
    """MANO's axis-angles (rad, asset frame) of a pose; digits that are not named stay at rest."""
    out = np.zeros((16, 3))
    for digit, degrees in angles.items():
        base, *hinges = CHAINS[digit]
        along, across, dorsal = skeleton.frames[base]
        flexion, abduction, *rest = np.radians(degrees)
        turn = Rotation.from_rotvec(abduction * dorsal) * Rotation.from_rotvec(flexion * across)
        if digit == "thumb":
            turn = turn * Rotation.from_rotvec(-rest.pop(0) * along)
        out[base] = turn.as_rotvec()
        for joint, angle in zip(hinges, rest, strict=True):
            out[joint] = angle * skeleton.frames[joint][1]
    return out @ ASSET_FROM_HAND.T


def sample(rng: np.random.Generator) -> Angles:
    """A random pose: named poses and mixtures of two, grasps, flat hands, or each finger for itself."""
    kind = rng.choice(["free", "grasp", "named", "flat"], p=[0.35, 0.30, 0.25, 0.10])
    draw, noise = {"named": (_named, 5), "grasp": (_grasp, 6), "flat": (_flat, 3), "free": (_free, 3)}[str(kind)]
    pose = draw(rng)
    for finger in FINGERS:
        jitter = rng.normal(0, noise, 4) * [1, 0.5, 1, 0.5]
        pose[finger] = _within_limits(np.array(pose[finger]) + jitter)
    thumb = np.array(pose["thumb"]) + rng.normal(0, noise, 5)
    pose["thumb"] = tuple(np.clip(thumb, *THUMB_LIMITS))
    return pose


def principal_components(skeleton: Skeleton, count: int = SAMPLES, seed: int = 0):
    """Mean (45,), orthonormal components (45, 45) in rows and their standard deviations (45,) of sampled poses, rad.

    The rank is 25 (hinge joints turn about one axis); the other rows are arbitrary fillers of zero deviation.
    """
    rng = np.random.default_rng(seed)
    poses = np.stack([axis_angles(skeleton, sample(rng))[1:] for _ in range(count)]).reshape(count, 45)
    mean = poses.mean(0)
    _, deviations, components = np.linalg.svd(poses - mean, full_matrices=False)
    sign = np.sign(components[np.arange(45), np.abs(components).argmax(1)])
    return mean, components * sign[:, None], deviations / np.sqrt(count)


def _within_limits(angles: np.ndarray) -> tuple[float, ...]:
    """Joint limits; the spread vanishes as the knuckle flexes, and the last joint follows the middle one."""
    knuckle, abduction, middle, last = angles
    knuckle = np.clip(knuckle, *KNUCKLE)
    abduction = np.clip(abduction, *ABDUCTION) * np.clip(1 - max(knuckle, 0) / 95.0, 0.08, 1)
    middle = np.clip(middle, *MIDDLE)
    return knuckle, abduction, middle, np.clip(0.7 * (COUPLING * middle) + 0.3 * last, *LAST)


def _named(rng: np.random.Generator) -> Angles:
    one, other = rng.choice(list(NAMED), 2)
    t = rng.random() * (rng.random() < 0.5)
    return {d: tuple((1 - t) * np.array(NAMED[one][d]) + t * np.array(NAMED[other][d])) for d in CHAINS}


def _grasp(rng: np.random.Generator) -> Angles:
    pose: Angles = {}
    closure, curl = rng.uniform(0, 1), rng.uniform(0.6, 1.2)
    for i, finger in enumerate(FINGERS):
        knuckle, middle = closure * 75 + 4 * i * closure, np.clip(closure * curl * 95, 0, 105)
        pose[finger] = (knuckle, FAN[i] * (1 - closure) * rng.uniform(-0.2, 1.2), middle, COUPLING * middle)
    o = rng.uniform(0, 1)  # opposition
    last = 10 + 35 * closure * rng.uniform(0.2, 1)
    pose["thumb"] = (5 + 35 * closure * o, 8 + 20 * o, 48 * o, 8 + 40 * closure * o, last)
    return pose


def _flat(rng: np.random.Generator) -> Angles:
    pose: Angles = {}
    for i, finger in enumerate(FINGERS):
        pose[finger] = (rng.normal(-3, 6), FAN[i] * rng.uniform(-0.4, 1.4), rng.uniform(-3, 10), rng.uniform(-2, 6))
    pose["thumb"] = tuple(
        rng.normal(mean, deviation) for mean, deviation in ((0, 12), (5, 14), (5, 8), (0, 10), (0, 12))
    )
    return pose


def _free(rng: np.random.Generator) -> Angles:
    pose: Angles = {}
    together = rng.uniform(0, 1)
    for finger in FINGERS:
        flexion = np.clip(0.55 * together + 0.45 * rng.uniform(0, 1), 0, 1)
        knuckle = np.clip(85 * flexion * rng.uniform(0.3, 1.15), -15, 90)
        middle = np.clip(105 * flexion * rng.uniform(0.3, 1.2), 0, 108)
        pose[finger] = (knuckle, rng.normal(0, 7), middle, COUPLING * middle)
    o = rng.uniform(-0.2, 1)
    base = 35 * o + rng.normal(0, 9)
    pose["thumb"] = (base, 5 + 20 * o, 45 * o, rng.uniform(-5, 45), rng.uniform(-12, 60))
    return pose
