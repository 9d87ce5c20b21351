"""Ours; where it finds no hand, the whole photo, if the model itself is sure that a hand is there. The default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from .base import Detection
from .ours import Ours
from .whole import Whole

SURE = 0.8  # presence from which the whole photo shows a hand; a model without a presence head is never sure


class Auto:
    """Two detectors, the second where the first fails."""

    name = "auto"

    def __init__(
        self, weights: str | Path | None = None, device: str | torch.device = "cpu", threshold: float | None = None
    ) -> None:
        """All of ours; raises what it does."""
        self.ours, self.whole = Ours(weights, device, threshold), Whole()

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """What our detector finds."""
        return [replace(d, detector=self.ours.name) for d in self.ours.detect(photo)]

    def otherwise(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The whole photo."""
        return [replace(d, detector=self.whole.name, least_presence=SURE) for d in self.whole.detect(photo)]
