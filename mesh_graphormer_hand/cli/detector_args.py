"""The options that choose a detector and how the network is computed: the command's and the page's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..config import ConfigError
from ..inference.detectors.options import NAMES, DetectorOptions

BACKEND_HELP = "onnx: ONNX Runtime, whose graph is exported once; auto (default): it where a graph is ready, else torch"


def add_options(group: argparse._ArgumentGroup, names: Sequence[str] = NAMES) -> None:
    """Add --detector, one of `names`, and what the detectors need."""
    boxes = "; boxes with --box" if "boxes" in names else ""
    group.add_argument(
        "--detector",
        choices=names,
        help=f"how hands are found (default: auto, which is ours, then the whole photo{boxes})",
    )
    group.add_argument("--threshold", type=float, metavar="P", help="of ours, auto: least score of a hand, 0 to 1")
    group.add_argument(
        "--detector-model", metavar="FILE", help="of mediapipe: hand_landmarker.task; of ours, auto: weights"
    )
    group.add_argument("--detector-python", metavar="FILE", help="of mediapipe: an environment's python")


def parse(arguments: argparse.Namespace) -> DetectorOptions:
    """The options of the command line.

    Raises:
        ConfigError: a threshold outside 0 to 1.
    """
    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise ConfigError(f"--threshold {arguments.threshold} should be from 0 to 1")
    return DetectorOptions(arguments.detector, arguments.threshold, arguments.detector_model, arguments.detector_python)
