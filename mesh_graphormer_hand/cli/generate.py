"""Write virtual hands to files:  hand-generate [CONFIG] --out DIR --count N [key=value ...]   (also tools/generate.py)

CONFIG holds the generator's options (default: virtual.yaml). The same command goes on after a kill. --shard i/n writes
one share of n, into the same folder or another; copy the folders over one another and run the command without --shard
to finish. Under `accelerate launch` or torchrun each process takes its own share. --kind is crops of one hand each,
whole frames, moments seen by several cameras (views=V) or sequences (length=T rate=HZ).
"""

from __future__ import annotations

import argparse
import os

from ..generation.renderer import KINDS, SHEET
from ..generation.request import Request, carry_out, checked
from ..virtual.config import EXTRA_LABELS
from . import console


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-generate", description=__doc__.splitlines()[0])
    shipped = f"a YAML file, or one of {console.shipped_configs('virtual*.yaml')} (default: virtual)"
    parser.add_argument("config", metavar="CONFIG", nargs="?", default="virtual.yaml", help=shipped)
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="the generator's options, such as seed=1")
    parser.add_argument("--out", metavar="DIR", help="where to write")
    parser.add_argument("--count", type=int, metavar="N", help="samples (default: the config's, where it has a number)")
    parser.add_argument("--kind", default="crops", help=f"{', '.join(KINDS)} (default: crops)")
    layouts = "; ".join(f"of {name}: {', '.join(kind.layouts)}" for name, kind in KINDS.items())
    parser.add_argument("--layout", help=f"{layouts} (default: the first)")
    parser.add_argument("--image-size", type=int, metavar="PX", help="side of the pictures (default: 224; frames: 640)")
    parser.add_argument("--quality", type=int, default=95, metavar="Q", help="of the JPEGs, 1 to 100 (default: 95)")
    parser.add_argument("--lossless", action="store_true", help="pictures as PNG")
    parser.add_argument("--left-fraction", type=float, default=0.0, metavar="P", help="of the hands (default: 0)")
    parser.add_argument(
        "--labels", default="all", metavar="LIST", help=f"all (default), none, or some of {','.join(EXTRA_LABELS)}"
    )
    parser.add_argument("--shard", metavar="i/n", help="write one share of n, counted from 0")
    parser.add_argument("--workers", type=int, default=-1, metavar="W", help="processes; 0: none (default: the cores)")
    parser.add_argument("--device", default="cpu", help="where to render: cpu (default), cuda, ...")
    parser.add_argument("--hand", default="auto", help="auto (default), open, or a MANO file or folder")
    parser.add_argument("--dry-run", action="store_true", help="render one block and say bytes, files and hours")
    parser.add_argument("--sheet", metavar="FILE", help=f"draw a contact sheet of the first {SHEET} samples, too")
    parser.add_argument("--check", type=int, metavar="N", help="render N samples, write none, and judge their labels")
    parser.add_argument("--plots", metavar="FILE", help="with --check: draw what the samples cover")
    console.refuse_renamed(parser, {"--what": "--kind", "--left": "--left-fraction"})
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: generate(arguments))


def generate(arguments: argparse.Namespace) -> int:
    """Write as the command line says; see the module's docstring."""
    request = checked(Request(**vars(arguments)))
    console.log_to_terminal()
    if int(os.environ.get("LOCAL_RANK", 0)):
        console.only_warnings()
    return 0 if carry_out(request, os.environ, print) else 1
