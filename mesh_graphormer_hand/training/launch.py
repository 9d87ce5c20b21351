"""How a run starts and stops: what it is made of, devices and precision, its folder's lock, Ctrl-C, seeds of steps."""

from __future__ import annotations

import logging
import os
import platform
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TextIO

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, gather_object

from .. import assembly, files
from ..config import ConfigError, Experiment, TrainConfig, nearest, sources
from ..contracts import HandBatch
from ..data.freed_memory import keep_freed_memory
from ..data.loader import Batches, Samples, spare_threads, worker_count
from ..losses import check_terms
from ..mano.hand import Hand
from ..mano.template import HandTemplate
from ..models.base import HandModel
from .optim import learning_rate
from .precision import choose

logger = logging.getLogger(__name__)

AUTO = "auto"
LOCK = ".lock"
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
PLAIN = ("NO", "MULTI_GPU", "MULTI_CPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "MULTI_HPU", "MULTI_NEURON")


@dataclass
class Run:
    """All that one training run is made of."""

    experiment: Experiment
    folder: Path  # of checkpoints, logs and the trained model
    model: HandModel
    stream: Batches  # stream[step * n + i] is micro-batch i of a step's n: processes times train.accumulate
    template: HandTemplate | None = None  # of the model's hand; the losses on meshes need it
    tests: Mapping[str, Samples] = field(default_factory=dict)  # data sets to evaluate on
    shown: HandBatch | None = None  # fixed samples whose predictions TensorBoard and the report show


def make_accelerator(experiment: Experiment) -> Accelerator:
    """Accelerate, as the launcher, `train.precision` and `train.shard` say; `train.precision=auto` becomes a precision.

    `accelerate launch --use_fsdp` is the same as train.shard=true: the sharding is ours (`distributed`), so that it
    runs on any device and its checkpoints are those of a single process.

    Raises:
        ConfigError: an unknown precision, one that the device does not have, or DeepSpeed and its like, whose state our
            checkpoints do not hold.
    """
    if experiment.train.precision == AUTO:
        experiment.train.precision = _choose_precision()
    precision = experiment.train.precision
    if precision not in PRECISIONS:
        known = [AUTO, *PRECISIONS]
        raise ConfigError(
            f"train.precision: no precision {precision!r}{nearest(precision, known)} ({', '.join(known)})"
        )
    try:
        accelerator = Accelerator(mixed_precision=PRECISIONS[precision])
    except ValueError as error:
        raise ConfigError(f"train.precision: {error}") from None
    if precision == "fp16" and accelerator.device.type == "cpu":  # Accelerate would take fp32 without a word
        raise ConfigError("train.precision: fp16 needs a GPU; take bf16 or fp32")
    kind = accelerator.distributed_type
    if kind == DistributedType.FSDP or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        experiment.train.shard = True
    elif kind.name not in PLAIN:
        raise ConfigError(f"{kind} is not supported: use one process, DDP, or FSDP (train.shard=true)")
    if experiment.train.shard and precision == "fp16":
        raise ConfigError("train.shard goes with train.precision=bf16 or fp32, not with fp16")
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        workers = 0 if experiment.data.on_device else worker_count(experiment.data.workers)
        torch.set_num_threads(experiment.train.threads or spare_threads(workers * accelerator.num_processes))
    return accelerator


def _choose_precision() -> str:
    """bf16 where the devices of all processes compute in it."""
    state = PartialState()
    choice = choose(state.device)
    everywhere = gather_object([choice.precision]) if state.num_processes > 1 else [choice.precision]
    if len(set(everywhere)) > 1:
        logger.info("train.precision: fp32 (one of the processes' devices emulates bfloat16)")
        return "fp32"
    logger.info("train.precision: %s (%s)", choice.precision, choice.why)
    return choice.precision


def build_run(
    experiment: Experiment, folder: Path, micro_batches: int = 1, device: str | torch.device = "cpu", shown: bool = True
) -> Run:
    """Everything that `experiment` names, ready for `trainer.fit`.

    Args:
        experiment: `assembly.check` finds most mistakes before.
        folder: of the run.
        micro_batches: of a step, over all processes.
        device: that renders virtual samples.
        shown: make the samples whose predictions the run shows, too.

    Raises:
        ConfigError: an unknown name or option, or a model to start from that does not fit.
    """
    hand = assembly.load_hand(experiment)
    stream = assembly.build_stream(experiment, hand, micro_batches, device)
    tests = assembly.build_tests(experiment, hand)
    torch.manual_seed(experiment.train.seed)
    model = assembly.build_model(experiment, hand)
    for source in sources(experiment.train.init):
        taken = assembly.warm_start(model, source, experiment.train.init_parts)
        logger.info("starts from %s: %d tensors of %d", source, taken, len(model.state_dict()))
        warn_of_seen_samples(experiment, source)
    samples = shown_samples(experiment, hand) if shown else None
    return Run(experiment, folder, model, stream, model.template(hand), tests, samples)


def warn_of_seen_samples(experiment: Experiment, source: str) -> None:
    """Warn where this run would show the virtual hands that the model it starts from was trained on, in the same
    order."""
    if "virtual" not in experiment.data.train:
        return
    seed, seen = (experiment.data.train["virtual"] or {}).get("seed", 0), assembly.virtual_seeds(source)
    if seed in seen:
        advice = f"data.train.virtual.seed={max(seen) + 1} draws others"
        logger.warning("%s has seen the virtual hands of seed %d already: %s", source, seed, advice)


def shown_samples(experiment: Experiment, hand: Hand) -> HandBatch | None:
    """The fixed virtual samples whose predictions a run shows: the first ones of the frozen test split; None where the
    experiment has no virtual hands."""
    count = experiment.train.pictures
    if count < 1 or "virtual" not in {**experiment.data.train, **experiment.data.test}:
        return None
    size = experiment.data.image_size
    return assembly.build_dataset("virtual", {}, "test", hand, size).load(list(range(count)))


def check_config(experiment: Experiment, model: HandModel) -> None:
    """Refuse settings that cannot work, before the first batch.

    Raises:
        ConfigError: naming the key.
    """
    config = experiment.train
    learning_rate(config.optimizer, config.steps, config.steps)
    first_micro_batches(config)
    for name in ("steps", "batch_size", "log_every", "keep", "bad_steps"):
        if getattr(config, name) < 1:
            raise ConfigError(f"train.{name}: {getattr(config, name)} should be 1 or more")
    if not 0 <= config.ema < 1:
        raise ConfigError(f"train.ema: {config.ema} should be at least 0 and below 1")
    if not config.losses:
        raise ConfigError("train.losses is empty: nothing to learn")
    try:
        check_terms(config.losses, model.produces, getattr(model, "private_terms", ()))
    except ConfigError as error:
        raise ConfigError(f"train.losses: {error}") from None


def first_micro_batches(config: TrainConfig) -> int:
    """`train.accumulate` where it is a number; 1 where it is still auto.

    Raises:
        ConfigError: it is neither 1 or more nor auto.
    """
    if config.accumulate == AUTO:
        return 1
    if not isinstance(config.accumulate, int) or config.accumulate < 1:
        raise ConfigError(f"train.accumulate: {config.accumulate} should be auto, or 1 or more")
    return config.accumulate


class LockedError(RuntimeError):
    """Another process trains in this folder; the message names it."""


class RunLock:
    """Inside the `with`, no other process on a machine that sees this folder trains in it.

    The system drops the lock when the process ends, however it ends: a run that was killed can go on at once.

    Raises:
        LockedError: somebody holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.file: TextIO | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = files.lock(self.path)
        if self.file is None:
            holder = self.path.read_text(encoding="utf-8").strip() or "another process"
            raise LockedError(
                f"{self.path.parent} is being trained in by {holder}. Wait for it, end it, or give this run a folder "
                f"of its own with train.name=..."
            )
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {platform.node() or 'this machine'}\n")
        self.file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # and with it the lock; the file stays, since to remove it would race with the next holder


class Interrupt:
    """Inside the `with`, the first SIGINT or SIGTERM only sets `requested`; a second one acts as usual."""

    def __init__(self) -> None:
        self.requested = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: signals are somebody else's
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: object) -> None:
        self.requested = True
        signal.signal(number, self.before[number])
        logger.info("%s: finishing this step, or its present part, and saving ...", signal.Signals(number).name)


def seed_all(seed: int, part: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (every device) for one part of a step, so that no random state has to be saved."""
    state = np.random.SeedSequence([seed & 0xFFFFFFFF, part, rank]).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[1]))
