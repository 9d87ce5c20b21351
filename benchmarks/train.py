"""The part `train` of tools/benchmark.py: an optimiser step, on hands that lie ready and on hands made meanwhile."""

from __future__ import annotations

import copy
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate.state import AcceleratorState

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.contracts import HandBatch
from mesh_graphormer_hand.data.loader import PREFETCH, load, worker_count
from mesh_graphormer_hand.evaluation.cost import forward_flops
from mesh_graphormer_hand.evaluation.stopwatch import middle, wait
from mesh_graphormer_hand.mano.hand import Hand
from mesh_graphormer_hand.training.batch_norms import train_mode
from mesh_graphormer_hand.training.launch import build_run, make_accelerator
from mesh_graphormer_hand.training.precision import choose
from mesh_graphormer_hand.training.trainer import Trainer

from . import timing
from .cases import Options, Table, compare
from .scenes import load_hand
from .timing import Case, Timing

TRAINED_ON = {"graphormer": 4}  # images a step on a CPU; the others take SMALL_MODEL_BATCH
SMALL_MODEL_BATCH, ON_GPU = 16, 64
PASSES = 3  # of a forward pass's work in a step: the backward pass takes two


class Step:
    """A network in training; a call is one step of a run (`Trainer.training_step`) on a batch."""

    def __init__(self, experiment: Experiment, device: str, precision: str, compiled: bool = False) -> None:
        os.environ["ACCELERATE_USE_CPU"] = str(torch.device(device).type == "cpu").lower()
        AcceleratorState._reset_state(True)  # it holds one precision a process; prepared networks keep their own
        experiment = copy.deepcopy(experiment)
        settings = {"precision": precision, "compile": compiled, "accumulate": 1, "threads": torch.get_num_threads()}
        experiment.train = replace(experiment.train, **settings)
        experiment.data.test = {}
        with TemporaryDirectory() as folder:
            run = build_run(experiment, Path(folder) / "none", shown=False)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.trainer = Trainer(run, make_accelerator(experiment))
        train_mode(self.trainer.module, experiment.train.freeze_norms)

    def __call__(self, batch: HandBatch) -> None:
        self.trainer.training_step(iter([batch]))


def train(options: Options) -> Iterator[Table]:
    """A step in several ways, with its share of the machine's matrix rate; the last way also fed by the generator."""
    hand = load_hand()
    for name in options.configs:
        experiment = configs.load(name)
        experiment.train.batch_size = _batch_size(name, options.device)
        # every image new: where a config shows them again, its first hundred steps render more than all that follow
        experiment.data.train = {"virtual": {}}
        steps = _steps(options, experiment)
        title = f"training step, {name}, batch {experiment.train.batch_size}"
        way, step = list(steps.items())[-1]
        fed = _fed(options, experiment, hand, step, f"{way}, fed by new virtual hands")
        yield title, [*_ready(options, experiment, hand, steps, title), fed], "image"


def _batch_size(name: str, device: str) -> int:
    return TRAINED_ON.get(name, SMALL_MODEL_BATCH) if torch.device(device).type == "cpu" else ON_GPU


def _steps(options: Options, experiment: Experiment) -> dict[str, Step]:
    make = partial(Step, experiment, options.device)
    auto = choose(options.device)
    steps = {"float32": make("fp32"), "bfloat16": make("bf16")}
    steps["auto"] = next(step for step in steps.values() if step.dtype is auto.dtype)
    if options.compile:
        steps["auto, compiled"] = make(auto.precision, compiled=True)
    return steps


def _ready(options: Options, experiment: Experiment, hand: Hand, steps: dict[str, Step], title: str) -> list[Timing]:
    """Steps on one batch, in turns with products of matrices at the precisions that the device computes in."""
    batch = assembly.build_stream(experiment, hand)[0].to(options.device)
    model = assembly.build_model(experiment, hand).to(options.device)
    work = PASSES * forward_flops(model, batch[:1].inputs_for(model))  # an image
    cases = {way: Case(partial(step, batch), len(batch)) for way, step in steps.items()}
    native = {torch.float32, choose(options.device).dtype}  # elsewhere, a product's rate is that of its emulation
    products = {str(precision): timing.multiplication(precision, options.device) for precision in native}
    rows = {row.name: row for row in compare(options, title, {**cases, **products}, "float32")}
    judged = []
    for way, step in steps.items():
        limit = rows[str(step.dtype if step.dtype in native else torch.float32)].rate
        peak = rows[way].rate * work / limit
        judged.append(replace(rows[way], peak=peak, note=f"{peak:.0%} of {limit / 1e12:.3g} TFLOP/s"))
        if way == "auto":
            share = rows[way].rate / max(rows["float32"].rate, rows["bfloat16"].rate)
            judged[-1] = replace(
                judged[-1], note=f"{judged[-1].note}; {share:.2f} of the faster; {choose(options.device).why}"
            )
    return judged


def _fed(options: Options, experiment: Experiment, hand: Hand, step: Step, name: str) -> Timing:
    """Steps on batches that are made meanwhile: on a CPU by workers, elsewhere on the training device itself."""
    device, before = torch.device(options.device), torch.get_num_threads()
    workers = worker_count(experiment.data.workers) if device.type == "cpu" else 0
    stream = assembly.build_stream(experiment, hand, device="cpu" if workers else options.device)
    ready = PREFETCH * max(workers, 1) + options.warmup  # steps on batches that lay ready before the first
    order = range(ready + options.rounds)
    batches = load(stream, order, workers, device)
    took, waited = [], []
    torch.set_num_threads(max(1, before - workers))  # as in a run, the workers have their own
    try:
        for _ in order:
            start = time.perf_counter()
            batch = next(batches)
            waited.append(time.perf_counter() - start)
            step(batch)
            wait(options.device)
            took.append(time.perf_counter() - start)
    finally:
        batches.close()
        torch.set_num_threads(before)
    share = statistics.median(w / t for w, t in zip(waited[ready:], took[ready:], strict=True))
    seconds, spread = middle(took[ready:])
    note = f"{share:.0%} of the time waiting, {workers} workers"
    return Timing(name, seconds, spread, experiment.train.batch_size, None, None, note, waiting=share)
