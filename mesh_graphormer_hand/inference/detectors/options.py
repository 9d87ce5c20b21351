"""Which detector to use and with what, as a command line or a page gives it; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import ConfigError, nearest

if TYPE_CHECKING:
    import torch

    from .base import Detector, Side

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
        if (name := self.chosen(boxes)) is None:
            return None
        files = {"model": self.model, "python": self.python}
        return choose(name, boxes=boxes, sides=sides, **files, threshold=self.threshold, device=device)

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


def choose(
    name: str = "auto",
    *,
    boxes: Sequence[Sequence[float | int]] | None = None,
    sides: Sequence[Side] | None = None,
    model: str | Path | None = None,
    python: str | Path | None = None,
    threshold: float | None = None,
    device: str | torch.device = "cpu",
) -> Detector:
    """The detector `name` of NAMES.

    Args:
        boxes: for "boxes", with their `sides`.
        model: weights of "ours" and "auto" (a run, a folder, a shipped name), or "mediapipe"'s hand_landmarker.task.
        python: for "mediapipe", the interpreter of an environment of its own.
        threshold: of "ours" and "auto", the least score of a hand.

    Raises:
        ConfigError: no such name, or a file or package that the detector needs is missing.
    """
    from .base import FixedBoxes, WholeImage

    if name == "auto":
        from .auto import Auto

        return Auto(model, device, threshold)
    if name == "ours":
        from .hand_detector import HandDetector

        return HandDetector(model, device, threshold)
    if name == "mediapipe":
        from .media_pipe import MediaPipe

        return MediaPipe(model, python)
    if name == "boxes":
        if boxes is None:
            raise ConfigError("the detector boxes needs boxes: --box x0,y0,x1,y1, once for each hand")
        return FixedBoxes(boxes, sides)
    if name == "whole":
        return WholeImage()
    raise ConfigError(f"no detector named {name!r}{nearest(name, NAMES)} (there are: {', '.join(NAMES)})")
