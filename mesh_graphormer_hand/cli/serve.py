"""A web page on your own machine:  hand-demo --serve [--port N] [--weights RUN] [--detector NAME] [...]

Opens http://127.0.0.1:7860: drop a photo or take one, see the mesh on it, turn the hands in 3D, download the files.
Only this machine can reach it, nothing is sent anywhere, and uploads are deleted after ten minutes, or at Ctrl-C.
Needs the extra "page" (Gradio):  pip install -e ".[page]"
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError
from ..inference import BACKENDS
from ..inference.detectors.options import NAMES
from ..inference.media import page
from . import console, detector_args
from .detector_args import BACKEND_HELP

if TYPE_CHECKING:
    from ..inference.predictor import HandPredictor

DETECTORS = tuple(name for name in NAMES if name != "boxes")  # boxes are of one photo, a page sees many


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and serve until Ctrl-C; returns the exit code."""
    arguments = parser().parse_args(argv)
    return console.run(lambda: serve(arguments))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="hand-demo --serve", description=__doc__.splitlines()[0])
    made.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--port", type=int, default=7860, metavar="N", help="default: 7860; 0: any that is free")
    made.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    made.add_argument("--backend", choices=BACKENDS, default="auto", help=BACKEND_HELP)
    made.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    made.add_argument("--open", action="store_true", help="open the page in your browser")
    detector_args.add_options(made.add_argument_group("finding hands"), DETECTORS)
    return made


def serve(arguments: argparse.Namespace) -> int:
    """Serve with the options of the command line; see the module's docstring."""
    if not 0 <= arguments.port < 2**16:
        raise ConfigError(f"--port {arguments.port} should lie in 0..65535")
    detector_args.parse(arguments)
    if arguments.device != "cpu":
        console.check_device(arguments.device)
    with tempfile.TemporaryDirectory(prefix="hand_page_") as folder:
        # The library reads these when it is imported.
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1")
        page.gradio()
        console.log_to_terminal()
        blocks = page.build(page.Page(load(arguments), Path(folder)), console.is_user_error)
        url = page.start(blocks, arguments.port, arguments.open)
        print(f"{url}   (Ctrl-C ends it)", flush=True)
        try:
            blocks.block_thread()
        finally:
            blocks.close(verbose=False)
    return 0


def load(arguments: argparse.Namespace) -> HandPredictor:
    """The predictor and the detector that the command line names.

    Raises:
        ConfigError: no such weights, or something that the detector needs is not there.
    """
    from ..inference.predictor import DEFAULT_DETECTOR, HandPredictor

    detector = detector_args.parse(arguments).build(device=arguments.device)  # first: it may lack a file
    return HandPredictor.from_pretrained(
        arguments.weights, arguments.device, detector or DEFAULT_DETECTOR, arguments.backend, mesh="mano"
    )
