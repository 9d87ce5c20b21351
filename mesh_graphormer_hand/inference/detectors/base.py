"""What a detector is (a name, and photo -> detections), and the two that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, UInt8

Side = Literal["right", "left"]


@dataclass(frozen=True)
class Detection:
    """One hand in a photo."""

    box: Float[np.ndarray, "4"]  # x0, y0, x1, y1, px of the photo
    score: float | None = None  # 0 to 1, how sure the detector is that this is a hand; None: it has no score
    side: Side | None = None  # the person's own hand; None: the detector cannot tell
    side_score: float | None = None  # 0.5 to 1, how sure it is of the side
    is_proposal: bool = False  # the box is only a first crop, see `HandPredictor.predict_crops`
    least_presence: float = 0.0  # the hand is kept if the model's own probability of one is this much
    least_extent: float = 0.0  # px: and if its 2D joints spread as far
    detector: str = ""  # name of the detector that found it, where one asks others


class Detector(Protocol):
    """Finds hands; `name` is the one in results and files."""

    name: str

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The hands of an RGB photo, the surest first; an empty list where there is none.

        Raises:
            ConfigError: the detector cannot work on this machine; the message says what it needs.
        """
        ...


def fallback_detections(detector: Detector, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
    """Further places to try if no detection is a hand: those of the detector's method `fallback`, if it has one."""
    fallback = getattr(detector, "fallback", None)
    return [] if fallback is None else fallback(photo)


class FixedBoxes:
    """The caller's boxes, the same in every photo."""

    name = "boxes"

    def __init__(self, boxes: Sequence[Sequence[float | int]], sides: Sequence[Side] | None = None) -> None:
        """`boxes`: x0, y0, x1, y1, px; `sides`: one for each."""
        self.boxes = [np.asarray(box, np.float32) for box in boxes]
        self.sides = [None] * len(self.boxes) if sides is None else list(sides)

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The boxes."""
        return [Detection(box, side=side) for box, side in zip(self.boxes, self.sides, strict=True)]


class WholeImage:
    """One proposal for every photo, its outline: for crops, and for photos that one hand fills."""

    name = "whole"

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The photo's outline."""
        height, width = photo.shape[:2]
        return [Detection(np.array([0, 0, width, height], np.float32), is_proposal=True)]
