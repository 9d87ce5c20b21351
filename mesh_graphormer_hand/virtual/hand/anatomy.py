"""Joint axes of any hand in MANO's layout, and where its joints go: anatomical angles -> rotations -> joints.

A finger joint's frame: `along` the bone, `across` (flexion turns about it), `dorsal` (spread turns about it). Angles in
degrees; a finger has (base flexion, spread towards the thumb, middle flexion, end flexion), the thumb
(carpal flexion, abduction, opposition about its own axis, base flexion, end flexion).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ...mano.hand import Hand
from ...skeleton import MODEL_PARENTS, PERMUTATIONS

INDEX, MIDDLE, LITTLE, RING, THUMB = (slice(1 + 3 * k, 4 + 3 * k) for k in range(5))  # MANO's order of the digits
FINGER_CHAINS = (INDEX, MIDDLE, RING, LITTLE)
ROLL = {1: 2.5, 4: 1.0, 10: -2.0, 7: -4.5}  # degrees of each finger's dorsal axis towards the thumb
THUMB_ROLL = (44.0, 50.0, 54.0)  # the thumb's nail faces sideways
CHAIN_ENDS = (15, 3, 6, 12, 9)  # model joints that carry the tips, thumb first
ORDER = np.array(PERMUTATIONS["mano"])


@dataclass(frozen=True, eq=False)
class Anatomy:
    """What sampling needs of a hand, float64."""

    joints: Float[np.ndarray, "16 3"]  # m, rest
    joint_shape: Float[np.ndarray, "16 3 10"]
    tips: Float[np.ndarray, "5 3"]  # m, rest, thumb first
    tip_directions: Float[np.ndarray, "5 3 145"]  # shape, then pose directions
    frames: Float[np.ndarray, "16 3 3"]  # rows: along, across, dorsal
    wrist: Float[np.ndarray, "n 3"]  # m, the open end of the skin at rest
    wrist_shape: Float[np.ndarray, "n 3 10"]
    thicker: Float[np.ndarray, "10"]  # by how much a unit of shape thickens the digits, of their mean thickness

    @classmethod
    def of(cls, hand: Hand) -> Anatomy:
        """The anatomy of a right hand."""
        regressor = hand.joint_regressor.astype(np.float64)
        joints = regressor @ hand.v_template
        tips = list(hand.tip_vertices)
        directions = np.concatenate([hand.shapedirs, hand.posedirs], 2).astype(np.float64)
        rest_vertices = hand.v_template.astype(np.float64)
        return cls(
            joints=joints,
            joint_shape=np.einsum("jv,vck->jck", regressor, hand.shapedirs),
            tips=rest_vertices[tips],
            tip_directions=directions[tips],
            frames=_frames(joints),
            wrist=rest_vertices[hand.wrist_loop],
            wrist_shape=hand.shapedirs[hand.wrist_loop].astype(np.float64),
            thicker=_thicker(hand),
        )

    def rotations(
        self, fingers: Float[np.ndarray, "*b 4 4"], thumb: Float[np.ndarray, "*b 5"]
    ) -> Float[np.ndarray, "*b 16 3 3"]:
        """Relative rotations of the 16 joints; fingers are index, middle, ring, little. The wrist's is the identity."""
        out = np.broadcast_to(np.eye(3), (*thumb.shape[:-1], 16, 3, 3)).copy()
        f, t = np.radians(fingers), np.radians(thumb)
        for k, joints in enumerate(FINGER_CHAINS):
            base, middle, end = range(joints.start, joints.stop)
            out[..., base, :, :] = self._turn(base, 2, f[..., k, 1]) @ self._turn(base, 1, f[..., k, 0])
            out[..., middle, :, :] = self._turn(middle, 1, f[..., k, 2])
            out[..., end, :, :] = self._turn(end, 1, f[..., k, 3])
        base, middle, end = range(THUMB.start, THUMB.stop)
        opposed = self._turn(base, 1, t[..., 0]) @ self._turn(base, 0, -t[..., 2])
        out[..., base, :, :] = self._turn(base, 2, t[..., 1]) @ opposed
        out[..., middle, :, :] = self._turn(middle, 1, t[..., 3])
        out[..., end, :, :] = self._turn(end, 1, t[..., 4])
        return out

    def pose(
        self, rotations: Float[np.ndarray, "*b 16 3 3"], shape: Float[np.ndarray, "*b 10"] | None = None
    ) -> Float[np.ndarray, "*b 21 3"]:
        """The 21 joints in canonical order, m, relative to the wrist; without `shape` the mean hand, rigid tips."""
        joints, tips = self.joints, self.tips
        if shape is not None:
            features = (rotations[..., 1:, :, :] - np.eye(3)).reshape(*shape.shape[:-1], 135)
            joints = joints + np.einsum("jck,...k->...jc", self.joint_shape, shape)
            tips = tips + np.einsum("tck,...k->...tc", self.tip_directions, np.concatenate([shape, features], -1))
        world = np.empty_like(rotations)
        place = np.empty((*rotations.shape[:-3], 21, 3))
        world[..., 0, :, :], place[..., 0, :] = rotations[..., 0, :, :], 0
        for j in range(1, 16):
            parent = MODEL_PARENTS[j]
            bone = joints[..., j, :] - joints[..., parent, :]
            place[..., j, :] = place[..., parent, :] + (world[..., parent, :, :] @ bone[..., None])[..., 0]
            world[..., j, :, :] = world[..., parent, :, :] @ rotations[..., j, :, :]
        ends = list(CHAIN_ENDS)
        bones = tips - joints[..., ends, :]
        place[..., 16:, :] = place[..., ends, :] + (world[..., ends, :, :] @ bones[..., None])[..., 0]
        return place[..., ORDER, :]

    def thickness(self, shape: Float[np.ndarray, "*b 10"]) -> Float[np.ndarray, "*b"]:
        """How thick the digits are, in those of the mean hand."""
        return 1 + shape @ self.thicker

    def _turn(self, joint: int, axis: int, angle: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b 3 3"]:
        return turn(self.frames[joint, axis], angle)


def turn(axis: Float[np.ndarray, "*#b 3"], angle: Float[np.ndarray, "*#b"]) -> Float[np.ndarray, "*b 3 3"]:
    """Rotation matrices about unit `axis` by `angle` rad (Rodrigues)."""
    x, y, z = (axis[..., k] for k in range(3))
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def _thicker(hand: Hand) -> Float[np.ndarray, "10"]:
    """The slope of the digits' mean thickness over each direction of shape."""
    owner = hand.weights.argmax(1)
    skin = np.flatnonzero((owner > 0) & ~np.isin(owner, CHAIN_ENDS))  # with a bone to the next joint

    def thickness(vertices: Float[np.ndarray, "778 3"]) -> float:
        joints = hand.joint_regressor.astype(np.float64) @ vertices
        start, bone = joints[owner[skin]], joints[owner[skin] + 1] - joints[owner[skin]]
        bone /= np.linalg.norm(bone, axis=1, keepdims=True)
        return float(np.linalg.norm(np.cross(vertices[skin] - start, bone), axis=1).mean())

    rest_vertices = hand.v_template.astype(np.float64)
    slopes = [thickness(rest_vertices + hand.shapedirs[..., k]) for k in range(hand.shapedirs.shape[2])]
    return np.array(slopes) / thickness(rest_vertices) - 1


def _frames(joints: Float[np.ndarray, "16 3"]) -> Float[np.ndarray, "16 3 3"]:
    frames = np.tile(np.eye(3), (16, 1, 1))
    for digit in (*FINGER_CHAINS, THUMB):
        for k, joint in enumerate(range(digit.start, digit.stop)):
            roll = THUMB_ROLL[k] if digit is THUMB else ROLL[digit.start]
            start = min(joint, digit.stop - 2)  # the last bone continues the one before: its tip lies on the pad
            frames[joint] = _frame(joints[start + 1] - joints[start], roll)
    return frames


def _frame(along: Float[np.ndarray, "3"], roll: float) -> Float[np.ndarray, "3 3"]:
    u = along / np.linalg.norm(along)
    n = np.array([0.0, 1.0, 0.0]) - u * u[1]
    n /= np.linalg.norm(n)
    n = np.cos(np.radians(roll)) * n + np.sin(np.radians(roll)) * np.cross(n, u)
    return np.stack([u, np.cross(n, u), n])
