"""Weights of other programs as ours:  hand-convert FILE OUT [--config NAME] [--hand PATH]   (tools/convert.py)

FILE is the published graphormer_hand_state_dict.bin, or an ImageNet HRNet trunk (hrnetv2_w64_imagenet_pretrained.pth or
a sibling). What no published forward pass reads is dropped by name; any other name or size that is not expected is an
error, and so is a file that would run code. OUT becomes a folder that every tool here loads. Of a trunk it holds a
network that is fresh but for it:  hand-train ... train.init=OUT train.init_parts=[backbone]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import console


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and convert; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-convert", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", type=Path, help="the published weights: .bin, .pth, .safetensors")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    networks = f"of the network: a file, or one of {console.shipped_configs(*console.NETWORKS)}"
    parser.add_argument(
        "--config", metavar="NAME", default="graphormer_published", help=f"{networks} (default: graphormer_published)"
    )
    parser.add_argument("--hand", metavar="PATH", help="the hand that the weights are for (default: your MANO hand)")
    arguments = parser.parse_args(argv)
    return console.run(lambda: convert(arguments))


def convert(arguments: argparse.Namespace) -> int:
    """Convert with the options of the command line; see the module's docstring."""
    from ..inference.convert import convert_file, missing_mesh

    console.log_to_terminal()
    done = convert_file(arguments.file, arguments.out, arguments.config, arguments.hand)
    print(done.summary)
    for name in ("config.json", "model.safetensors"):
        print(arguments.out / name)
    if done.whole and (warning := missing_mesh()):
        print(f"warning: {warning}", file=sys.stderr)
    return 0
