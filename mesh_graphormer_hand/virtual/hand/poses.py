"""Hand poses within anatomical limits: flexion couplings, spread that vanishes with flexion, thumb opposition.

Five families are mixed: free (every joint over its whole range), grasp (all digits close together), named (gestures,
and everything between two of them), flat (open hand) and digits (each finger straight, half bent or curled on its own).
Of a few candidates the first whose digits do not pass through each other is taken; if there is none, the best one is
opened until they do not.

Limits are those of healthy adults: knuckles 90 degrees of flexion and up to 45 of extension (28 are drawn), middle
joints 100 to 110, last joints 80, spread 20 to each side, the thumb's base 15 of flexion, 20 of extension and 70 of
abduction, its middle joint 50, its last joint 80 with 20 of extension (American Academy of Orthopaedic Surgeons, "Joint
motion", 1965; thumb axes and zeros are ours, see `anatomy`). A last joint follows its middle joint by about two thirds
(Rijpkema and Girard, SIGGRAPH 1991), a bent knuckle hardly spreads (Lin, Wu, Huang, HUMO 2000), and a ring finger stays
near its neighbours (maximal ranges of knuckles depend on each other: Gracia-Ibanez et al., CMBBE 2016).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from ..config import FAMILIES, VirtualConfig
from ..rng import Draws
from . import gestures
from .anatomy import Anatomy

Fingers = Float[np.ndarray, "*b 4 4"]
Thumb = Float[np.ndarray, "*b 5"]
SPREAD = np.array([8.0, 1.0, -6.0, -12.0])  # of the open hand, index to little

BASE, MIDDLE, END = (-28, 92), (-6, 112), (-8, 78)  # flexion limits of the fingers
SPREAD_LIMITS = (-20, 18)
THUMB_LOW, THUMB_HIGH = (-28, -26, -15, -18, -24), (48, 44, 56, 58, 80)
COUPLING = (0.5, 0.8)  # last joint flexion per middle joint flexion
RING_BEHIND = 60  # degrees that a ring finger's knuckle may differ from the mean of its neighbours'
# degrees, where nothing overlaps
OPEN_FINGERS = np.array([(0, 10, 6, 3), (0, 1, 6, 3), (0, -7, 6, 3), (0, -14, 6, 3)], np.float64)
OPEN_THUMB = np.array((-14, 2, 4, -2, 0), np.float64)
OPENING = (
    1.0,
    0.97,
    0.94,
    0.9,
    0.85,
    0.78,
    0.7,
    0.6,
    0.45,
    0.3,
    0.15,
    0.0,
)  # shares of a pose on its way to the open hand
MIXED = 0.5  # of the named poses: something between two


def named(name: str, anatomy: Anatomy) -> Float[np.ndarray, "16 3 3"]:
    """Relative joint rotations of a pose in `gestures`.

    Raises:
        KeyError: no pose of that name.
    """
    pose = gestures.GESTURES[name]
    return anatomy.rotations(np.array([pose[:4]], np.float64), np.array([pose[4]], np.float64))[0]


def sample(
    rng: Draws, config: VirtualConfig, anatomy: Anatomy, shape: Float[np.ndarray, "b 10"]
) -> Float[np.ndarray, "b 16 3 3"]:
    """Relative joint rotations of a block of hands of these shapes; the wrist's is the identity."""
    fingers, thumb = angles(rng, config)  # b candidates ...
    overlap = _overlap(fingers, thumb, anatomy, shape[:, None])
    free = overlap <= config.penetration
    best = np.where(free.any(1), free.argmax(1), overlap.argmin(1))
    row = np.arange(len(best))
    return anatomy.rotations(*_opened(fingers[row, best], thumb[row, best], config.penetration, anatomy, shape))


def _overlap(
    fingers: Fingers, thumb: Thumb, anatomy: Anatomy, shape: Float[np.ndarray, "*#b 10"]
) -> Float[np.ndarray, "*b"]:
    """`penetration` of hands of these shapes, digits being as thick as such a hand's."""
    shape = np.broadcast_to(shape, (*thumb.shape[:-1], shape.shape[-1]))
    joints = anatomy.pose(anatomy.rotations(fingers, thumb), shape)
    return penetration(joints, anatomy.thickness(shape))


def _opened(
    fingers: Fingers, thumb: Thumb, limit: float, anatomy: Anatomy, shape: Float[np.ndarray, "b 10"]
) -> tuple[Fingers, Thumb]:
    """Each pose, moved towards the open hand as far as it takes for its digits to pass each other."""
    share = np.array(OPENING)[:, None, None]
    fingers = OPEN_FINGERS + share[..., None] * (fingers - OPEN_FINGERS)
    thumb = OPEN_THUMB + share * (thumb - OPEN_THUMB)
    free = _overlap(fingers, thumb, anatomy, shape) <= limit
    free[-1] = True
    first, row = free.argmax(0), np.arange(fingers.shape[1])
    return fingers[first, row], thumb[first, row]


def angles(rng: Draws, config: VirtualConfig) -> tuple[Fingers, Thumb]:
    """Angles of `config.pose_candidates` poses a sample, within the limits."""
    n = config.pose_candidates
    weights = [config.pose_weights.get(name, 0.0) for name in FAMILIES]
    family = rng.choice(weights)[:, None].repeat(n, 1)
    families = [_free(rng, n), _grasp(rng, n), _named(rng, n), _flat(rng, n), _digits(rng, n)]
    fingers, thumb = (np.stack(part) for part in zip(*families, strict=True))
    row, column = np.indices(family.shape)
    return _limit(fingers[family, row, column], thumb[family, row, column])


def _limit(fingers: Fingers, thumb: Thumb) -> tuple[Fingers, Thumb]:
    """Clip to the limits; the spread fades with flexion, the ring finger stays near its neighbours."""
    base, spread, middle, end = (fingers[..., k].copy() for k in range(4))
    base = base.clip(*BASE)
    neighbours = 0.5 * (base[..., 1] + base[..., 3])
    base[..., 2] = base[..., 2].clip(neighbours - RING_BEHIND, neighbours + RING_BEHIND)
    spread = spread.clip(*SPREAD_LIMITS) * np.clip(1 - base.clip(0) / 95, 0.2, 1)
    return np.stack([base, spread, middle.clip(*MIDDLE), end.clip(*END)], -1), np.clip(thumb, THUMB_LOW, THUMB_HIGH)


def _follow(rng: Draws, n: int, middle: Float[np.ndarray, "b n 4"], noise: float | int = 5) -> np.ndarray:
    """Last joints that go with the middle ones."""
    return middle * rng.uniform(n, 1, low=COUPLING[0], high=COUPLING[1]) + noise * rng.normal(n, 4)


def _free(rng: Draws, n: int) -> tuple[Fingers, Thumb]:
    """Uniform over the joints' ranges; in half the hands neighbours go together."""
    together = 0.8 * rng.chance(0.5, n)[..., None]
    parts = []
    for low, high in (BASE, MIDDLE):
        u = together * rng.uniform(n, 1) + (1 - together) * rng.uniform(n, 4)
        parts.append(low + (high - low) * u)
    spread = SPREAD + rng.uniform(n, 4, low=-12, high=10)
    return _fingers(parts[0], spread, parts[1], _follow(rng, n, parts[1])), _any_thumb(rng, n)


def _grasp(rng: Draws, n: int) -> tuple[Fingers, Thumb]:
    closure, ratio = rng.uniform(n, 1), rng.uniform(n, 1, low=0.5, high=1.3)
    base = closure * 78 + 4 * closure * np.arange(4) + 6 * rng.normal(n, 4)
    middle = closure * ratio * 98 + 6 * rng.normal(n, 4)
    spread = SPREAD * (1 - closure) * rng.uniform(n, 1, low=-0.2, high=1.5) + 2 * rng.normal(n, 4)
    opposed, bend = rng.uniform(n), rng.uniform(n, low=0.2, high=1)
    c = closure[..., 0]
    thumb = [5 + 38 * c * opposed, 8 + 22 * opposed, 50 * opposed, 8 + 40 * c * opposed, 10 + 40 * c * bend]
    return _fingers(base, spread, middle, _follow(rng, n, middle)), np.stack(thumb, -1) + 6 * rng.normal(n, 5)


def _named(rng: Draws, n: int) -> tuple[Fingers, Thumb]:
    equal = [1] * len(gestures.THUMBS)
    a, b = rng.choice(equal, n), rng.choice(equal, n)
    mix = rng.uniform(n) * rng.chance(MIXED, n)

    def blend(table: Float[np.ndarray, "k *c"]) -> np.ndarray:
        t = mix.reshape(*mix.shape, *[1] * (table.ndim - 1))
        return (1 - t) * table[a] + t * table[b]

    loose = rng.uniform(n, low=0.5, high=6)[..., None]  # degrees; where they are few, digits that should touch do
    jitter = loose[..., None] * rng.normal(n, 4, 4) * [1, 0.6, 1, 0.6]
    return blend(gestures.FINGER_ANGLES) + jitter, blend(gestures.THUMBS) + loose * rng.normal(n, 5)


def _flat(rng: Draws, n: int) -> tuple[Fingers, Thumb]:
    spread = SPREAD * rng.uniform(n, 1, low=-0.4, high=1.6) + 2 * rng.normal(n, 4)
    base = 6 * rng.normal(n, 1) - 3 + 4 * rng.normal(n, 4)
    middle = 6 * rng.uniform(n, 4) + 4 * rng.uniform(n, 1)
    return _fingers(base, spread, middle, 4 * rng.normal(n, 4)), _any_thumb(rng, n)


def _digits(rng: Draws, n: int) -> tuple[Fingers, Thumb]:
    """Every finger straight, half bent or curled on its own; the thumb free or from a gesture."""
    state = rng.choice((0.45, 0.2, 0.35), n, 4)
    base = np.choose(
        state, (9 * rng.normal(n, 4) - 2, rng.uniform(n, 4, low=5, high=70), rng.uniform(n, 4, low=60, high=92))
    )
    middle = np.choose(
        state,
        (np.abs(6 * rng.normal(n, 4)), rng.uniform(n, 4, low=10, high=90), rng.uniform(n, 4, low=75, high=110)),
    )
    spread = SPREAD * rng.uniform(n, 1, low=-0.3, high=1.6) + 5 * rng.normal(n, 4)
    gesture = gestures.THUMBS[rng.choice([1] * len(gestures.THUMBS), n)] + 7 * rng.normal(n, 5)
    thumb = np.where(rng.chance(0.5, n)[..., None], gesture, _any_thumb(rng, n))
    return _fingers(base, spread, middle, _follow(rng, n, middle)), thumb


def _any_thumb(rng: Draws, n: int) -> Thumb:
    """From spread away from the palm (opposition -0.4) to across it (1)."""
    opposed = rng.uniform(n, low=-0.4, high=1)
    bend, base = rng.uniform(n, low=-16, high=75), rng.uniform(n, low=-14, high=54)
    angles = np.stack([42 * opposed, 4 + 22 * opposed, 50 * opposed.clip(0), base, bend], -1)
    return angles + rng.normal(n, 5) * [9, 12, 7, 4, 4]


def _fingers(
    base: Float[np.ndarray, "b n 4"],
    spread: Float[np.ndarray, "b n 4"],
    middle: Float[np.ndarray, "b n 4"],
    end: Float[np.ndarray, "b n 4"],
) -> Fingers:
    return np.stack([base, spread, middle, end], -1)


# ------------------------------------------------------------------------------------------ fingers inside each other

_STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)  # where along a bone the probing balls sit
_BONES = np.array([(1, 2), (2, 3), (3, 4), *((k, k + 1) for f in (5, 9, 13, 17) for k in range(f, f + 3))])
_DIGIT = np.repeat(np.arange(5), 3)
# m: half the breadth of the mean hand's digits at the start and the end of each bone, and what makes balls as strict as
# skin is (measured: tools/open_hand/reach.py)
_SKIN = 1.8e-3
_RADII = _SKIN + 1e-3 * np.array(
    [
        *((15.0, 13.5), (10.2, 10.0), (10.0, 7.4)),
        *((9.6, 9.3), (9.0, 8.5), (8.2, 6.4)),
        *((9.9, 9.6), (9.3, 8.8), (8.4, 6.6)),
        *((9.3, 9.0), (8.7, 8.2), (8.0, 6.2)),
        *((8.3, 8.0), (7.7, 7.3), (7.1, 5.5)),
    ]
)
_PADS = 5.6e-3  # m by which two pulps come closer than those balls: a fingertip is flatter than it is broad
_PALM = np.array([(0, 5), (0, 9), (0, 13), (0, 17)])
_PALM_STEPS, _PALM_RADII = (0.3, 0.45, 0.6, 0.8, 0.95), 1e-3 * np.array([12.5, 12.5, 12.5, 15.0])  # per ray


def _pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balls that may meet: of different digits (not two neighbours' roots), and of finger ends with palm and thenar."""
    steps = len(_STEPS)
    digit, bone = np.repeat(_DIGIT, steps), np.tile(np.repeat(np.arange(3), steps), 5)
    t = np.tile(np.array(_STEPS), len(_BONES))
    start, stop = np.repeat(_RADII, steps, 0).T
    radius = start + (stop - start) * t
    palm = len(digit) + np.arange(len(_PALM) * len(_PALM_STEPS))
    i, j = np.triu_indices(len(digit), 1)
    roots = (bone[i] == 0) & (bone[j] == 0)
    thenar = (digit[i] == 0) & (bone[i] == 0)  # i < j: the thumb comes first
    keep = (digit[i] != digit[j]) & ~roots & ~(thenar & (bone[j] < 2))
    ends = np.flatnonzero((bone == 2) & (t > 0.4))
    a, b = (m.ravel() for m in np.meshgrid(ends, palm, indexing="ij"))
    radii = np.concatenate([radius, _PALM_RADII.repeat(len(_PALM_STEPS))])
    pulp = np.concatenate([(bone == 2) & (t > 0.4), np.zeros(len(palm), bool)])
    first, second = np.concatenate([i[keep], a]), np.concatenate([j[keep], b])
    pinch = pulp[first] & pulp[second] & (first < len(_STEPS) * 3)  # the thumb's against a finger's
    return first, second, radii[first] + radii[second] - _PADS * pinch


_FIRST, _SECOND, _REACH_M = _pairs()


def penetration(
    joints: Float[np.ndarray, "*b 21 3"], thickness: Float[np.ndarray, "*b"] | float = 1.0
) -> Float[np.ndarray, "*b"]:
    """Deepest overlap (m, 0 if none) of balls along the bones of different digits, and of fingertips with the palm.

    Args:
        joints: m.
        thickness: of the digits, in those of the mean hand.
    """

    def balls(bones: Int64[np.ndarray, "k 2"], steps: tuple[float, ...]) -> np.ndarray:
        start, stop = joints[..., bones[:, :1], :], joints[..., bones[:, 1:], :]
        points = start + (stop - start) * np.array(steps)[:, None]
        return points.reshape(*joints.shape[:-2], -1, 3)

    points = np.concatenate([balls(_BONES, _STEPS), balls(_PALM, _PALM_STEPS)], -2)
    gram = points @ points.swapaxes(-1, -2)
    square = np.einsum("...ii->...i", gram)
    distance = square[..., _FIRST] + square[..., _SECOND] - 2 * gram[..., _FIRST, _SECOND]
    reach = _REACH_M * np.asarray(thickness)[..., None]
    return (reach - np.sqrt(distance.clip(0))).max(-1).clip(0)
