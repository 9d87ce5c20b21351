"""Labels that cannot be true, each named with its likely cause: another unit, other axes, another image size.

One hand at a time: `joints` 21 x 3 (m, camera axes x right, y down, z forward), `points` 21 x 2 (px), rows of NaN
where unknown; `K` 3 x 3 (px); `box` x0, y0, x1, y1 (px). Limits are far beyond any hand: what they refuse is no rare
hand, but a file that means something else than it is read as. Nothing is raised: the reader names file and hand.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ...skeleton import BONES

SPREAD_LIMITS_M = (0.005, 0.25)  # m: median distance of the joints from their middle; of real hands 0.03 to 0.09
CM_SPREAD, MM_SPREAD = 1.0, 15.0  # m: from this spread on the numbers are centimetres, millimetres
MAX_BONE_M = 0.25  # m
# no hand reaches that far from its middle; joints this near to the camera's centre are relative ones
MAX_REACH_M = 0.35
MAX_FIT_GAP_M = 0.03  # m: mean distance of the joints from the mesh that they lie in
MIN_SPREAD_JOINTS = 11  # known joints, from which on a spread says something about size
MIN_HAND_PX = 1.5  # px: no hand is this small
NORMALISED_FOCAL, NORMALISED_CENTRE = 10.0, 2.0  # below: a K in shares of the image
MAX_FOCAL_RATIO = 3.0  # of focal lengths
MAX_SKEW_RATIO = 0.2  # of the focal length
MAX_EXTENT_RATIO = 2.0  # times the image: an extent that no hand in it has
# of a hand's joints, those in its photo: below, one's own labels are of another resolution
MIN_INSIDE_RATIO = 1 / 3
OFFSET_RATIO, MIN_OFFSET_PX = 0.25, 10.0  # of the hand's extent: how far projected joints may lie from labelled ones
DIAGONAL, CENTRE_RATIOS = 0.03, (0.7, 1.43)  # of the image; of the middle: other images' centres
MAX_TURN_RAD, MAX_SHAPE_STD = 20.0, 30.0  # rad; standard deviations
logger = logging.getLogger(__name__)


class Problem(NamedTuple):
    """What is wrong: its kind, for remedies, and a message that goes after the name of file and hand."""

    kind: str
    message: str


def find(
    *,
    points: Float[np.ndarray, "21 2"] | None = None,
    joints: Float[np.ndarray, "21 3"] | None = None,
    K: Float[np.ndarray, "3 3"] | None = None,
    box: Float[np.ndarray, "4"] | None = None,
    size: tuple[int, int] | None = None,
    own: bool = False,
    relative: bool = False,
) -> Problem | None:
    """The first label of one hand that cannot be true; None: all can be.

    Args:
        size: width and height of the image, px; None: only what needs no image is looked at (the hand may lie outside).
        own: labels of one's own, of which also is told what happens in official sets (crops with a shifted K, hands
            that are mostly out of the picture).
        relative: the joints are declared as relative to the wrist.
    """
    found = of_joints(joints, relative) if joints is not None else None
    found = found or (of_camera(K, size, own) if K is not None else None)
    found = found or (of_points(points, size, own) if points is not None else None)
    if not found and points is not None and joints is not None and K is not None and not relative:
        found = of_projection(points, joints, K)
    return found or (of_box(box, points, own) if box is not None else None)


def of_joints(joints: Float[np.ndarray, "21 3"], relative: bool = False) -> Problem | None:
    """Another unit, other axes, relative joints, a dummy for a missing joint, a joint far from its neighbour."""
    known = joints[np.isfinite(joints).all(-1)]
    if (dummy := _dummy(joints, wrist_too=False)) is not None:
        return dummy
    if not len(known):
        return None
    spread = _spread(known)
    if spread > SPREAD_LIMITS_M[1]:
        unit = "millimetres" if spread > MM_SPREAD else "centimetres" if spread > CM_SPREAD else "another unit"
        return Problem(
            "units", f"the hand is {_extent(known):.3g} m large: are its joints in {unit} instead of metres?"
        )
    if not relative and (wrong := _of_depth(joints, known)):
        return wrong
    for a, b in BONES:
        length = float(np.linalg.norm(joints[a] - joints[b]))
        if length > MAX_BONE_M:  # False for NaN
            return Problem("bone", f"joint {b} lies {length:.3g} m from joint {a}: no hand has such a bone")
    if len(known) >= MIN_SPREAD_JOINTS and spread < SPREAD_LIMITS_M[0]:
        return Problem("units", f"the hand is {1000 * _extent(known):.3g} mm large: are its joints in another unit?")
    return None


def _of_depth(joints: Float[np.ndarray, "n 3"], known: Float[np.ndarray, "k 3"]) -> Problem | None:
    if not (known[:, 2] <= 0).any():
        return None
    first = int(np.flatnonzero(joints[:, 2] <= 0)[0])
    behind = f"joint {first} lies behind the camera (z = {joints[first, 2]:g} m)"
    if np.linalg.norm(np.median(known, 0)) < MAX_REACH_M and ((known[:, 2] > 0).any() or not joints[0].any()):
        return Problem("relative", f"{behind}: are the joints relative to the wrist instead of the camera?")
    if (known[:, 2] < 0).all():
        return Problem("axes", f"{behind}, as all of the hand: are the axes OpenGL's (y up, z backwards)?")
    return Problem("behind", behind)


def of_vertices(vertices: Float[np.ndarray, "n 3"], joints: Float[np.ndarray, "21 3"] | None) -> Problem | None:
    """A mesh of another unit, or elsewhere than its joints."""
    spread = _spread(vertices)
    if not SPREAD_LIMITS_M[0] < spread < SPREAD_LIMITS_M[1]:
        return Problem(
            "units", f"the vertices are {_extent(vertices):.3g} m large: are they in another unit than metres?"
        )
    far = np.linalg.norm(vertices - np.median(vertices, 0), axis=-1)
    if far.max() > MAX_REACH_M:
        return Problem("mesh", f"vertex {far.argmax()} lies {far.max():.3g} m from the middle of its mesh")
    known = np.zeros((0, 3)) if joints is None else joints[np.isfinite(joints).all(-1)]
    if len(known) >= MIN_SPREAD_JOINTS:
        gaps = np.linalg.norm(known[:, None] - np.asarray(vertices, known.dtype), axis=-1).min(1)
        if (gap := float(gaps.mean())) > MAX_FIT_GAP_M:
            return Problem("mesh", f"the joints lie {gap:.3g} m from the vertices: are these in other axes?")
    return None


def of_fit(fitted: Float[np.ndarray, "21 3"] | None, joints: Float[np.ndarray, "21 3"] | None) -> Problem | None:
    """A fitted hand that is another than the labelled joints."""
    if fitted is None or joints is None or np.isfinite(joints).all(-1).sum() < MIN_SPREAD_JOINTS:
        return None
    gap = float(np.nanmean(np.linalg.norm(fitted - joints, axis=-1)))
    return Problem("fit", f"the fit's joints lie {gap:.3g} m from the labelled ones") if gap > MAX_FIT_GAP_M else None


def of_parameters(pose: Float[np.ndarray, "16 3"] | None, shape: Float[np.ndarray, "10"] | None) -> Problem | None:
    """MANO's parameters that are none."""
    if pose is not None and (turn := float(np.abs(pose).max())) > MAX_TURN_RAD:
        return Problem("pose", f"the pose turns a joint by {turn:.3g} rad")
    if shape is not None and (far := float(np.abs(shape).max())) > MAX_SHAPE_STD:
        return Problem("shape", f"a shape parameter is {far:.3g} standard deviations")
    return None


def of_camera(K: Float[np.ndarray, "3 3"], size: tuple[int, int] | None = None, own: bool = False) -> Problem | None:
    """A transposed or normalised matrix, one that is no pinhole camera's, and, of one's own, one of another image."""
    if not np.allclose(K[2], [0, 0, 1], atol=1e-3):
        if np.allclose(K[:, 2], [0, 0, 1], atol=1e-3):
            return Problem("transposed", "K is transposed: it should be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]")
        return Problem("K", f"the last row of K is {K[2].tolist()}, it should be [0, 0, 1]")
    focal = K[[0, 1], [0, 1]]
    if focal.min() <= 0:
        return Problem("K", f"focal lengths {focal[0]:g}, {focal[1]:g} should be above 0")
    if focal.max() < NORMALISED_FOCAL and np.abs(K[:2, 2]).max() < NORMALISED_CENTRE:
        return Problem("K normalised", "K is normalised: its rows should be in pixels, not shares of width and height")
    if np.abs(K[:2, 2]).max() < MIN_HAND_PX:
        return Problem("K", f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) of K should be in pixels")
    if focal.max() > MAX_FOCAL_RATIO * focal.min():
        return Problem("K", f"focal lengths {focal[0]:g} and {focal[1]:g} do not go together")
    if max(abs(K[0, 1]), abs(K[1, 0])) > MAX_SKEW_RATIO * focal.min():
        return Problem("K", f"K has {K[0, 1]:g} and {K[1, 0]:g} beside its focal lengths, they should be 0")
    if own and size is not None:
        return _of_principal_point(K[:2, 2], size)
    return None


def told_camera(K: Float[np.ndarray, "3 3"], size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """The K that a caller gave for a photo of `size`; what is odd about it is told once, as a warning: a photo that was
    cut out of a larger one may have its principal point anywhere."""
    problem = of_camera(K, size, own=True)
    if problem is None and not ((K[:2, 2] >= 0) & (K[:2, 2] <= size)).all():
        where = (
            f"the principal point ({K[0, 2]:g}, {K[1, 2]:g}) of K lies outside the photo of {size[0]} x {size[1]} px"
        )
        problem = Problem("K size", f"{where}: is K of another image size? Of a part cut out of a photo that is right")
    if problem is not None:
        _warn(problem.message)
    return K


@lru_cache(maxsize=64)
def _warn(message: str) -> None:
    logger.warning("%s", message)


def _of_principal_point(centre: Float[np.ndarray, "2"], size: tuple[int, int]) -> Problem | None:
    """A principal point on the image's diagonal, but far from its middle, is the middle of another image size."""
    share = centre / np.array(size)
    ratio = float(2 * share.mean())
    if abs(share[0] - share[1]) < DIAGONAL * max(ratio, 1) and not CENTRE_RATIOS[0] < ratio < CENTRE_RATIOS[1]:
        middle = (
            f"the principal point ({centre[0]:g}, {centre[1]:g}) is the middle of an image {ratio:.3g} times as large"
        )
        return Problem("K size", f"{middle} as this one, {size[0]} x {size[1]} px: is K of another image size?")
    return None


def of_points(
    points: Float[np.ndarray, "21 2"], size: tuple[int, int] | None = None, own: bool = False
) -> Problem | None:
    """A dummy for a missing joint, shares of the image instead of pixels, pixels of another image size."""
    known = points[np.isfinite(points).all(-1)]
    if (dummy := _dummy(points)) is not None:
        return dummy
    if len(known) > 1 and np.abs(known).max() <= MIN_HAND_PX:
        return Problem("normalised", "the 2D joints lie in 0..1: are they shares of the image instead of pixels?")
    if size is None or not len(known):
        return None
    image, extent = f"the {size[0]} x {size[1]} image", np.ptp(known, axis=0).max()
    if len(known) >= MIN_SPREAD_JOINTS and extent < MIN_HAND_PX:
        return Problem("size", f"the hand is {extent:.2g} px large")
    inside = ((known >= 0) & (known <= size)).all(-1).mean()
    reach = (
        f"its 2D joints reach to ({known[:, 0].max():.0f}, {known[:, 1].max():.0f}): are they of another resolution?"
    )
    if not inside:
        return Problem("resolution", f"the hand lies outside {image}; {reach}")
    if extent > MAX_EXTENT_RATIO * max(size) or (own and inside < MIN_INSIDE_RATIO):
        return Problem("resolution", f"the hand lies mostly outside {image}; {reach}")
    return None


def of_projection(
    points: Float[np.ndarray, "21 2"], joints: Float[np.ndarray, "21 3"], K: Float[np.ndarray, "3 3"]
) -> Problem | None:
    """2D joints that are not where the camera sees the 3D ones."""
    known = np.isfinite(points).all(-1) & np.isfinite(joints).all(-1)
    if known.sum() < 2:
        return None
    there, uvw = points[known], joints[known] @ K.T
    seen = uvw[:, :2] / uvw[:, 2:]
    extent, mine = np.ptp(there, axis=0).max(), np.ptp(seen, axis=0).max()
    off = float(np.median(np.linalg.norm(seen - there, axis=-1)))
    if off <= max(OFFSET_RATIO * extent, MIN_OFFSET_PX):
        return None
    message = f"K shows the 3D joints {off:.3g} px from the 2D joints"
    ratio = mine / max(extent, 1e-6)
    if ratio > 0 and np.median(np.linalg.norm(seen / ratio - there, axis=-1)) <= max(
        OFFSET_RATIO * extent, MIN_OFFSET_PX
    ):
        return Problem("K size", f"{message}: is K of an image {ratio:.3g} times as large as the 2D joints'?")
    return Problem("projection", f"{message}: they do not belong together")


def of_box(
    box: Float[np.ndarray, "4"], points: Float[np.ndarray, "21 2"] | None = None, own: bool = False
) -> Problem | None:
    """A box in shares of the image, or elsewhere than its joints."""
    if np.abs(box).max() <= MIN_HAND_PX:
        return Problem("normalised", "the box lies in 0..1: is it in shares of the image instead of pixels?")
    known = np.zeros((0, 2)) if points is None else points[np.isfinite(points).all(-1)]
    if len(known):
        margin = (box[2:] - box[:2]) / 4
        held = ((known >= box[:2] - margin) & (known <= box[2:] + margin)).all(-1).mean()
        if held < (0.5 if own else 1e-9):
            return Problem("box", f"the box {box.tolist()} does not hold the joints: is it x, y, width, height?")
    return None


def of_box_in(box: Float[np.ndarray, "4"], size: tuple[int, int]) -> Problem | None:
    """A box outside its image, or one that no hand in it has."""
    if not (np.minimum(box[2:], size) > np.maximum(box[:2], 0)).all():
        return Problem("resolution", f"the box {box.tolist()} lies outside the {size[0]} x {size[1]} image")
    if (box[2:] - box[:2]).max() > MAX_EXTENT_RATIO * max(size):
        return Problem("resolution", f"the box {box.tolist()} is larger than the {size[0]} x {size[1]} image")
    return None


def of_size(labelled: tuple[int, int], size: tuple[int, int]) -> Problem | None:
    """An image of another size than its labels name."""
    if tuple(labelled) == tuple(size):
        return None
    turned = " (turned by its EXIF?)" if tuple(labelled) == tuple(size)[::-1] else ""
    sizes = f"the labels are of an image of {labelled[0]} x {labelled[1]} px, this one has {size[0]} x {size[1]}"
    return Problem("resolution", f"{sizes}{turned}")


def _dummy(values: Float[np.ndarray, "n c"], wrist_too: bool = True) -> Problem | None:
    """A joint that is all 0 or all -1: what some programs write for one that is not there."""
    for number in (0, -1):
        rows = np.flatnonzero((values == number).all(-1))
        rows = rows if wrist_too or number else rows[rows > 0]
        if rows.size:
            place = ", ".join([str(number)] * values.shape[1])
            kind = f"{values.shape[1]}D joints"
            return Problem(
                "missing", f"joint {rows[0]} of the {kind} is ({place}): does that stand for a missing joint?"
            )
    return None


def _spread(points: Float[np.ndarray, "n c"]) -> float:
    return float(np.median(np.linalg.norm(points - np.median(points, 0), axis=-1)))


def _extent(points: Float[np.ndarray, "n c"]) -> float:
    return float(np.linalg.norm(np.ptp(points, axis=0)))
