"""Bones: anthropometric controls, the 16 joints, a frame on each bone. Also the frames and the order of the joints.

Hand frame: u distal (wrist to fingers), v radial (towards the thumb), w dorsal (back of the hand); right-handed,
u x v = w; origin at the wrist joint; millimetres. Asset frame (MANO's right hand): fingers towards -x, thumb towards
+z, back of the hand towards +y, wrist joint at (96, 6, 6) mm.

Distances from the wrist to the knuckles, lengths of the phalanges and of the thumb's metacarpal are fractions of the
hand length after Buchholz, Armstrong and Goldstein (Ergonomics 35, 1992). Breadth at the knuckles fits ANSUR II (see
`population`). Other widths, depths and all soft tissue are our own numbers, tuned by eye.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mesh_graphormer_hand.skeleton import FINGERS as DIGITS
from mesh_graphormer_hand.skeleton import FINGERTIPS

# MANO's joints of each digit, in MANO's order of digits
CHAINS = {"index": (1, 2, 3), "middle": (4, 5, 6), "little": (7, 8, 9), "ring": (10, 11, 12), "thumb": (13, 14, 15)}
DIGIT_OF = {joint: digit for digit, joints in CHAINS.items() for joint in joints}
FINGERS = ("index", "middle", "ring", "little")  # across the hand
TIP_VERTICES = dict(zip(DIGITS, FINGERTIPS["manopth"], strict=True))
# fractions of the hand length: wrist to knuckle, then the phalanges; for the thumb metacarpal and phalanges
BONE_FRACTIONS = {
    "index": (0.463, 0.245, 0.143, 0.097),
    "middle": (0.446, 0.266, 0.170, 0.108),
    "ring": (0.421, 0.244, 0.165, 0.107),
    "little": (0.414, 0.204, 0.117, 0.093),
    "thumb": (0.251, 0.196, 0.158),
}
HAND_LENGTH = 190.0  # mm, wrist joint to middle fingertip of the average hand
WRIST_PLANE = -16.0  # mm along u: where the skin ends
WRIST_ASSET = np.array([96.0, 6.0, 6.0])  # mm
ASSET_FROM_HAND = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])  # rotation part

# place of the knuckle along v and w (mm), then spread, pitch and roll of the finger (degrees)
FINGER_LAYOUT = {
    "index": (25.5, 1.0, 7.5, 3.0, 2.5),
    "middle": (4.8, 3.2, 0.8, 2.0, 1),
    "ring": (-14.8, 1.6, -5.5, 3.5, -2),
    "little": (-32.0, -2.6, -14.5, 5.0, -4.5),
}
REST_BEND = 4.0  # degrees of flexion at each finger joint in the rest pose
PULP = 3.6  # mm of flesh beyond the last bone of a finger


@dataclass(frozen=True)
class Params:
    """Anthropometric controls; 1.0 is the average hand."""

    hand_length: float = HAND_LENGTH  # mm
    finger_len: float = 1.0
    index_len: float = 1.0
    ring_len: float = 1.0
    little_len: float = 1.0
    thumb_len: float = 1.0
    distal_len: float = 1.0
    finger_girth: float = 1.0
    thumb_girth: float = 1.0
    taper: float = 1.0  # girth of the fingertips relative to the finger bases
    joint_bulge: float = 1.0  # prominence of the middle and last finger joints
    palm_width: float = 1.0
    palm_len: float = 1.0
    palm_depth: float = 1.0
    thenar: float = 1.0
    hypothenar: float = 1.0
    knuckle: float = 1.0
    wrist: float = 1.0


class Skeleton:
    """Joints and bones of one hand at rest.

    Attributes:
        params: the controls.
        scale: isotropic scale of soft tissue, 1 for the average hand.
        joints: (16, 3) mm, MANO's order.
        frames: joint -> (3, 3), rows along the bone (distal), across it (radial) and dorsal.
        tips: digit -> (3,) mm, the end of the flesh.
        lengths: digit -> (3,) mm, its bones.
    """

    def __init__(self, params: Params | None = None):
        self.params = params or Params()
        self.scale = self.params.hand_length / HAND_LENGTH
        self.joints = np.zeros((16, 3))
        self.frames = {0: np.eye(3)}
        self.tips: dict[str, np.ndarray] = {}
        self.lengths: dict[str, np.ndarray] = {}
        for finger in FINGERS:
            self._place_finger(finger)
        self._place_thumb()

    def _place_finger(self, finger: str) -> None:
        p, g = self.params, self.scale
        v, w, spread, pitch, roll = FINGER_LAYOUT[finger]
        to_knuckle, *phalanges = BONE_FRACTIONS[finger]
        v, w = v * g * p.palm_width, w * g * p.palm_depth
        u = np.sqrt((to_knuckle * p.hand_length) ** 2 - (v / p.palm_width) ** 2 - w**2) * p.palm_len
        own = {"index": p.index_len, "middle": 1.0, "ring": p.ring_len, "little": p.little_len}[finger]
        lengths = np.array(phalanges) * p.hand_length * p.finger_len * own
        lengths[2] *= p.distal_len
        inward = np.sign(-spread)
        along = [
            direction(spread, pitch),
            direction(spread + 0.5 * inward, pitch + REST_BEND),
            direction(spread + 1.0 * inward, pitch + REST_BEND + REST_BEND),
        ]
        chain = CHAINS[finger]
        self.joints[chain[0]] = u, v, w
        self.joints[chain[1]] = self.joints[chain[0]] + lengths[0] * along[0]
        self.joints[chain[2]] = self.joints[chain[1]] + lengths[1] * along[1]
        self.tips[finger] = self.joints[chain[2]] + (lengths[2] + PULP * g * p.finger_girth) * along[2]
        self.lengths[finger] = lengths
        for joint, d in zip(chain, along, strict=True):
            self.frames[joint] = bone_frame(d, np.array([0, 0, 1.0]), roll)

    def _place_thumb(self) -> None:
        """The nail of the thumb faces dorso-radially, so its frames roll about the bone."""
        p = self.params
        metacarpal, first, last = np.array(BONE_FRACTIONS["thumb"]) * p.hand_length * p.thumb_len
        chain = CHAINS["thumb"]
        along = [direction(44, 19), direction(33, 14), direction(27, 9)]
        self.joints[chain[0]] = np.array([15.0, 19.0 * p.palm_width, -7.0]) * self.scale
        self.joints[chain[1]] = self.joints[chain[0]] + metacarpal * along[0]
        self.joints[chain[2]] = self.joints[chain[1]] + first * along[1]
        self.tips["thumb"] = self.joints[chain[2]] + last * p.distal_len * along[2]
        self.lengths["thumb"] = np.array([metacarpal, first, last * p.distal_len])
        for joint, d, roll in zip(chain, along, (44, 50, 54), strict=True):
            self.frames[joint] = bone_frame(d, np.array([0, 0, 1.0]), roll)


def unit(x: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Vectors of length one."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def direction(radial_deg: float, palmar_deg: float) -> Float[np.ndarray, "3"]:
    """The unit vector that points distally, turned so many degrees towards the thumb and towards the palm."""
    r, p = np.radians(radial_deg), np.radians(palmar_deg)
    return np.array([np.cos(p) * np.cos(r), np.cos(p) * np.sin(r), -np.sin(p)])


def bone_frame(
    d: Float[np.ndarray, "3"], up: Float[np.ndarray, "3"], roll_deg: float = 0.0
) -> Float[np.ndarray, "3 3"]:
    """Right-handed rows (d, s, n): d along the bone, n dorsal, s = n x d. Roll tilts n towards s."""
    n = unit(up - d * (up @ d))
    s = np.cross(n, d)
    cosine, sine = np.cos(np.radians(roll_deg)), np.sin(np.radians(roll_deg))
    n = cosine * n + sine * s
    return np.stack([d, np.cross(n, d), n])


def to_asset(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Points of the hand frame in the asset frame, mm."""
    x = WRIST_ASSET[0] - points[..., 0]
    return np.stack([x, WRIST_ASSET[1] + points[..., 2], WRIST_ASSET[2] + points[..., 1]], -1)


def from_asset(points: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Points of the asset frame in the hand frame, mm."""
    return (points - WRIST_ASSET) @ ASSET_FROM_HAND  # the rotation is its own inverse
