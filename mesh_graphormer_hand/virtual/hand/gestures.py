"""Named hand poses: everyday gestures, counting, pinches, grasps of the GRASP taxonomy, letters of sign language.

Angles in degrees as in `anatomy`: index, middle, ring, little (base flexion, spread towards the thumb, middle flexion,
end flexion), then the thumb (carpal flexion, abduction, opposition, base flexion, end flexion). Grasps follow the
pictures of Feix et al., "The GRASP taxonomy of human grasp types", IEEE T-HMS 46(1), 2016; letters follow the American
manual alphabet (left out: movements, another shape turned round, and what folded thumbs hide: E, M, N; G is Q, H is
U, I is J, K is P, D is Z, S the fist). Thumbs that touch something were placed by `tools.open_hand.contacts`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Degrees = tuple[float | int, ...]
Pose = tuple[Degrees, Degrees, Degrees, Degrees, Degrees]

STRAIGHT = {"index": (0, 4, 4, 2), "middle": (0, 0, 4, 2), "ring": (0, -4, 5, 3), "little": (0, -9, 4, 2)}
FOLDED = {"index": (70, 3, 104, 55), "middle": (72, 0, 104, 56), "ring": (72, -2, 102, 54), "little": (70, -5, 96, 50)}
OUT = (-18, 2, 0, -6, -10)  # a thumb that stands off
ACROSS = (26, 36, 32, 49, 52)  # over the folded middle and ring finger
BESIDE = (6, -14, 2, 6, 12)  # along the index


def _hand(straight: str, thumb: Degrees, **other: Degrees) -> Pose:
    """Fingers named in `straight` (i, m, r, l) straight, the others folded, but those in `other`."""
    fingers = []
    for letter, name in zip("imrl", STRAIGHT, strict=True):
        fingers.append(other.get(name, STRAIGHT[name] if letter in straight else FOLDED[name]))
    return (*fingers, thumb)


def _all(base: Degrees, middle: Degrees, end: Degrees, thumb: Degrees, spread: Degrees = (2, 0, -2, -5)) -> Pose:
    """Index to little by joint."""
    return (*zip(base, spread, middle, end, strict=True), thumb)


GESTURES: dict[str, Pose] = {
    # everyday
    "fist": _hand("", (24, 35, 32, 49, 53)),
    "fist_thumb_in": _hand("", (38, 31, 48, 35, 44), index=(66, 2, 88, 50), middle=(70, 0, 90, 52)),
    "thumbs_up": _hand("", (-22, 10, 0, -8, -14)),
    "point": _hand("i", (24, 35, 32, 49, 53)),
    "v_sign": _hand("im", (33, 37, 27, 49, 60), index=(2, 9, 2, 1), middle=(2, -8, 2, 1)),
    "horns": _hand("il", (32, 36, 31, 49, 49)),
    "i_love_you": _hand("il", OUT),
    "shaka": _hand("l", (-20, 0, 0, -8, -10), little=(-4, -14, 2, 2)),
    "gun": _hand("im", (-20, 0, 0, -6, -10), index=(0, 1, 4, 2), middle=(0, 2, 4, 2)),
    "crossed_fingers": _hand("im", ACROSS, index=(0, -5, 4, 2), middle=(22, 7, 16, 8)),
    "open_spread": _all((-8, -8, -8, -8), (-2, -2, -2, 0), (0, 0, 0, 0), (-14, 0, 0, -6, -6), (10, 1, -8, -14)),
    "flat": _all((0, 0, 0, 0), (4, 4, 4, 4), (2, 2, 2, 2), BESIDE, (-2, 0, 2, 5)),
    "bent_back": _all((-24, -22, -20, -24), (2, 2, 2, 2), (0, 0, 0, 0), (-18, 0, 0, -8, -12), (8, 1, -6, -12)),
    "relaxed": _all((22, 28, 32, 34), (26, 32, 36, 36), (14, 18, 20, 20), (10, 10, 14, 8, 14), (-4, -1, 2, 8)),
    "claw": _all((-6, -6, -6, -6), (58, 60, 60, 56), (42, 44, 44, 40), (4, 16, 20, 10, 44), (10, 2, -6, -13)),
    "hook": _all((4, 4, 4, 4), (88, 92, 90, 82), (56, 58, 56, 50), (0, 14, 10, 10, 20), (0, 0, 0, -2)),
    "table_top": _all((82, 84, 82, 78), (6, 6, 6, 8), (4, 4, 4, 4), (10, 26, 30, 5, 0), (2, 0, -1, -3)),
    "stop_half": _all((44, 46, 46, 44), (4, 4, 4, 4), (2, 2, 2, 2), (2, 8, 8, 2, 4)),
    # counting, with the thumb first and with the index first
    "one_thumb": _hand("", OUT),
    "two_thumb": _hand("i", OUT),
    "three_thumb": _hand("im", OUT, index=(0, 8, 4, 2), middle=(0, -4, 4, 2)),
    "three": _hand("imr", (45, 31, 22, 47, 50), index=(-2, 6, 4, 2), ring=(0, -6, 6, 3)),
    "three_last": _hand("mrl", (44, 31, 56, 14, 35), index=(60, 0, 29, 12)),
    "four": _hand("imrl", (43, 8, 54, 54, 60), index=(-2, 8, 2, 1), ring=(-2, -7, 4, 2), little=(-2, -13, 2, 1)),
    "five": _all((-4, -4, -4, -4), (2, 2, 2, 2), (1, 1, 1, 1), OUT, (11, 1, -8, -15)),
    "six_pinch_little": _hand(
        "imr", (38, 44, 10, 58, 36), index=(-2, 6, 4, 2), ring=(12, -3, 10, 5), little=(64, -2, 40, 20)
    ),
    "seven_pinch_ring": _hand(
        "iml", (30, 43, 10, 49, 41), index=(-2, 6, 4, 2), ring=(66, -1, 40, 22), little=(14, -8, 10, 5)
    ),
    "eight_pinch_middle": _hand("irl", (40, 40, 27, 27, 36), middle=(64, 0, 36, 18), ring=(10, -4, 10, 6)),
    # pinches
    "pinch": ((60, 0, 29, 12), (30, 0, 38, 22), (22, 0, 32, 20), (16, 0, 28, 18), (44, 31, 56, 14, 35)),
    "ok": ((56, -2, 35, 14), (16, 0, 18, 10), (6, -2, 10, 6), (-2, -6, 8, 5), (43, 31, 56, 17, 36)),
    "pinch_closed": ((60, 0, 29, 12), *list(FOLDED.values())[1:], (44, 31, 56, 14, 35)),
    "key": ((52, 2, 74, 40), (62, 0, 84, 48), (66, -1, 86, 48), (66, -3, 82, 44), (2, 12, 22, 29, 43)),
    # grasps of the taxonomy (those that differ by the object's size only are given once each)
    "feix_cylinder": _all((44, 48, 52, 54), (52, 54, 52, 46), (32, 32, 30, 26), (34, 34, 46, 12, 24)),
    "feix_large_diameter": _all((24, 28, 30, 30), (38, 40, 38, 36), (24, 24, 24, 22), (22, 30, 44, 4, 14)),
    "feix_small_diameter": _all((60, 62, 64, 62), (78, 80, 78, 70), (46, 46, 44, 40), (36, 36, 44, 34, 36)),
    "feix_adducted_thumb": _all((60, 62, 64, 60), (76, 78, 76, 70), (46, 46, 44, 40), (12, -10, 6, 8, 14)),
    "feix_light_tool": _all((50, 58, 64, 64), (66, 76, 80, 76), (38, 44, 44, 42), (19, 4, 17, 12, 16)),
    "feix_power_sphere": _all(
        (30, 32, 34, 34), (44, 46, 46, 44), (28, 30, 30, 28), (26, 32, 46, 6, 18), (9, 1, -7, -14)
    ),
    "feix_precision_sphere": _all(
        (34, 36, 38, 38), (40, 40, 40, 38), (24, 24, 24, 22), (38, 20, 52, 2, 14), (8, 1, -6, -12)
    ),
    "feix_precision_disk": _all(
        (40, 42, 44, 44), (26, 26, 26, 26), (14, 14, 14, 14), (34, 22, 50, 0, 8), (11, 1, -8, -15)
    ),
    "feix_power_disk": _all(
        (20, 22, 24, 26), (56, 58, 58, 54), (38, 40, 40, 36), (16, 22, 30, 10, 30), (11, 1, -8, -15)
    ),
    "feix_tripod": ((56, 0, 34, 16), (60, 1, 36, 18), (48, -1, 60, 34), (46, -3, 60, 34), (40, 40, 49, 28, 43)),
    "feix_quadpod": ((52, 0, 34, 16), (56, 0, 36, 18), (58, 0, 38, 20), (44, -3, 52, 30), (41, 15, 56, 4, 11)),
    "feix_writing": ((54, -2, 42, 10), (62, 0, 60, 32), (64, 0, 72, 40), (62, -2, 72, 40), (30, 34, 40, 26, 53)),
    "feix_palmar_pinch_four": _all(
        (54, 58, 58, 54), (22, 24, 24, 24), (8, 10, 10, 10), (44, 16, 56, 0, 4), (2, 0, -1, -3)
    ),
    "feix_parallel_extension": _all((58, 60, 60, 56), (4, 4, 4, 6), (2, 2, 2, 2), (40, 20, 54, 0, 0), (1, 0, 0, -2)),
    "feix_extension_type": _all((42, 44, 46, 46), (14, 14, 14, 16), (8, 8, 8, 8), (30, 22, 44, 0, 6), (3, 0, -2, -4)),
    "feix_index_extension": _hand("i", (34, 34, 42, 20, 28), index=(14, 2, 12, 6), middle=(66, 0, 78, 46)),
    "feix_platform": _all((4, 4, 4, 6), (12, 12, 12, 14), (6, 6, 6, 6), (-10, 6, 6, 0, 4), (8, 1, -6, -12)),
    "feix_distal": ((48, 4, 60, 34), (52, 0, 62, 36), (56, -2, 60, 36), (56, -4, 56, 32), (38, 28, 34, 20, 36)),
    "feix_adduction": _hand(
        "im", OUT, index=(8, -3, 6, 3), middle=(8, 3, 6, 3), ring=(20, -2, 20, 12), little=(22, -4, 20, 12)
    ),
    "feix_ring": _hand(
        "mrl", (34, 24, 48, 12, 28), index=(48, 0, 48, 26), middle=(24, 0, 22, 12), ring=(18, -2, 18, 10)
    ),
    # letters
    "asl_a": _hand("", BESIDE),
    "asl_b": _hand("imrl", (41, 13, 56, 56, 62), index=(0, -2, 3, 2), ring=(0, 2, 3, 2), little=(0, 5, 3, 2)),
    "asl_c": _all((30, 32, 34, 34), (46, 46, 46, 44), (30, 30, 30, 28), (26, 22, 46, 4, 22), (-1, 0, 1, 2)),
    "asl_d": _hand("i", (20, 38, 16, 58, 25), middle=(64, 0, 46, 26), ring=(66, -1, 48, 28), little=(66, -3, 50, 28)),
    "asl_g": _hand("i", (12, 8, 16, 4, 6), index=(70, 2, 4, 2)),
    "asl_i": _hand("l", ACROSS, little=(-2, -6, 3, 2)),
    "asl_k": _hand("im", (20, 6, 30, 4, 8), index=(2, 7, 4, 2), middle=(44, -4, 6, 4)),
    "asl_l": _hand("i", (-18, 0, 0, -6, -10)),
    "asl_o": _all((50, 52, 54, 54), (44, 46, 46, 44), (26, 28, 28, 26), (31, 33, 44, 28, 36), (0, 0, 1, 2)),
    "asl_r": _hand("im", ACROSS, index=(0, -6, 3, 2), middle=(24, 8, 12, 6)),
    "asl_t": _hand("", (0, 1, 23, 45, 73), index=(64, 3, 80, 44)),
    "asl_u": _hand("im", ACROSS, index=(0, -3, 3, 2), middle=(0, 3, 3, 2)),
    "asl_v": _hand("im", ACROSS, index=(0, 10, 3, 2), middle=(0, -8, 3, 2)),
    "asl_w": _hand("imr", (47, 28, 19, 35, 59), index=(0, 9, 3, 2), ring=(0, -8, 4, 2), little=(74, -2, 76, 44)),
    "asl_x": _hand("i", (26, 36, 32, 49, 52), index=(10, 2, 82, 46)),
    "asl_y": _hand("l", (-20, 0, 0, -8, -10), little=(-2, -15, 3, 2)),
}
FINGER_ANGLES: Float[np.ndarray, "n 4 4"] = np.array([pose[:4] for pose in GESTURES.values()], np.float64)
THUMBS: Float[np.ndarray, "n 5"] = np.array([pose[4] for pose in GESTURES.values()], np.float64)
