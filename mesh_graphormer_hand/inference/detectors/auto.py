"""The default: our hand detector; where it finds no hand, the whole photo, if the model is sure of a hand in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from .base import Detection, WholeImage
from .hand_detector import HandDetector

LEAST_EXTENT_RATIO = 0.35  # of a hand found in the whole photo, of the photo's shorter side
SURE_PRESENCE = 0.8  # from which the whole photo shows a hand; a model without a presence head is never sure


class Auto:
    """Two detectors, the second where the first fails."""

    name = "auto"

    def __init__(
        self, weights: str | Path | None = None, device: str | torch.device = "cpu", threshold: float | None = None
    ) -> None:
        """Arguments and errors are those of `HandDetector`."""
        self.hand_detector, self.whole = HandDetector(weights, device, threshold), WholeImage()

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """What the hand detector finds."""
        return [replace(d, detector=self.hand_detector.name) for d in self.hand_detector.detect(photo)]

    def fallback(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The whole photo, for a hand that fills much of it."""
        least = {"least_presence": SURE_PRESENCE, "least_extent": LEAST_EXTENT_RATIO * min(photo.shape[:2])}
        return [replace(d, detector=self.whole.name, **least) for d in self.whole.detect(photo)]
