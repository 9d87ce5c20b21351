"""What labels of one's own may be written in, and how they become this project's: px, metres, camera axes, null."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ..images import DataError
from .plausibility import Problem

METRES_OF_UNIT = {"m": 1.0, "cm": 0.01, "mm": 0.001}
OPENCV_FROM_AXES = {"opencv": (1.0, 1.0, 1.0), "opengl": (1.0, -1.0, -1.0)}
MISSING_VALUES = {"null": None, "zero": 0.0, "minus_one": -1.0}
# kind of a plausibility.Problem -> what mends it
REMEDIES = {
    "units": "units=mm or units=cm converts",
    "axes": "axes=opengl converts",
    "relative": "origin=wrist takes them so",
    "normalised": "coordinates=normalised converts",
    "resolution": "labelled_size=[WIDTH,HEIGHT] converts labels of an image of that size",
    "missing": "write null, or missing=zero or missing=minus_one takes them so",
    "transposed": "K_layout=transposed converts",
    "K normalised": "K_layout=normalised converts",
    "K size": "labelled_size=[WIDTH,HEIGHT] converts labels and K of an image of that size",
}


@dataclass(kw_only=True)
class Conventions:
    """How a file of one's own writes its labels."""

    units: str = "m"  # of 3D joints: m | cm | mm
    axes: str = "opencv"  # of 3D joints: opencv (x right, y down, z forward) | opengl (x right, y up, z backwards)
    origin: str = "camera"  # of 3D joints: camera | wrist (relative ones, of a hand that stands nobody knows where)
    coordinates: str = "pixels"  # of 2D joints and boxes: pixels | normalised (shares of width and height)
    K_layout: str = "pixels"  # pixels | normalised (rows in shares of width and height) | transposed
    missing: str = "null"  # what stands for an unknown joint, besides null: zero (all 0) | minus_one (all -1)
    labelled_size: list[int] = field(default_factory=list)  # width, height that labels and K are of; empty: the photo's
    CHOICES = {
        "units": tuple(METRES_OF_UNIT),
        "axes": tuple(OPENCV_FROM_AXES),
        "origin": ("camera", "wrist"),
        "coordinates": ("pixels", "normalised"),
        "K_layout": ("pixels", "normalised", "transposed"),
        "missing": tuple(MISSING_VALUES),
    }


def check(conventions: Conventions, name: str) -> None:
    """
    Raises:
        DataError: a `labelled_size` that is none.
    """
    size = conventions.labelled_size
    if size and (len(size) != 2 or min(size) < 1):
        raise DataError(f"data set {name}: labelled_size {size} should be [WIDTH, HEIGHT] in pixels")


def known(values: Float[np.ndarray, "21 c"], conventions: Conventions) -> Float[np.ndarray, "21 c"]:
    """The joints with NaN for what stands for a missing one."""
    dummy = MISSING_VALUES[conventions.missing]
    return values if dummy is None else np.where((values == dummy).all(-1, keepdims=True), np.nan, values)


def in_metres(joints: Float[np.ndarray, "21 3"], conventions: Conventions) -> Float[np.ndarray, "21 3"]:
    """3D joints in metres and OpenCV's axes, relative to the wrist where the options declare them so."""
    joints = joints * np.float32(METRES_OF_UNIT[conventions.units]) * np.float32(OPENCV_FROM_AXES[conventions.axes])
    return joints - joints[0] if conventions.origin == "wrist" else joints


def upright(K: Float[np.ndarray, "3 3"], conventions: Conventions) -> Float[np.ndarray, "3 3"]:
    """K as a matrix that multiplies columns."""
    return np.ascontiguousarray(K.T) if conventions.K_layout == "transposed" else K


def in_pixels(
    points: Float[np.ndarray, "*n 2"] | None, conventions: Conventions, size: tuple[int, int]
) -> Float[np.ndarray, "*n 2"] | None:
    """2D joints or corners of boxes in px of the photo, whose width and height are `size`."""
    labelled = (1, 1) if conventions.coordinates == "normalised" else conventions.labelled_size or size
    return None if points is None else points * (np.float32(size) / np.float32(labelled))


def camera_in_pixels(
    K: Float[np.ndarray, "3 3"] | None, conventions: Conventions, size: tuple[int, int]
) -> Float[np.ndarray, "3 3"] | None:
    """K in px of the photo."""
    labelled = (1, 1) if conventions.K_layout == "normalised" else conventions.labelled_size or size
    return None if K is None else K * np.float32([size[0] / labelled[0], size[1] / labelled[1], 1])[:, None]


def refuse(problem: Problem | None, where: str) -> None:
    """Raise a problem with its remedy, where there is one.

    Raises:
        DataError: names file and hand, the likely cause, and the option that converts.
    """
    if problem is not None:
        remedy = REMEDIES.get(problem.kind)
        raise DataError(f"{where}: {problem.message}" + (f" ({remedy})" if remedy else ""))
