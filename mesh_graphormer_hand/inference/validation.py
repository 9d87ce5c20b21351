"""The first stage of the predictor: the caller's photo, camera, boxes, sides and options, checked and converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ..config import ConfigError, nearest
from ..data import headers
from ..data.images import DataError, as_photo, decode_image, read_bytes
from ..data.readers import plausibility
from ..geometry.metric import default_intrinsics
from .detectors.base import Detection

Boxes = Sequence[Sequence[float | int] | np.ndarray] | np.ndarray  # x0, y0, x1, y1 of each hand, px

FOCAL_PX = (1e-1, 1e7)  # least and largest: float32 cannot place a hand beyond them
BONE_LENGTH_M = (1e-3, 1.0)  # from a doll's to a statue's
MESHES = ("regressed", "mano")


@dataclass(frozen=True)
class Photo:
    """A photo and its camera."""

    pixels: UInt8[np.ndarray, "h w 3"]  # RGB
    intrinsics: Float[np.ndarray, "3 3"]  # px
    intrinsics_from: str  # given | exif | assumed

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.pixels.shape[:2]


def open_photo(image: np.ndarray | str | Path, K: np.ndarray | None, focal: float | None) -> Photo:
    """Read a photo and choose its intrinsics: `K`, else `focal` (px), else the file's EXIF, else the longer side.

    Raises:
        DataError: an image, a K or a focal length that cannot be used.
    """
    check_range("focal", focal, FOCAL_PX)
    exif = None
    if isinstance(image, str | Path):
        data = read_bytes(image)
        pixels = decode_image(data, image)
        exif = headers.focal_length(data, pixels.shape[1], pixels.shape[0])
    else:
        pixels = as_photo(image)
    height, width = pixels.shape[:2]
    if K is not None:
        return Photo(pixels, plausibility.told_camera(check_intrinsics(K), (width, height)), "given")
    source = "given" if focal is not None else "exif" if exif is not None else "assumed"
    return Photo(pixels, default_intrinsics(width, height, focal if focal is not None else exif), source)


def check_boxes(boxes: Boxes, shape: tuple[int, int]) -> list[Detection]:
    """The boxes as detections in a photo of `shape` (height, width).

    Raises:
        DataError: a box that is no box, or that lies outside the photo.
    """
    height, width = shape
    checked = []
    for box in boxes:
        edges = _as_float32(box)
        if edges.shape != (4,) or not np.isfinite(edges).all() or not (edges[2:] > edges[:2]).all():
            raise DataError(f"box {_as_list(box)} should be x0, y0, x1, y1 in pixels with x0 < x1 and y0 < y1")
        if edges[0] >= width or edges[1] >= height or edges[2] <= 0 or edges[3] <= 0:
            raise DataError(f"box {_as_list(box)} lies outside the photo, which is {width} x {height} pixels")
        checked.append(Detection(edges))
    return checked


def with_sides(detections: list[Detection], sides: Sequence[str] | None, noun: str) -> list[Detection]:
    """The detections with the caller's sides, one for each or one for all; `noun` names them in the message.

    Raises:
        DataError: another number of sides, or something that is no side.
    """
    if sides is None:
        return detections
    if not set(sides) <= {"right", "left"} or len(sides) not in (1, len(detections)):
        raise DataError(f'sides should be "right" or "left" for each of {len(detections)} {noun}, not {list(sides)}')
    each = list(sides) * (len(detections) if len(sides) == 1 else 1)
    return [replace(d, side=side) for d, side in zip(detections, each, strict=True)]


def check_range(name: str, value: float | None, limits: tuple[float, float]) -> None:
    """
    Raises:
        DataError: a value that is not finite or lies outside the limits; None passes.
    """
    low, high = limits
    if value is not None and not (np.isfinite(value) and low <= value <= high):
        raise DataError(f"{name} should be a positive number from {low:g} to {high:g}, not {value}")


def check_mesh(mesh: str) -> str:
    """
    Raises:
        ConfigError: no kind of mesh of MESHES.
    """
    if mesh not in MESHES:
        raise ConfigError(f"mesh={mesh!r}{nearest(mesh, MESHES)} (there are: {', '.join(MESHES)})")
    return mesh


def check_intrinsics(K: np.ndarray) -> Float[np.ndarray, "3 3"]:
    """
    Raises:
        DataError: anything but a finite matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].
    """
    matrix = _as_float32(K)
    if (
        matrix.shape != (3, 3)
        or not np.isfinite(matrix).all()
        or not all(FOCAL_PX[0] <= f <= FOCAL_PX[1] for f in (matrix[0, 0], matrix[1, 1]))
        or np.abs(matrix[:2, 2]).max() > FOCAL_PX[1]
        or not np.allclose(matrix[2], [0, 0, 1])
    ):
        raise DataError(f"K should be [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels, not {_as_list(K)}")
    return matrix


def _as_list(values: object) -> object:
    return values.tolist() if isinstance(values, np.ndarray) else values


def _as_float32(values: object) -> np.ndarray:
    """Any object as float32; an empty array where it holds no numbers, or rows of several lengths."""
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError):
        return np.zeros(0, np.float32)
