"""A model for other programs:  hand-export RUN OUT [--format onnx|torch|hub|all]   (tools/export.py in a checkout)

onnx: OUT/model.onnx, any batch size; `hand-demo --weights OUT` runs it, and where OUT is RUN's own folder of weights
the graph is what every prediction with them takes. torch: OUT/model.pt2 for
torch.export.load. Both are checked against the model itself, on batches of other sizes. hub: OUT/config.json,
model.safetensors and README.md, a folder for a model hub, which HandPredictor.from_pretrained loads.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..inference import EXPORT_FORMATS
from . import console


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-export", description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", metavar="RUN", help=f"a run, a saved model or shipped weights: {console.shipped_weights()}"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(
        "--format", choices=(*EXPORT_FORMATS, "all"), default="all", help="what to write (default: all)"
    )
    arguments = parser.parse_args(argv)
    return console.run(lambda: export(arguments))


def export(arguments: argparse.Namespace) -> int:
    """Export with the options of the command line; see the module's docstring."""
    from ..inference.export import export_model

    console.log_to_terminal()
    for line in export_model(arguments.run, arguments.out, arguments.format):
        print(line)
    return 0
