"""Which detector to use and with what, as a command line or a page gives it; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Detector

NAMES = ("auto", "ours", "mediapipe", "boxes", "whole")


@dataclass(frozen=True)
class DetectorOptions:
    """A detector by name, or by an option that only it has; all None: the predictor's default."""

    name: str | None = None
    threshold: float | None = None  # least score, of ours and auto
    model: str | Path | None = None  # weights of ours and auto, hand_landmarker.task of mediapipe
    python: str | Path | None = None  # interpreter of an environment that has mediapipe

    def chosen(self, boxes: Sequence[Sequence[float]] | None = None) -> str | None:
        """Name of the detector, "boxes" where `boxes` are given; None: the predictor's default."""
        if self.name is not None or boxes is not None:
            return self.name or "boxes"
        if self.python is not None:
            return "mediapipe"
        return None if self.threshold is None and self.model is None else "ours"

    def build(
        self,
        boxes: Sequence[Sequence[float]] | None = None,
        sides: Sequence[str] | None = None,
        device: str = "cpu",
    ) -> Detector | None:
        """The detector; None: the predictor's default.

        Args:
            boxes: x0, y0, x1, y1 around known hands, px, with their `sides`.

        Raises:
            ConfigError: a file or package that the detector needs is missing.
        """
        from .choose import choose

        if (name := self.chosen(boxes)) is None:
            return None
        return choose(
            name,
            boxes=boxes,
            sides=sides,
            model=self.model,
            python=self.python,
            threshold=self.threshold,
            device=device,
        )

    def model_file(self, chosen: str) -> Path | None:
        """The file with the weights of the detector `chosen`; None: it has none, or carries them itself.

        Raises:
            ConfigError: ours, and no such weights.
        """
        if chosen in ("auto", "ours"):
            from ... import assembly
            from .hand_detector import DETECTOR_WEIGHTS

            return assembly.find_model(self.model or DETECTOR_WEIGHTS) / "model.safetensors"
        given = self.model if chosen == "mediapipe" else None
        return None if given is None else Path(given)


def alternatives(chosen: str) -> str:
    """The options that name other detectors than `chosen`, for a message about a photo where it finds nothing."""
    *first, last = [name for name in NAMES if name not in (chosen, "auto", "ours")]
    return f"--detector {', '.join(first)} or {last}"
