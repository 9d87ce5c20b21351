"""Where an object fits into a posed hand: the round space that fingers and palm enclose, or the gap of a pinch.

Positions are in the hand's rest frame, m, relative to the wrist. The hand's flesh is balls along its bones; an object
may touch them and go no deeper than the flesh gives way.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from ...skeleton import TIPS
from ..rng import Draws
from .camera import uniform_rotations

CYLINDER, BALL, BOX, STICK, CARD = range(5)
BALL_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)  # along a bone, where its balls sit
FINGER_BONES = np.array([(1, 2), (2, 3), (3, 4), *((k, k + 1) for f in (5, 9, 13, 17) for k in range(f, f + 3))])
FLESH_M = np.array([10.5, 9.5, 8.0, *[9.0, 7.8, 6.8] * 3, 7.6, 6.6, 6.0]) * 1e-3  # m, mean hand: bone to palmar skin
DIGIT = np.repeat(np.arange(5), 3 * len(BALL_STEPS))
END_BONES = np.array([2, 5, 8])  # of thumb, index and middle finger, among FINGER_BONES
PALM_BONES = np.array([(0, 5), (0, 9), (0, 13), (0, 17)])
PALM_FLESH_M = 0.012  # m
FLESH_YIELD_M = 0.0015  # m that flesh yields
MEAN_PALM_M = 0.088  # m, wrist to the middle finger's first joint
HEIGHTS_M, SHIFTS = np.linspace(0.012, 0.066, 10), np.linspace(-0.25, 1.05, 9)
TOUCH_M = 0.004  # m at which something counts as touched
MIN_TOUCHES = 2.1  # touched digits and palm that hold something
MIN_RADIUS_M, MAX_RADIUS_M = 0.007, 0.055  # m, radius of what is enclosed
MAX_PINCH_M = 0.045  # m, widest


@dataclass(frozen=True, eq=False)
class Fit:
    kind: Int64[np.ndarray, "b"]
    held: Bool[np.ndarray, "b"]  # False: nothing fits this hand
    centre: Float[np.ndarray, "b 3"]
    axes: Float[np.ndarray, "b 3 3"]  # columns: the object's x, y and long z axis
    radius: Float[np.ndarray, "b"]  # of the round space, or half of the pinch

    def where(self, held: Bool[np.ndarray, "b"]) -> Fit:
        """The same centres, of which only those of `held` hold something."""
        return dataclasses.replace(self, held=held)

    def otherwise(self, other: Fit) -> Fit:
        """`other` where this holds nothing."""
        chosen = {}
        for field in dataclasses.fields(self):
            a, b = getattr(self, field.name), getattr(other, field.name)
            chosen[field.name] = np.where(self.held.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return Fit(**chosen)

    def to_hand(self, points: Float[np.ndarray, "b v 3"]) -> Float[np.ndarray, "b v 3"]:
        """Points of the objects' own axes (m) in the hands' rest frame."""
        return self.centre[:, None] + points @ self.axes.transpose(0, 2, 1)


def fit(rng: Draws, joints: Float[np.ndarray, "b 21 3"]) -> Fit:
    """What fits into hands with `joints`."""
    size = _size(joints)
    balls, flesh = _balls(joints, size)
    wanted = rng.choice((0.42, 0.26, 0.32))
    enclosed = _enclosed(joints, balls, flesh, wanted, size)
    pinched = _pinched(rng, joints, balls, flesh, size)
    use = enclosed.held & (rng.uniform() < np.where(pinched.held, 0.75, 1.0))
    chosen = {}
    for name in ("kind", "centre", "axes", "radius"):
        a, b = getattr(enclosed, name), getattr(pinched, name)
        chosen[name] = np.where(use.reshape(-1, *[1] * (a.ndim - 1)), a, b)
    return Fit(held=enclosed.held | pinched.held, **chosen)


def enclose(joints: Float[np.ndarray, "b 21 3"], kind: int) -> Fit:
    """Where an object of `kind` (CYLINDER, BALL or BOX) fits between fingers and palm; its z axis is the long one."""
    size = _size(joints)
    return _enclosed(joints, *_balls(joints, size), np.full(len(joints), kind), size)


def pinch(rng: Draws, joints: Float[np.ndarray, "b 21 3"]) -> Fit:
    """Where something thin fits between thumb and index or middle finger; its z axis is the long one."""
    size = _size(joints)
    return _pinched(rng, joints, *_balls(joints, size), size)


def clear_of(rng: Draws, joints: Float[np.ndarray, "b 21 3"], half: Float[np.ndarray, "b 3"]) -> Fit:
    """Places near hands for objects in boxes of half sizes `half` (m): on some side, at random turns, free of the hand.

    The sides lie towards the fingers, since the forearm leaves the hand towards +x.
    """
    balls, flesh = _balls(joints, _size(joints))
    side, axes = _unit(rng.normal(3)), uniform_rotations(rng, 1)[:, 0]
    side[:, 0] = -np.abs(side[:, 0])
    middle = joints.mean(1)
    hand = (((balls - middle[:, None]) * side[:, None]).sum(-1) + flesh).max(1)
    box = (np.abs((axes * side[..., None]).sum(1)) * half).sum(1)
    centre = middle + (hand + box + rng.uniform(low=0.003, high=0.05))[:, None] * side
    b = len(joints)
    return Fit(np.full(b, STICK), np.full(b, True), centre, axes, half.max(1))


def _size(joints: Float[np.ndarray, "b 21 3"]) -> Float[np.ndarray, "b"]:
    """Length of the palm, of the mean hand's."""
    return np.linalg.norm(joints[:, 9] - joints[:, 0], axis=1) / MEAN_PALM_M


def _balls(
    joints: Float[np.ndarray, "b 21 3"], size: Float[np.ndarray, "b"]
) -> tuple[Float[np.ndarray, "b n 3"], Float[np.ndarray, "b n"]]:
    """Balls of flesh: 5 a bone of the digits, then 5 a bone of the palm."""
    steps = np.array(BALL_STEPS)[:, None]

    def along(bones: Int64[np.ndarray, "k 2"]) -> np.ndarray:
        start, stop = joints[:, bones[:, :1]], joints[:, bones[:, 1:]]
        return (start + (stop - start) * steps).reshape(len(joints), -1, 3)

    flesh = np.concatenate(
        [np.repeat(FLESH_M, len(BALL_STEPS)), np.full(len(PALM_BONES) * len(BALL_STEPS), PALM_FLESH_M)]
    )
    return np.concatenate([along(FINGER_BONES), along(PALM_BONES)], 1), flesh * size[:, None]


def _palm_frame(joints: Float[np.ndarray, "b 21 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors: towards the fingers, out of the palm, along the knuckles (towards the index finger)."""
    up = _unit(joints[:, 9] - joints[:, 0])
    side = joints[:, 5] - joints[:, 17]
    side = _unit(side - up * (side * up).sum(-1, keepdims=True))
    return up, np.cross(side, up) * _handed(joints, up, side), side


def _handed(
    joints: Float[np.ndarray, "b 21 3"], up: Float[np.ndarray, "b 3"], side: Float[np.ndarray, "b 3"]
) -> np.ndarray:
    normal = np.cross(joints[:, 5] - joints[:, 0], joints[:, 17] - joints[:, 0])
    return np.sign((normal * np.cross(side, up)).sum(-1, keepdims=True))


def _enclosed(
    joints: Float[np.ndarray, "b 21 3"],
    balls: Float[np.ndarray, "b n 3"],
    flesh: Float[np.ndarray, "b n"],
    kind: Int64[np.ndarray, "b"],
    size: Float[np.ndarray, "b"],
) -> Fit:
    """The largest cylinder along the knuckles (or ball) that most digits touch, of a grid of centres over the palm."""
    up, out, side = _palm_frame(joints)
    reach = joints[:, 9] - joints[:, 0]
    tilt = _unit(side + 0.22 * up)  # a bar lies askew in the palm
    h, s = (m.ravel() for m in np.meshgrid(HEIGHTS_M, SHIFTS + 0.35, indexing="ij"))
    middle = joints[:, [5, 9, 13, 17]].mean(1) - joints[:, 9]
    centres = s[:, None] * reach[:, None] + middle[:, None] + h[:, None] * size[:, None, None] * out[:, None]
    offset = balls[:, None] - centres[:, :, None]  # b centres balls 3
    along = np.einsum("bpnk,bk->bpn", offset, tilt)
    flat = np.where((kind == BALL)[:, None, None], 0.0, along)
    gap = np.sqrt(np.maximum((offset**2).sum(-1) - flat**2, 0)) - flesh[:, None]
    radius = gap.min(-1) + FLESH_YIELD_M
    near = np.exp(-(((gap - radius[..., None]) / TOUCH_M) ** 2))
    fingers = near[..., : len(DIGIT)].reshape(*near.shape[:2], 5, -1).max(-1)
    score = fingers.sum(-1) + near[..., len(DIGIT) :].max(-1)
    score = np.where((radius > MIN_RADIUS_M) & (radius < MAX_RADIUS_M), score + 12 * radius, -1)
    best = score.argmax(1)
    row = np.arange(len(best))
    axes = np.stack([_unit(np.cross(out, tilt)), _unit(out - tilt * (out * tilt).sum(-1, keepdims=True)), tilt], -1)
    return Fit(kind, score[row, best] > MIN_TOUCHES, centres[row, best], axes, radius[row, best].clip(MIN_RADIUS_M))


def _pinched(
    rng: Draws,
    joints: Float[np.ndarray, "b 21 3"],
    balls: Float[np.ndarray, "b n 3"],
    flesh: Float[np.ndarray, "b n"],
    size: Float[np.ndarray, "b"],
) -> Fit:
    """A stick, a card or a little ball between thumb and index or middle finger, clear of the rest of the hand."""
    up, out, side = _palm_frame(joints)
    thumb, finger = joints[:, TIPS[0]], joints[:, list(TIPS[1:3])]
    span = np.linalg.norm(finger - thumb[:, None], axis=-1)
    nearer = span.argmin(1)
    row = np.arange(len(nearer))
    tip, wide = finger[row, nearer], span[row, nearer]
    pads = size * 0.0055  # from a tip (on the skin's end) to the middle of its pad
    grip = _unit(tip - thumb)
    gap = np.maximum(wide - 2 * pads, 0.002)
    centre = (thumb + tip) / 2 + out * 0.002
    across = _unit(np.cross(grip, np.where(np.abs((grip * up).sum(-1, keepdims=True)) < 0.8, up, side)))
    other = np.cross(grip, across)
    angle = np.linspace(0, np.pi, 9)[:-1, None, None]
    ways = np.cos(angle) * across + np.sin(angle) * other  # ways b 3
    t = np.linspace(-0.05, 0.09, 15)
    points = centre[None, :, None] + t[:, None] * ways[:, :, None]
    distance = np.linalg.norm(points[:, :, :, None] - balls[None, :, None], axis=-1) - flesh[:, None]
    bone = np.arange(balls.shape[1]) // len(BALL_STEPS)
    holding = (bone == END_BONES[0]) | (bone == END_BONES[1 + nearer][:, None])  # b balls: thumb's and finger's end
    clear = np.where(holding[:, None], 1.0, distance).min((-1, -2))
    way = ways[clear.argmax(0), row]
    kind = np.array([STICK, CARD, BALL])[rng.choice((0.45, 0.3, 0.25))]
    kind = np.where((kind == BALL) & (gap < 0.012), STICK, kind)
    kind = np.where((kind == STICK) & (gap > 0.022), BALL, kind)
    axes = np.stack([grip, np.cross(way, grip), way], -1)
    return Fit(kind, (wide < MAX_PINCH_M) & (clear.max(0) > -0.004), centre, axes, gap / 2)


def _unit(v: Float[np.ndarray, "*b 3"]) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)
