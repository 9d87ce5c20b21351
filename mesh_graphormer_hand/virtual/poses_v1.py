"""The poses of the first hand, kept until the frozen test split is frozen anew; see `poses`.

Hand poses within anatomical limits: flexion couplings, spread that vanishes with flexion, thumb opposition.

Five families are mixed: free (random flexion with neighbours coupled), grasp (all digits close together), named
(gestures and mixes of two), flat (open hand) and digits (each finger straight, half bent or curled on its own). Of a
few candidates the first whose digits do not pass through each other is taken.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .anatomy import Anatomy
from .config import FAMILIES, VirtualConfig
from .draws import Draws

Fingers = Float[np.ndarray, "*b 4 4"]
Thumb = Float[np.ndarray, "*b 5"]
SPREAD = np.array([8.0, 1.0, -6.0, -12.0])  # of the open hand, index to little

# index, middle, ring, little, thumb (angles as in `anatomy`)
NAMED = {
    "fist": ((80, 2, 102, 64), (84, 0, 103, 64), (85, -1, 100, 60), (82, -3, 92, 54), (30, 37, 43, 50, 49)),
    "pinch": ((60, 0, 29, 12), (30, 0, 38, 22), (22, 0, 32, 20), (16, 0, 28, 18), (44, 14, 54, 0, 6)),
    "point": ((2, 0, 4, 2), (84, 0, 103, 64), (85, -1, 100, 60), (82, -3, 92, 54), (36, 41, 40, 53, 42)),
    "ok": ((56, -2, 35, 14), (16, 0, 18, 10), (6, -2, 10, 6), (-2, -6, 8, 5), (42, 13, 50, 0, 6)),
    "thumbs_up": ((80, 2, 102, 64), (84, 0, 103, 64), (85, -1, 100, 60), (82, -3, 92, 54), (-22, 10, 0, -8, -14)),
    "open_spread": ((-8, 10, -2, 0), (-8, 1, -2, 0), (-8, -8, -2, 0), (-8, -14, 0, 0), (-14, 0, 0, -6, -6)),
    "relaxed": ((22, -4, 26, 14), (28, -1, 32, 18), (32, 2, 36, 20), (34, 8, 36, 20), (10, 10, 14, 8, 14)),
    "v_sign": ((2, 9, 2, 1), (2, -8, 2, 1), (80, -1, 97, 58), (80, -3, 90, 54), (46, 39, 33, 48, 39)),
    "three": ((-2, 6, 4, 2), (-4, 0, 4, 2), (0, -6, 6, 3), (78, -3, 88, 50), (46, 30, 46, 40, 36)),
    "l_shape": ((0, 4, 4, 2), (80, 0, 100, 60), (82, -1, 98, 58), (80, -3, 90, 54), (-18, 0, 0, -6, -10)),
    "horns": ((0, 4, 4, 2), (80, 0, 100, 60), (82, -1, 98, 58), (0, -8, 4, 2), (40, 36, 40, 48, 42)),
    "shaka": ((78, 0, 98, 60), (80, 0, 100, 60), (80, -1, 98, 58), (-4, -14, 2, 2), (-20, 0, 0, -8, -10)),
    "hook": ((4, 0, 88, 56), (4, 0, 92, 58), (4, 0, 90, 56), (4, -2, 82, 50), (0, 14, 10, 10, 20)),
    "table_top": ((82, 2, 6, 4), (84, 0, 6, 4), (82, -1, 6, 4), (78, -3, 8, 4), (10, 26, 30, 5, 0)),
}
_NAMED_FINGERS = np.array([pose[:4] for pose in NAMED.values()], np.float64)
_NAMED_THUMB = np.array([pose[4] for pose in NAMED.values()], np.float64)

BASE, MIDDLE, END = (-28, 92), (-6, 112), (-8, 78)  # flexion limits of the fingers
SPREAD_LIMITS = (-20, 18)
THUMB_LOW, THUMB_HIGH = (-28, -26, -15, -18, -24), (48, 44, 56, 58, 80)


def sample(draws: Draws, config: VirtualConfig, anatomy: Anatomy) -> Float[np.ndarray, "b 16 3 3"]:
    """Relative joint rotations of a block; the wrist's is the identity."""
    fingers, thumb = angles(draws, config)  # b candidates ...
    rotations = anatomy.rotations(fingers, thumb)
    overlap = penetration(anatomy.pose(rotations))
    free = overlap <= config.penetration
    best = np.where(free.any(1), free.argmax(1), overlap.argmin(1))
    return rotations[np.arange(len(best)), best]


def angles(draws: Draws, config: VirtualConfig) -> tuple[Fingers, Thumb]:
    """Angles of `config.pose_candidates` poses a sample, within the limits."""
    n = config.pose_candidates
    weights = [config.pose_weights.get(name, 0.0) for name in FAMILIES]
    family = draws.choice(weights)[:, None].repeat(n, 1)
    families = [_free(draws, n), _grasp(draws, n), _named(draws, n), _flat(draws, n), _digits(draws, n)]
    fingers, thumb = (np.stack(part) for part in zip(*families, strict=True))
    row, column = np.indices(family.shape)
    return _limit(fingers[family, row, column], thumb[family, row, column], draws, n)


def _limit(fingers: Fingers, thumb: Thumb, draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    """Couple and clip: the end joint follows the middle one, spread fades with flexion."""
    base, spread, middle, end = np.moveaxis(fingers, -1, 0)
    base = np.clip(base, *BASE)
    middle = np.clip(middle, *MIDDLE)
    spread = np.clip(spread, *SPREAD_LIMITS) * np.clip(1 - base.clip(0) / 95, 0.08, 1)
    coupling = draws.uniform(n, 1, low=0.45, high=0.8)
    end = np.clip(0.65 * (coupling * middle) + 0.35 * end, *END)
    return np.stack([base, spread, middle, end], -1), np.clip(thumb, THUMB_LOW, THUMB_HIGH)


def _free(draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    shared, own = draws.uniform(n, 1), draws.uniform(n, 4)
    flexion = 0.45 * shared + 0.55 * own
    base = 95 * flexion * draws.uniform(n, 4, low=0.1, high=1.2) - 12 * draws.uniform(n, 4)
    middle = 110 * flexion * draws.uniform(n, 4, low=0.1, high=1.3)
    spread = 0.6 * SPREAD + 7 * draws.normal(n, 4)
    return _fingers(base, spread, middle, 0.66 * middle + 8 * draws.normal(n, 4)), _free_thumb(draws, n)


def _grasp(draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    closure, ratio = draws.uniform(n, 1), draws.uniform(n, 1, low=0.5, high=1.3)
    base = closure * 78 + 4 * closure * np.arange(4) + 6 * draws.normal(n, 4)
    middle = closure * ratio * 98 + 6 * draws.normal(n, 4)
    spread = SPREAD * (1 - closure) * draws.uniform(n, 1, low=-0.2, high=1.5) + 2 * draws.normal(n, 4)
    opposed, bend = draws.uniform(n), draws.uniform(n, low=0.2, high=1)
    c = closure[..., 0]
    thumb = np.stack(
        [5 + 38 * c * opposed, 8 + 22 * opposed, 50 * opposed, 8 + 40 * c * opposed, 10 + 40 * c * bend], -1
    )
    return _fingers(base, spread, middle, 0.66 * middle), thumb + 6 * draws.normal(n, 5)


def _named(draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    equal = [1] * len(NAMED)
    a, b = draws.choice(equal, n), draws.choice(equal, n)
    mix = draws.uniform(n) * draws.chance(0.4, n)

    def blend(table: np.ndarray) -> np.ndarray:
        t = mix.reshape(*mix.shape, *[1] * (table.ndim - 1))
        return (1 - t) * table[a] + t * table[b]

    jitter = 5 * draws.normal(n, 4, 4) * [1, 0.6, 1, 0.6]
    return blend(_NAMED_FINGERS) + jitter, blend(_NAMED_THUMB) + 5 * draws.normal(n, 5)


def _flat(draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    spread = SPREAD * draws.uniform(n, 1, low=-0.4, high=1.6) + 2 * draws.normal(n, 4)
    base = 6 * draws.normal(n, 1) - 3 + 4 * draws.normal(n, 4)
    middle = 6 * draws.uniform(n, 4) + 4 * draws.uniform(n, 1)
    return _fingers(base, spread, middle, 4 * draws.normal(n, 4)), _free_thumb(draws, n)


def _digits(draws: Draws, n: int) -> tuple[Fingers, Thumb]:
    """Every finger straight, half bent or curled on its own; the thumb free or from a gesture."""
    state = draws.choice((0.45, 0.2, 0.35), n, 4)
    base = np.choose(
        state, (9 * draws.normal(n, 4) - 2, draws.uniform(n, 4, low=5, high=70), draws.uniform(n, 4, low=60, high=92))
    )
    middle = np.choose(
        state,
        (np.abs(6 * draws.normal(n, 4)), draws.uniform(n, 4, low=10, high=90), draws.uniform(n, 4, low=75, high=110)),
    )
    spread = SPREAD * draws.uniform(n, 1, low=-0.3, high=1.6) + 5 * draws.normal(n, 4)
    gesture = _NAMED_THUMB[draws.choice([1] * len(NAMED), n)] + 7 * draws.normal(n, 5)
    thumb = np.where(draws.chance(0.5, n)[..., None], gesture, _free_thumb(draws, n))
    return _fingers(base, spread, middle, 0.6 * middle + 5 * draws.normal(n, 4)), thumb


def _free_thumb(draws: Draws, n: int) -> Thumb:
    """From spread away from the palm (opposition -0.4) to across it (1)."""
    opposed = draws.uniform(n, low=-0.4, high=1)
    carpal, bend = opposed.clip(-0.4), draws.uniform(n, low=-12, high=65)
    base = draws.uniform(n, low=-10, high=48)
    angles = np.stack([40 * carpal, 6 + 22 * opposed, 48 * opposed.clip(0), base, bend], -1)
    return angles + draws.normal(n, 5) * [8, 9, 6, 4, 4]


def _fingers(base: np.ndarray, spread: np.ndarray, middle: np.ndarray, end: np.ndarray) -> Fingers:
    return np.stack([base, spread, middle, end], -1)


# ------------------------------------------------------------------------------------------ fingers inside each other

_STEPS = (0.15, 0.5, 0.85)  # where along a bone the probing balls sit
_BONES = np.array([(1, 2), (2, 3), (3, 4), *((k, k + 1) for f in (5, 9, 13, 17) for k in range(f, f + 3))])
_DIGIT = np.repeat(np.arange(5), 3)
_RADII = np.array([11.0, 9.5, 8.5, *[8.5, 7.8, 7.0] * 3, 7.4, 6.8, 6.2]) * 1e-3  # m, of the mean hand's flesh
_PALM = np.array([(0, 5), (0, 9), (0, 13), (0, 17)])
_PALM_STEPS, _PALM_RADIUS = (0.45, 0.7, 0.92), 8.5e-3


def _pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls that may meet: of different digits (not two neighbours' roots), and of finger ends with the palm."""
    digit, radius = np.repeat(_DIGIT, 3), np.repeat(_RADII, 3)
    bone = np.tile(np.repeat(np.arange(3), 3), 5)
    palm = len(digit) + np.arange(len(_PALM) * 3)
    i, j = np.triu_indices(len(digit), 1)
    roots = (bone[i] == 0) & (bone[j] == 0)
    thumb_root = ((digit[i] == 0) & (bone[i] == 0)) | ((digit[j] == 0) & (bone[j] == 0))
    keep = (digit[i] != digit[j]) & ~roots & ~thumb_root
    ends = np.flatnonzero(bone == 2)
    a, b = (m.ravel() for m in np.meshgrid(ends, palm, indexing="ij"))
    radii = np.concatenate([radius, np.full(len(palm), _PALM_RADIUS)])
    first, second = np.concatenate([i[keep], a]), np.concatenate([j[keep], b])
    return first, second, radii[first] + radii[second]


_FIRST, _SECOND, _REACH = _pairs()


def penetration(joints: Float[np.ndarray, "*b 21 3"]) -> Float[np.ndarray, "*b"]:
    """Deepest overlap (m, 0 if none) of balls along the bones of different digits, and of fingertips with the palm."""

    def balls(bones: np.ndarray, steps: tuple[float, ...]) -> np.ndarray:
        start, stop = joints[..., bones[:, :1], :], joints[..., bones[:, 1:], :]
        points = start + (stop - start) * np.array(steps)[:, None]
        return points.reshape(*joints.shape[:-2], -1, 3)

    points = np.concatenate([balls(_BONES, _STEPS), balls(_PALM, _PALM_STEPS)], -2)
    gram = points @ points.swapaxes(-1, -2)
    square = np.einsum("...ii->...i", gram)
    distance = square[..., _FIRST] + square[..., _SECOND] - 2 * gram[..., _FIRST, _SECOND]
    return (_REACH - np.sqrt(distance.clip(0))).max(-1).clip(0)
