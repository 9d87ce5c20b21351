"""No detection: the whole photo is one hand. For crops, and for photos that one hand fills."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from .base import Detection


class Whole:
    """One rough detection for every photo."""

    name = "whole"

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The photo's own outline."""
        height, width = photo.shape[:2]
        return [Detection(np.array([0, 0, width, height], np.float32), rough=True)]
