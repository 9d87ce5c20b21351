"""What a detector is: a name, and photo -> detections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float, UInt8

Side = Literal["right", "left"]


@dataclass(frozen=True)
class Detection:
    """One hand in a photo."""

    box: Float[np.ndarray, "4"]  # x0, y0, x1, y1, px of the photo
    score: float | None = None  # 0 to 1, how sure the detector is that this is a hand; None: nobody asked it
    side: Side | None = None  # the person's own hand; None: the detector cannot tell
    side_score: float | None = None  # 0.5 to 1, how sure it is of the side
    rough: bool = False  # the box only says where to look first
    least_presence: float = 0.0  # the hand is kept if the model's own probability of one is this much
    detector: str = ""  # of a detector that asks others: the one that said it


class Detector(Protocol):
    """Finds hands. `name` is what the output says."""

    name: str

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The hands of an RGB photo, the surest first; an empty list where there is none.

        Raises:
            ConfigError: the detector cannot work on this machine; the message says what it needs.
        """
        ...


def otherwise(detector: Detector, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
    """Where else to look if nothing that a detector found is a hand: detectors may have such a method of their own."""
    guess = getattr(detector, "otherwise", None)
    return [] if guess is None else guess(photo)
