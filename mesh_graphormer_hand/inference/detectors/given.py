"""Boxes that the user knows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from .base import Detection, Side


class Given:
    """The same boxes in every photo."""

    name = "boxes"

    def __init__(self, boxes: Sequence[Sequence[float | int]], sides: Sequence[Side] | None = None) -> None:
        """`boxes`: x0, y0, x1, y1, px; `sides`: one for each."""
        self.boxes = [np.asarray(box, np.float32) for box in boxes]
        self.sides = [None] * len(self.boxes) if sides is None else list(sides)

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The boxes."""
        return [Detection(box, side=side) for box, side in zip(self.boxes, self.sides, strict=True)]
