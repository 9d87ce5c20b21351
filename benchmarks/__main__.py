"""Measure speed:  python tools/benchmark.py [PART ...], PART as in PARTS below, all by default

What is compared runs in turns in one process after a warm-up; figures are medians, ratios are against the named
baseline of the same run, memory is a call's peak above what was held. Prints Markdown; --json, --markdown write files.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from mesh_graphormer_hand.cli import console
from mesh_graphormer_hand.files import write_text

PARTS = ("forward", "train", "generate", "render", "pipeline", "video", "startup", "growth")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"some of {', '.join(PARTS)} (default: all)")
    networks = f"one of {console.shipped_configs(*console.NETWORKS)}; may be repeated (default: the two graphormers)"
    parser.add_argument("--config", action="append", metavar="NAME", help=networks)
    parser.add_argument("--batch", default="1,8", metavar="N,N", help="images a call (default: 1,8)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="of which the median counts (default: 7)")
    parser.add_argument("--warmup", type=int, default=1, metavar="N", help="calls before (default: 1)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of torch (default: its own choice)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: of this process, on a busy machine"
    )
    parser.add_argument("--no-onnx", action="store_true", help="without ONNX Runtime, whose network takes a minute")
    parser.add_argument("--compile", action="store_true", help="training also with torch.compile, which takes minutes")
    parser.add_argument(
        "--mediapipe", type=Path, metavar="PYTHON", help="also MediaPipe: interpreter that has mediapipe 0.10.21"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write the tables")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="a torch.profiler trace of one call of each case")
    arguments = parser.parse_args(argv)
    return console.run(lambda: benchmark(arguments))


def benchmark(arguments: argparse.Namespace) -> int:
    """Measure as the command line says; see the module's docstring."""
    from mesh_graphormer_hand.config import ConfigError, nearest

    parts = arguments.parts or list(PARTS)
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"no part {part!r}{nearest(part, PARTS)} (there are: {', '.join(PARTS)})")
    batches = parse_batches(arguments.batch)
    if arguments.rounds < 1 or arguments.warmup < 1 or arguments.threads < 0:
        raise ConfigError("--rounds and --warmup should be 1 or more, --threads 0 or more")
    if arguments.threads:
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # of child processes, too
    if arguments.mediapipe is not None and not arguments.mediapipe.is_file():
        raise ConfigError(f"--mediapipe {arguments.mediapipe}: no such file")
    console.log_to_terminal()

    import torch

    from mesh_graphormer_hand.training import log

    from . import cases as cases
    from . import goals as goals
    from . import growth as benchmark_growth
    from . import timing
    from . import train as benchmark_train
    from . import video as benchmark_video

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    options = cases.Options(
        configs=arguments.config or ["graphormer", "graphormer_lite"],
        batches=batches,
        rounds=arguments.rounds,
        warmup=arguments.warmup,
        device=arguments.device,
        trace=arguments.trace,
        clock=arguments.clock,
        onnx=not arguments.no_onnx,
        compile=arguments.compile,
        mediapipe=arguments.mediapipe,
    )
    machine = {**log.machine(arguments.device), "clock": arguments.clock}
    lines = [f"{key}: {value}" for key, value in machine.items()]
    print(", ".join(lines) + "\n", flush=True)
    report: dict[str, Any] = {"machine": machine, "rounds": arguments.rounds, "parts": {}}
    tables = [", ".join(lines)]
    others = {"train": benchmark_train.train, "video": benchmark_video.video, "growth": benchmark_growth.growth}
    runners = {**cases.RUNNERS, **others}
    for part in parts:
        for title, timings, unit in runners[part](options):
            timings = goals.judge(title, timings, arguments.device)
            report["parts"].setdefault(part, {})[title] = [timing.as_mapping(t) for t in timings]
            tables.append(timing.table(title, timings, unit))
            print(tables[-1] + "\n", flush=True)
    write(arguments.json, json.dumps(report, indent=1) + "\n")
    write(arguments.markdown, "\n\n".join(tables) + "\n")
    return 0


def parse_batches(text: str) -> list[int]:
    """Whole numbers from "1,8".

    Raises:
        ConfigError: anything else.
    """
    from mesh_graphormer_hand.config import ConfigError

    parts = text.split(",")
    if not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise ConfigError(f"--batch {text!r} should be whole numbers from 1 to 4096, such as 1,8")
    return [int(part) for part in parts]


def write(path: Path | None, text: str) -> None:
    """A report, in one move; nothing for None."""
    if path is None:
        return
    write_text(path, text)
    print(path)
