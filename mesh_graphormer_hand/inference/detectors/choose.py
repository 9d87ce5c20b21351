"""A detector by its name, as `--detector` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ...config import ConfigError, nearest
from .base import Detector, FixedBoxes, Side, WholeImage
from .options import NAMES


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
