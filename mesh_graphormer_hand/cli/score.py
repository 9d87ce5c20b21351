"""Score anybody's file of predictions by an official protocol, under the official names:

    hand-score --protocol freihand --truth DIR --predictions pred.json [--json FILE] [key=value ...]

(python tools/score.py in a checkout.) docs/evaluation.md says what every protocol reads; `--list` lists them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from ..evaluation.score import score_files
from ..files import write_json
from . import console

if TYPE_CHECKING:
    from ..metrics.protocols.base import Scores


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and score; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-score", description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", metavar="NAME", help=f"whose rules: {console.plugins('metrics/protocols')}")
    parser.add_argument("--truth", metavar="PATH", type=Path, help="the labels: a folder or a file")
    parser.add_argument("--predictions", metavar="FILE", type=Path, help="what was predicted")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write scores, per-joint table and notes")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken samples out and list them")
    parser.add_argument("--list", action="store_true", help="list the protocols and their options")
    parser.add_argument("options", metavar="key=value", nargs="*", help="options of the protocol (see --list)")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.list:
        return console.run(list_protocols)
    for name in ("protocol", "truth", "predictions"):
        if getattr(arguments, name) is None:
            parser.error(f"--{name} is missing")
    return console.run(lambda: score(arguments))


def score(arguments: argparse.Namespace) -> int:
    """Score with the options of the command line; see the module's docstring."""
    scores = score_files(
        arguments.protocol,
        arguments.truth,
        arguments.predictions,
        configs.overrides_to_mapping(arguments.options),
        arguments.skip_broken,
    )
    print("\n".join(text(scores)))
    if arguments.json:
        write_json(arguments.json, {**scores.as_mapping(), "files": [str(arguments.truth), str(arguments.predictions)]})
        print(arguments.json)
    return 0


def text(scores: Scores) -> list[str]:
    """The official lines, then what is beyond the official program, each named as such."""
    lines = scores.lines()
    if scores.extra:
        lines += ["", "beyond the official program:"]
        lines += [f"{name}: {value:f}" for name, value in scores.extra.items()]
    lines += ["", ", ".join(f"{count} {name}" for name, count in scores.counts.items())]
    units = sorted(set(scores.units.values()))
    for unit in units:
        lines.append(f"{unit}: {', '.join(name for name, u in scores.units.items() if u == unit)}")
    lines += [f"note: {note}" for note in scores.notes]
    if scores.left_out:
        lines += [f"left out: {len(scores.left_out)} broken samples", *(f"  {line}" for line in scores.left_out)]
    return lines


def list_protocols() -> int:
    """Print every protocol with the first line of its description and its options."""
    import dataclasses

    from .. import assembly

    for name in assembly.available("protocols"):
        module = assembly.plugin("protocols", name)
        print(f"{name}: {module.__doc__.splitlines()[0]}")
        for option in dataclasses.fields(module.Config):
            print(f"    {option.name}={option.default}")
    return 0
