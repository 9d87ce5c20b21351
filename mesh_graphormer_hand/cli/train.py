"""Train one configuration:  hand-train graphormer_lite train.steps=2000   (python tools/train.py in a checkout).

The run goes to runs/NAME, NAME being the config file's unless train.name says otherwise. The same command again goes on
from the last checkpoint there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config as configs
from . import console

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ..config import Experiment
    from ..data.stream import Stream
    from ..training.dry_run import Estimate
    from ..training.launch import Run

ENDLESS = 2**40  # data.base.ENDLESS, without its import of torch
EPOCH = 130_240  # images that FreiHAND trains on


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-train", description=__doc__.splitlines()[0])
    shipped = console.shipped_configs(*console.NETWORKS)
    parser.add_argument("config", metavar="CONFIG", help=f"a YAML file, or the name of a shipped one ({shipped})")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings, such as train.steps=100")
    parser.add_argument("--fresh", action="store_true", help="set the run's folder aside and start over")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take on this machine; writes nothing")
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: train(arguments.config, arguments.overrides, arguments.fresh, arguments.dry_run))


def train(config: str, overrides: list[str], fresh: bool = False, dry: bool = False) -> int:
    """Train with the options of the command line; see the module's docstring. A run that was stopped is no failure."""
    train_run(config, overrides, fresh, dry)
    return 0


def train_run(config: str, overrides: list[str], fresh: bool = False, dry: bool = False) -> bool:
    """Train one run, or with `dry` only measure it. Returns False where SIGINT or SIGTERM stopped it before its end."""
    if dry:
        run, figures, accelerator, why = estimate_run(config, overrides)
        if accelerator.is_main_process:
            print(describe(run, figures, accelerator, why))
        return True
    experiment, folder = _read(config, overrides)

    from ..training import launch, trainer  # after the config, so that its mistakes are told at once

    accelerator = launch.make_accelerator(experiment)
    if not accelerator.is_main_process:
        console.only_warnings()
    else:
        prepare_folder(folder, fresh)
    accelerator.wait_for_everyone()
    run = _build(experiment, folder, accelerator, shown=True)
    finished = trainer.fit(run, accelerator)
    if accelerator.is_main_process:
        print(folder)
    return finished


def estimate_run(config: str, overrides: list[str]) -> tuple[Run, Estimate, Accelerator, str]:
    """A run that is only measured, its figures, what it runs on, and why its precision is what it is."""
    experiment, folder = _read(config, overrides)
    asked = experiment.train.precision

    from ..training import dry_run as dry_runs
    from ..training import launch
    from ..training.precision import choose

    accelerator = launch.make_accelerator(experiment)
    if not accelerator.is_main_process:
        console.only_warnings()
    accelerator.wait_for_everyone()
    run = _build(experiment, folder, accelerator, shown=False)
    figures = dry_runs.estimate(run, accelerator)
    why = choose(accelerator.device).why if asked == launch.AUTO else "as it was asked for"
    return run, figures, accelerator, why


def _read(config: str, overrides: list[str]) -> tuple[Experiment, Path]:
    """The experiment, all of whose names are known, and its folder."""
    experiment = configs.load(config, overrides)
    folder = Path(experiment.train.output) / (experiment.train.name or configs.find(config).stem)
    console.log_to_terminal()

    from .. import assembly

    assembly.check(experiment)
    return experiment, folder


def _build(experiment: Experiment, folder: Path, accelerator: Accelerator, shown: bool) -> Run:
    from ..training import launch

    micro_batches = accelerator.num_processes * launch.first_micro_batches(experiment.train)
    device = accelerator.device if experiment.data.on_device else "cpu"
    return launch.build_run(experiment, folder, micro_batches, device, shown=shown)


def describe(run: Run, e: Estimate, accelerator: Accelerator, why: str) -> str:
    """A dry run's figures as lines of text; `why` the precision is what it is."""
    experiment, stream, processes = run.experiment, run.stream, accelerator.num_processes
    train, size = experiment.train, experiment.data.image_size
    total = sum(e.parameters.values())
    largest = sorted(e.parameters.items(), key=lambda item: -item[1])[:5]
    twice = "activations are computed twice: " * train.gradient_checkpointing
    parts = f" in {train.accumulate * processes} parts" if train.accumulate * processes > 1 else ""
    fewer = f", {e.timed_samples} at once instead of {e.part_samples}"
    fewer = "" if e.timed_samples == e.part_samples else fewer
    names = [key for key, raw in experiment.data.train.items() if float((raw or {}).get("weight", 1)) > 0]
    data = ", ".join(
        f"{key} ({'endless' if len(d) >= ENDLESS else f'{len(d):,} samples'}, weight {weight:g})"
        for key, d, weight in zip(names, stream.datasets, stream.weights, strict=True)
    )
    images = train.steps * train.batch_size
    lines = {
        "run": f"{run.folder.name} on {accelerator.device}, {processes} process{'es' * (processes > 1)}",
        "precision": f"{train.precision}: {why}",
        "data": data,
        "sizes": f"images of {size} x {size}, a batch of {train.batch_size}{parts}, {train.steps:,} steps",
        "parameters": f"{total / 1e6:.2f} M ({', '.join(f'{k} {v / 1e6:.2f}' for k, v in largest)})",
        "work": f"{e.flops / 1e9:.2f} GFLOP an image, forward; about three times that in training",
        "memory": twice
        + f"{_gib(e.needed_bytes)} of {_gib(e.memory_bytes)}: {_gib(e.static_bytes)} for weights and optimiser"
        f", {e.sample_bytes / 2**20:.0f} MiB for each of {e.part_samples} samples at once",
        "disk": f"{_gib(e.checkpoint_bytes)} a checkpoint, {train.keep} kept",
        "speed": f"{e.images_per_second:.1f} images/s, {e.waiting:.0%} of the time waiting for data "
        f"({e.timed_steps} steps measured here{fewer})",
        "time": f"{_duration(images / e.images_per_second)} for all {images:,} images; "
        f"{_epoch(stream, e.images_per_second)}",
    }
    text = "\n".join(f"{key:<11} {value}" for key, value in lines.items())
    if e.needed_bytes > e.memory_bytes:
        text += "\nThis does not fit: take train.accumulate=auto."
    return text


def _epoch(stream: Stream, images_per_second: float) -> str:
    """The time until the largest finite data set has been shown once."""
    total = sum(stream.weights)
    pairs = zip(stream.datasets, stream.weights, strict=True)
    finite = [len(d) * total / weight for d, weight in pairs if len(d) < ENDLESS]
    if not finite:
        return f"{_duration(EPOCH / images_per_second)} for {EPOCH:,} (virtual hands never end; FreiHAND's epoch)"
    return f"{_duration(max(finite) / images_per_second)} an epoch"


def _gib(size: float | int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def prepare_folder(folder: Path, fresh: bool) -> None:
    """Make the run's folder; `fresh` renames one that is there, unless somebody trains in it."""
    from ..training.launch import RunLock

    if fresh and folder.exists():
        with RunLock(folder):
            aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
            folder.rename(aside)
    folder.mkdir(parents=True, exist_ok=True)
