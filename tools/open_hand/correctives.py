"""Pose correctives: what linear blend skinning gets wrong at a bent joint, as a linear function of the rotation.

For each joint and a few dozen rotations of it alone, the wanted surface turns every point about the joint by its own
share of the angle (what dual quaternions give for one joint) and bulges beside the crease and at the joint's head. The
difference to blend skinning, pulled back to rest, is fitted to the nine entries of R - I by ridge regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mesh_graphormer_hand.skeleton import MODEL_PARENTS

from .anatomy import ASSET_FROM_HAND, CHAINS, DIGIT_OF
from .primitives import Points, Values
from .surface import GIRTH, Hand

Matrix = Float[np.ndarray, "3 3"]
RIDGE = 2e-2
SADDLE_RIDGE = 6  # more for the base of the thumb, whose rotations are many and whose entries are correlated
MAX_CORRECTION = 6.0  # mm
REACH = 60.0  # mm around a joint in which it corrects anything
THUMB_GIRTH = 1.1


@dataclass(frozen=True)
class Bulge:
    """How flesh gives way at a joint, mm at 90 degrees: beside the crease, sideways, at the joint's head."""

    radius: float  # mm, of the digit there
    flesh: float = 0.0
    side: float = 0.0
    head: float = 0.0


def pose_directions(hand: Hand, x: Points, normals: Points, weights: Float[np.ndarray, "v 16"]):
    """Offsets (v, 3, 135) in mm per unit of (R - I) of joints 1-15, row by row, in the hand frame."""
    directions = np.zeros((len(x), 3, 15, 9))
    for joint in range(1, 16):
        moved = weights[:, descendants(joint)].sum(1)
        near = np.flatnonzero((moved > 1e-3) & (np.linalg.norm(x - hand.joints[joint], axis=1) < REACH))
        rotations = _training_rotations(hand, joint)
        entries = np.stack([(r - np.eye(3)).ravel() for r in rotations])
        wanted = np.stack([_correction(hand, joint, x[near], normals[near], moved[near], r) for r in rotations])
        length = np.linalg.norm(wanted, axis=2, keepdims=True)
        wanted *= np.minimum(1, MAX_CORRECTION / np.maximum(length, 1e-9))
        saddle = SADDLE_RIDGE if joint == CHAINS["thumb"][0] else 1
        ridge = RIDGE * (len(rotations) / 30) * saddle * np.eye(9)
        fit = np.linalg.solve(entries.T @ entries + ridge, entries.T @ wanted.reshape(len(rotations), -1))
        directions[near, :, joint - 1, :] = fit.reshape(9, len(near), 3).transpose(1, 2, 0)
    return directions.reshape(len(x), 3, 135)


def to_asset_frame(directions: Float[np.ndarray, "v 3 135"]) -> Float[np.ndarray, "v 3 135"]:
    """Pose directions of the hand frame (mm) in the asset frame (m): offsets turned, R - I expressed there."""
    m = ASSET_FROM_HAND
    turned = np.einsum("ab,nbjcd->najcd", m, directions.reshape(-1, 3, 15, 3, 3))
    turned = np.einsum("najcd,ec,fd->najef", turned, m, m)
    return turned.reshape(-1, 3, 135) * 1e-3


def descendants(joint: int) -> list[int]:
    """The joint itself and all that hang on it."""
    found = [joint]
    for other in range(joint + 1, 16):
        if MODEL_PARENTS[other] in found:
            found.append(other)
    return found


def swelling(hand: Hand, joint: int, x: Points, normals: Points, moved: Values) -> Points:
    """How far flesh is pushed aside where `joint` is bent by 90 degrees, mm at rest."""
    from_joint, bulge = x - hand.joints[joint], _bulge_of(hand, joint)
    within = (np.linalg.norm(from_joint, axis=1) < 3.2 * bulge.radius)[:, None]
    return within * _swelling(bulge, np.pi / 2, (from_joint @ hand.frames[joint].T).T, moved, normals)


def _correction(hand: Hand, joint: int, x: Points, normals: Points, moved: Values, rotation: Matrix) -> Points:
    """Offset of the rest surface after which blend skinning gives the wanted surface."""
    centre = hand.joints[joint]
    wanted = _wanted_surface(hand, joint, x, normals, moved, rotation)
    blend = (1 - moved)[:, None, None] * np.eye(3) + moved[:, None, None] * rotation
    skinned = np.einsum("nab,nb->na", blend, x - centre) + centre
    return np.linalg.solve(blend, (wanted - skinned)[..., None])[..., 0]


def _wanted_surface(hand: Hand, joint: int, x: Points, normals: Points, moved: Values, rotation: Matrix) -> Points:
    """The skin when only `joint` turns: each point by its share of the angle, flesh pushed aside when it flexes."""
    vector = Rotation.from_matrix(rotation).as_rotvec()
    angle = np.linalg.norm(vector)
    if angle < 1e-8:
        return x.copy()
    share = 2 * np.arctan2(moved * np.sin(angle / 2), (1 - moved) + moved * np.cos(angle / 2))
    turn = Rotation.from_rotvec(share[:, None] * (vector / angle))
    from_joint = x - hand.joints[joint]
    bulge = _bulge_of(hand, joint)
    flexion = float(vector @ hand.frames[joint][1])
    swell = np.zeros_like(x)
    if flexion > 0:
        swell = _swelling(bulge, flexion, (from_joint @ hand.frames[joint].T).T, moved, normals)
    within = (np.linalg.norm(from_joint, axis=1) < 3.2 * bulge.radius)[:, None]
    return hand.joints[joint] + turn.apply(from_joint + swell * within)


def _swelling(bulge: Bulge, flexion: float, local: np.ndarray, moved: Values, normals: Points) -> Points:
    """Flesh pushed away from the crease and sideways, and the joint's head standing out on the back."""
    t, s, n = local
    r = bulge.radius
    amount = 1 - np.cos(min(flexion, 2.0))  # 0 at rest, 1 at 90 degrees
    palmar = np.clip(-n / r + 0.15, 0, 1)
    beside = np.exp(-0.5 * ((np.abs(t) - 0.62 * r) / (0.50 * r)) ** 2) * np.clip(4 * moved * (1 - moved), 0, 1) ** 0.25
    side = np.exp(-0.5 * (t / (0.8 * r)) ** 2) * np.clip(np.abs(s) / r - 0.15, 0, 1)
    dorsal = np.exp(-0.5 * (t / (0.55 * r)) ** 2) * np.clip(n / r, 0, 1)
    out = (bulge.flesh * amount * beside * palmar)[:, None] * normals
    out = out + (bulge.side * amount * side)[:, None] * normals
    return out + (bulge.head * amount * dorsal)[:, None] * normals


def _bulge_of(hand: Hand, joint: int) -> Bulge:
    digit = DIGIT_OF[joint]
    place = CHAINS[digit].index(joint)
    g = hand.scale * (THUMB_GIRTH if digit == "thumb" else GIRTH[digit])
    if digit == "thumb" and place == 0:
        return Bulge(14 * g)
    flesh, side, head = ((1.1, 0.2, 0.6), (1.3, 0.45, 0.3), (1.1, 0.35, 0.15))[place]
    return Bulge((11.5, 9.2, 7.6)[place] * g, flesh * g, side * g, head * g)


def _training_rotations(hand: Hand, joint: int) -> list[Matrix]:
    along, across, dorsal = hand.frames[joint]

    def turn(axis: np.ndarray, degrees: float) -> Rotation:
        return Rotation.from_rotvec(np.radians(degrees) * axis)

    if joint == CHAINS["thumb"][0]:  # a saddle: flexion, abduction and the pronation that comes with them
        turns = [
            turn(dorsal, b) * turn(across, a) * turn(along, -c)
            for a in (-25, -12, 0, 12, 25, 38, 50)
            for b in (-25, 0, 15, 30, 45)
            for c in (0, 20, 45)
            if a or b or c
        ]
        return [r.as_matrix() for r in turns]
    turns = [turn(across, a) for a in (-35, -20, -10, *range(10, 111, 10))]
    for a in (-25, -12, 12, 25):
        turns += [turn(dorsal, a), turn(along, a)]
        turns += [turn(dorsal, a) * turn(across, b) for b in (30, 60, 90)]
    return [r.as_matrix() for r in turns]
