"""What a run would take: sizes, operations, memory, and the time of real steps on this machine.

Nothing is written. Steps are those of a run (its loader, losses, optimiser), on throw-away weights; where a batch would
not fit into memory, fewer samples are timed and the rest is arithmetic.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator
from torch import nn

from ..config import Experiment
from ..contracts import HandBatch
from ..evaluation.cost import count_parameters, forward_flops
from . import micro_batches
from .batch_norms import train_mode
from .launch import Run
from .memory import total_bytes
from .trainer import Trainer

TIMED_STEPS = 8  # at most
TIMED_SECONDS = 40.0  # of all of them: no further step is begun after that
MIN_STEPS = 3  # one to inspect, one to warm up, one to time, even where the run is shorter
STEP_SECONDS = 10.0  # that a timed step may take, about
TIMED_MEMORY_SHARE = 0.6  # that a timed step may take


@dataclass(frozen=True)
class Estimate:
    """Figures of a dry run. Bytes are those of one process."""

    parameters: dict[str, int]  # of each part of the network
    flops: float  # of a forward pass of one image; a multiplication and an addition are two
    static_bytes: int  # weights, gradients, optimiser, averages
    sample_bytes: int  # activations that one sample keeps for the backward pass
    memory_bytes: int  # that there is
    checkpoint_bytes: int
    timed_samples: int  # at once
    part_samples: int  # at once, in the run
    timed_steps: int
    step_seconds: float  # of a step of the run
    images_per_second: float  # of all processes
    waiting: float  # share of the time spent waiting for data

    @property
    def needed_bytes(self) -> int:
        """Of a step of the run."""
        return self.static_bytes + self.sample_bytes * self.part_samples


def estimate(run: Run, accelerator: Accelerator) -> Estimate:
    """Measure a run's model on real batches; its weights are changed, and `train.accumulate=auto` becomes a number."""
    model, train = run.model, run.experiment.train
    parameters = count_parameters(model)
    experiment = replace(run.experiment, train=replace(train, steps=max(train.steps, MIN_STEPS)))
    with TemporaryDirectory() as folder:
        trainer = Trainer(replace(run, experiment=experiment, folder=Path(folder) / "none"), accelerator)
    train.accumulate, train.gradient_checkpointing = trainer.config.accumulate, trainer.config.gradient_checkpointing
    batches = trainer.batches()
    batch = next(batches)
    flops = forward_flops(model, batch[:1].inputs_for(model))
    train_mode(model, experiment.train.freeze_norms)
    few = min(2, len(batch))  # not one: some batch norms need more
    began = time.perf_counter()
    kept, once = micro_batches.kept_bytes(trainer, batch[: 2 * few])
    forward = (time.perf_counter() - began) / (few + len(batch[: 2 * few]))
    static, checkpoint = _static_bytes(model, experiment)
    static += once  # for all samples: weights in half precision
    memory = total_bytes(accelerator.device)
    limits = int((TIMED_MEMORY_SHARE * memory - static) // max(kept, 1)), int(STEP_SECONDS / (3 * forward))
    samples = max(few, min(len(batch), *limits))
    steps, seconds, waited = _time_steps(trainer, batch, batches, samples)
    batches.close()
    return Estimate(
        parameters=parameters,
        flops=flops,
        static_bytes=static,
        sample_bytes=kept,
        memory_bytes=memory,
        checkpoint_bytes=checkpoint,
        timed_samples=samples,
        part_samples=len(batch),
        timed_steps=steps,
        step_seconds=seconds + waited,
        images_per_second=experiment.train.batch_size / (seconds + waited),
        waiting=waited / (seconds + waited),
    )


def _static_bytes(model: nn.Module, experiment: Experiment) -> tuple[int, int]:
    """In memory, and in a checkpoint: weights, Adam's two moments, averages, where there are any; gradients."""
    state = sum(t.nbytes for t in model.state_dict().values())
    trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    written = state + 2 * trained + (state if experiment.train.ema else 0)
    return written + trained, written


def _time_steps(
    trainer: Trainer, batch: HandBatch, batches: Iterator[HandBatch], samples: int
) -> tuple[int, float, float]:
    """Number of timed steps; seconds of a whole step's work and of waiting for its data."""
    config = trainer.config
    work = update = waited = 0.0
    began, steps = time.perf_counter(), -1  # the first one warms up
    while steps < min(TIMED_STEPS, config.steps * config.accumulate - 2):
        start = time.perf_counter()
        terms = trainer.forward_backward(batch[:samples] if samples < len(batch) else batch)
        _finish(trainer)
        passed = time.perf_counter()
        trainer.update({name: value.detach() for name, value in terms.items()})
        _finish(trainer)
        updated = time.perf_counter()
        batch = next(batches)
        if steps >= 0:
            work += passed - start
            update += updated - passed
            waited += time.perf_counter() - updated
        steps += 1
        if steps > 0 and time.perf_counter() - began > TIMED_SECONDS:
            break
    count = max(steps, 1)
    whole = config.accumulate * len(batch) / samples
    return count, work / count * whole + update / count, waited / count * config.accumulate


def _finish(trainer: Trainer) -> None:
    if trainer.accelerator.device.type == "cuda":
        torch.cuda.synchronize()
