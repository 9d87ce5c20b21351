"""The options that say who looks for hands: the command's and the page's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError

if TYPE_CHECKING:
    from ..inference.detectors.base import Detector

NAMES = ("auto", "ours", "mediapipe", "boxes", "whole")  # of detectors.choose, which brings torch along


def add_options(group: argparse._ArgumentGroup, names: Sequence[str] = NAMES) -> None:
    """Add --detector, one of `names`, and what the detectors need."""
    boxes = "; boxes with --box" if "boxes" in names else ""
    group.add_argument(
        "--detector",
        choices=names,
        help=f"who looks for hands (default: auto, which is ours, then the whole photo{boxes})",
    )
    group.add_argument("--threshold", type=float, metavar="P", help="of ours, auto: score from which on it is a hand")
    group.add_argument(
        "--detector-model", metavar="FILE", help="of mediapipe: hand_landmarker.task; of ours, auto: weights"
    )
    group.add_argument("--detector-python", metavar="FILE", help="of mediapipe: an environment's python")


def check(arguments: argparse.Namespace) -> None:
    """Refuse what can be refused before anything is loaded.

    Raises:
        ConfigError: a threshold that is no share.
    """
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise ConfigError(f"--threshold {arguments.threshold} should be from 0 to 1")


def name(arguments: argparse.Namespace, boxes: Sequence[Sequence[float]] | None = None) -> str | None:
    """The detector that is asked for, by name or by an option that only it has; None: the predictor's own."""
    if arguments.detector is not None or boxes is not None:
        return arguments.detector or "boxes"
    if arguments.detector_python is not None:
        return "mediapipe"
    return None if arguments.threshold is None and arguments.detector_model is None else "ours"


def build(
    arguments: argparse.Namespace, boxes: Sequence[Sequence[float]] | None = None, sides: Sequence[str] | None = None
) -> Detector | None:
    """The detector that is asked for; None: the predictor's own.

    Args:
        boxes: x0, y0, x1, y1 around hands that are known, px, with their `sides`.

    Raises:
        ConfigError: something that the detector needs is not there.
    """
    from ..inference.detectors.choose import choose

    if (chosen := name(arguments, boxes)) is None:
        return None
    return choose(
        chosen,
        boxes=boxes,
        sides=sides,
        model=arguments.detector_model,
        python=arguments.detector_python,
        threshold=arguments.threshold,
        device=arguments.device,
    )


def model_file(arguments: argparse.Namespace, chosen: str) -> Path | None:
    """The file that holds what the detector `chosen` has learned; None: it has none, or carries it itself.

    Raises:
        ConfigError: ours, and no such weights.
    """
    if chosen in ("auto", "ours"):
        from .. import assembly
        from ..inference.detectors.hand_detector import WEIGHTS

        return assembly.find_model(arguments.detector_model or WEIGHTS) / "model.safetensors"
    given = arguments.detector_model if chosen == "mediapipe" else None
    return None if given is None else Path(given)


def others(chosen: str) -> str:
    """The detectors that a user may try where `chosen` finds nothing."""
    *first, last = [name for name in NAMES if name not in (chosen, "auto", "ours")]
    return f"--detector {', '.join(first)} or {last}"
