"""The one training loop that every architecture and data set goes through, on Hugging Face Accelerate.

Nothing in it depends on the time of day, the number of workers or how often the run was interrupted: the data, the
learning rate and the random numbers (dropout) of a step are functions of the seed and the step, so that a run that was
killed and resumed ends in the same weights as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from omegaconf import OmegaConf
from torch import Tensor
from transformers.utils import logging as hf_logging

from ..config import ConfigError, Experiment, nearest, to_mapping
from ..contracts import HandBatch
from ..losses import check_terms, supervised_losses
from ..mano.template import HandTemplate
from ..models.base import HandModel
from . import checkpoint
from .evaluate import Predictor, as_float, evaluate
from .loader import Batches, Samples, load, spare_threads, worker_count
from .log import Board, Progress, Window, provenance
from .memory import keep_freed_memory
from .optim import Ema, build_optimizer, learning_rate, load_optimizer_tensors, optimizer_tensors, set_learning_rate

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
SUPPORTED = ("NO", "MULTI_GPU", "MULTI_CPU", "MULTI_XPU", "MULTI_NPU", "MULTI_MLU", "MULTI_HPU", "MULTI_NEURON")
# What may change between two starts of the same run; everything else would make it another run.
MAY_CHANGE = ("train.name", "train.output", "train.steps", "train.log_every", "train.checkpoint_every", "train.keep")
MAY_CHANGE += ("train.evaluate_every", "train.evaluate_samples", "train.threads", "data.workers", "data.test")


MAX_SKIPPED = 10  # steps in a row with gradients that are not finite, before training is given up


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says at which step and why."""


def make_accelerator(experiment: Experiment) -> Accelerator:
    """Accelerate as the launcher and `train.precision` ask for it.

    Raises:
        ConfigError: an unknown precision, one that the device does not have, or a kind of sharding whose state our
            checkpoints do not hold (FSDP, DeepSpeed).
    """
    precision = experiment.train.precision
    if precision not in PRECISIONS:
        hint = nearest(precision, list(PRECISIONS))
        raise ConfigError(f"train.precision: no precision {precision!r}{hint} ({', '.join(PRECISIONS)})")
    try:
        accelerator = Accelerator(mixed_precision=PRECISIONS[precision])
    except ValueError as error:
        raise ConfigError(f"train.precision: {error}") from None
    if accelerator.distributed_type not in [DistributedType[k] for k in SUPPORTED if k in DistributedType.__members__]:
        raise ConfigError(f"{accelerator.distributed_type} is not supported: use one process or plain DDP")
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        workers = 0 if experiment.data.on_device else worker_count(experiment.data.workers)
        torch.set_num_threads(experiment.train.threads or spare_threads(workers * accelerator.num_processes))
    return accelerator


def fit(
    model: HandModel,
    stream: Batches,
    experiment: Experiment,
    folder: Path,
    *,
    template: HandTemplate | None = None,
    accelerator: Accelerator | None = None,
    tests: Mapping[str, Samples] | None = None,
    references: Mapping[str, Predictor] | None = None,
) -> bool:
    """Train `model` for `experiment.train.steps` steps in `folder`, going on from its last checkpoint if it has one.

    Args:
        stream: `stream[step * parts + part]` is one part of a step's batch; parts are processes times micro-batches.
        folder: of the run; gets config.yaml, step_*/ (checkpoints), model/ (for `from_pretrained`, averaged weights
            where there are any), metrics.json, TensorBoard files.
        template: of the model's hand; the losses on meshes need it.
        tests: data sets to evaluate on.
        references: other predictors to score beside the model, such as the mean pose.

    Returns:
        True when the run is finished, False when SIGINT or SIGTERM stopped it (after a checkpoint).

    Raises:
        ConfigError: settings that cannot work, or that differ from those that the folder's run was started with.
        TrainingError: a loss that is not finite.
        CheckpointError: no checkpoint can be read or written.
    """
    trainer = Trainer(model, stream, experiment, folder, accelerator or make_accelerator(experiment))
    trainer.tests, trainer.references = dict(tests or {}), dict(references or {})
    trainer.template = template.to(trainer.accelerator.device) if template is not None else None
    if trainer.accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", OmegaConf.to_yaml(to_mapping(experiment)))
    return trainer.run()


class Trainer:
    """The state of a run and what happens at each step."""

    def __init__(
        self, model: HandModel, stream: Batches, experiment: Experiment, folder: Path, accelerator: Accelerator
    ) -> None:
        self.experiment, self.config, self.folder = experiment, experiment.train, folder
        self.stream, self.accelerator = stream, accelerator
        self.workers = 0 if experiment.data.on_device else worker_count(experiment.data.workers)
        self.tests: dict[str, Samples] = {}
        self.references: dict[str, Predictor] = {}
        self.template: HandTemplate | None = None
        self.step = 0
        self.skipped = 0  # steps in a row, for gradients that were not finite
        self.window = Window()
        self._check_config(model)
        self.module = model.to(accelerator.device, memory_format=torch.channels_last)
        optimizer = build_optimizer(model, self.config.optimizer)
        self.ema = Ema(model, self.config.ema) if self.config.ema else None
        self._resume(optimizer)
        self.model = accelerator.prepare_model(model)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.pending: tuple[int, Tensor, list[str]] | None = None

    def run(self) -> bool:
        """Train from the present step to the last one; see `fit`."""
        main, steps = self.accelerator.is_main_process, self.config.steps
        if self.step >= steps:
            logger.info("%s: finished at step %d; train.steps=N with a larger N goes on", self.folder, self.step)
            return True
        progress = Progress(self.step, steps, show=main)
        board = Board(self.folder, self.step, active=main)
        batches = self._batches()
        self.model.train()
        self.window.clear()
        try:
            with Interrupt() as interrupt:
                while self.step < steps:
                    self._train_step(batches)
                    progress.advance(self.step)
                    self._report(progress, board)
                    stop = self._stop_requested(interrupt)
                    if stop or self.step == steps or self._every(self.config.checkpoint_every):
                        self._checkpoint()
                    if stop:
                        break
                    if self.step < steps and self._every(self.config.evaluate_every):
                        self._evaluate(board)
                batches.close()
                if self.step == steps:
                    self._evaluate(board)
        finally:
            progress.close()
            board.close()
        if self.step < steps:
            logger.info("stopped at step %d of %d; the same command goes on from there", self.step, steps)
        return self.step == steps

    def _batches(self) -> Iterator[HandBatch]:
        """This process's parts of the remaining batches, in order."""
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        parts = self.config.accumulate * count
        mine = range(self.step * parts + rank, self.config.steps * parts, count)
        return load(self.stream, mine, self.workers, self.accelerator.device)

    def _train_step(self, batches: Iterator[HandBatch]) -> None:
        config, accelerator = self.config, self.accelerator
        scalars: dict[str, Tensor] = {}
        waited, keys = 0.0, []
        for part in range(config.accumulate):
            started = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - started
            keys += batch.keys
            # after the data: a loader that starts, and data sets in this process, draw numbers too
            seed_all(config.seed, self.step * config.accumulate + part, accelerator.process_index)
            with accelerator.no_sync(self.model) if part + 1 < config.accumulate else nullcontext():
                terms = self._losses(batch)
                accelerator.backward(terms["loss"] / config.accumulate)
            for name, value in terms.items():
                scalars[name] = scalars.get(name, 0) + value.detach() / config.accumulate
        scalars["grad_norm"] = accelerator.clip_grad_norm_(
            self.model.parameters(), config.optimizer.clip_grad or math.inf
        )
        set_learning_rate(self.optimizer.optimizer, learning_rate(config.optimizer, self.step, config.steps))
        if self._usable(scalars["grad_norm"]):
            self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.module, self.step)
        self._check_finite()  # of the step before: reading this one's loss now would make a GPU wait
        self.pending = (self.step, scalars["loss"], keys)
        self.window.add(scalars, config.batch_size, waited)
        self.step += 1

    def _usable(self, grad_norm: Tensor) -> bool:
        """Whether a step with these gradients may be taken; one bad batch must not destroy the weights."""
        if self.accelerator.scaler is not None:  # fp16: the scaler skips such steps itself, they are how it adapts
            return True
        if math.isfinite(float(grad_norm)):
            self.skipped = 0
            return True
        self.skipped += 1
        logger.warning("step %d: gradients that are not finite, the step is skipped", self.step)
        if self.skipped >= MAX_SKIPPED:
            raise TrainingError(
                f"{self.skipped} steps in a row up to {self.step} had gradients that are not finite. Checkpoints from "
                f"before are whole: try a lower train.optimizer.lr or train.precision=fp32"
            )
        return False

    def _losses(self, batch: HandBatch) -> dict[str, Tensor]:
        """Every loss term's mean over the batch ("loss/<name>") and their weighted sum ("loss")."""
        prediction = as_float(self.model(batch.inputs))
        private = self.module.private_losses(prediction, batch)
        unweighted = sorted(set(private) - set(self.config.losses))
        if unweighted:
            raise ConfigError(f"train.losses: no weight for {', '.join(unweighted)}, the model's own")
        weights = self.config.losses
        codec = getattr(self.module, "codec", None)  # how this model's heat maps are encoded, where it has any
        shared = supervised_losses(prediction, batch.targets, weights, self.template, codec, private=list(private))
        means = {name: value.float().mean() for name, value in {**shared, **private}.items()}
        if not means:
            raise TrainingError(f"step {self.step}: no loss applies to this batch ({', '.join(batch.keys[:4])} ...)")
        total = sum(weights[name] * value for name, value in means.items())
        return {"loss": total, **{f"loss/{name}": value for name, value in means.items()}}

    def _check_config(self, model: HandModel) -> None:
        """Everything that can be known to be wrong before the first batch."""
        config = self.config
        learning_rate(config.optimizer, config.steps, config.steps)
        for name in ("steps", "batch_size", "accumulate", "log_every", "keep"):
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

    def _check_finite(self) -> None:
        if self.pending is None:
            return
        step, loss, keys = self.pending
        self.pending = None
        if not math.isfinite(loss.item()):
            shown = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
            raise TrainingError(
                f"the loss of step {step} is {loss.item()} (samples {shown}). Checkpoints from before are whole: "
                f"try a lower train.optimizer.lr, train.optimizer.clip_grad=1 or train.precision=fp32"
            )

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    def _report(self, progress: Progress, board: Board) -> None:
        logs = self._every(self.config.log_every) or self.step == self.config.steps
        if not (logs or progress.due):
            return
        report = self.window.report()
        if progress.due or self.step == self.config.steps:
            progress.update(report)
        if logs:
            rate = learning_rate(self.config.optimizer, self.step - 1, self.config.steps)
            board.add(self.step, {**report, "lr": rate}, "train/")
            self.window.clear()

    def _stop_requested(self, interrupt: Interrupt) -> bool:
        if self.accelerator.num_processes == 1:
            return interrupt.requested
        if not self._every(self.config.log_every):  # processes must agree, and asking costs a round
            return False
        flag = torch.tensor([float(interrupt.requested)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item())

    def _evaluate(self, board: Board) -> None:
        """Score the model (with averaged weights where there are any) on every test set."""
        results = {}
        with self.ema.applied_to(self.module) if self.ema else nullcontext():
            for name, dataset in self.tests.items():
                logger.info("step %d: evaluating on %s ...", self.step, name)
                results[name] = self._score(dataset)
                board.add(self.step, results[name]["model"], f"test/{name}/")
                text = ", ".join(f"{k} {v:.4g}" for k, v in results[name]["model"].items())
                logger.info("step %d, %s: %s", self.step, name, text)
        if self.accelerator.is_main_process and self.tests:
            write_json(self.folder / "metrics.json", {"step": self.step, "test": results})
        self.accelerator.wait_for_everyone()
        self.window.clear()

    def _score(self, dataset: Samples) -> dict[str, dict[str, float]]:
        accelerator = self.accelerator
        mine = evaluate(
            {"model": self.module, **self.references},
            dataset,
            device=accelerator.device,
            workers=self.workers,
            samples=self.config.evaluate_samples,
            share=(accelerator.process_index, accelerator.num_processes),
            progress=accelerator.is_main_process,
        )
        if accelerator.num_processes > 1:
            for other in gather_object([mine])[1:]:
                for name, accumulator in other.items():
                    mine[name].merge(accumulator)
        return {name: accumulator.summary() for name, accumulator in mine.items()}

    def _checkpoint(self) -> None:
        self._check_finite()
        if self.accelerator.is_main_process:
            tensors = {"model": self.module.state_dict()}
            if self.ema:
                tensors["ema"] = self.ema.average
            tensors["optimizer"] = optimizer_tensors(self.optimizer.optimizer, self.module)
            scaler = self.accelerator.scaler
            state = {
                "experiment": to_mapping(self.experiment),
                "model": {"name": self.module.config.name, "hand": self.module.config.hand},
                "scaler": scaler.state_dict() if scaler is not None else None,
                "provenance": provenance(),
            }
            checkpoint.save(self.folder, self.step, tensors, state, self.config.keep)
            write_model(self.module, self.folder / "model", self.ema.average if self.ema else None)
        self.accelerator.wait_for_everyone()
        self.window.clear()

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        found = checkpoint.latest(self.folder) if self.folder.is_dir() else None
        if found is None:
            return
        check_same_run(found.state["experiment"], to_mapping(self.experiment), found.path)
        try:
            self.module.load_state_dict(found.tensors["model"])
            load_optimizer_tensors(optimizer, self.module, found.tensors["optimizer"])
            if self.ema:
                self.ema.load(found.tensors["ema"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise checkpoint.CheckpointError(f"{found.path} does not fit this model: {error}") from None
        if self.accelerator.scaler is not None and found.state["scaler"]:
            self.accelerator.scaler.load_state_dict(found.state["scaler"])
        self.step = found.step
        logger.info("going on from %s", found.path)


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
        logger.info("%s: finishing this step and saving ...", signal.Signals(number).name)


def seed_all(seed: int, part: int, rank: int = 0) -> None:
    """Seed Python, NumPy and torch (every device) for one part of a step, so that no random state has to be saved."""
    state = np.random.SeedSequence([seed & 0xFFFFFFFF, part, rank]).generate_state(2)
    random.seed(int(state[0]))
    np.random.seed(int(state[0]))
    torch.manual_seed(int(state[1]))


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue a run under settings that would make it another run.

    Raises:
        ConfigError: naming every setting that differs.
    """
    before, now = flatten(old), flatten(new)
    changed = [
        f"{key}: {before[key]!r} -> {now[key]!r}"
        for key in sorted(before.keys() & now.keys())
        if before[key] != now[key] and not any(key == k or key.startswith(k + ".") for k in MAY_CHANGE)
    ]
    if changed:
        raise ConfigError(
            f"{path.parent} holds a run with other settings ({'; '.join(changed)}). "
            f"Give this one its own folder with train.name=..., or start over with --fresh"
        )


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def write_model(model: HandModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Put the model in `save_pretrained` format into `folder`, each file replaced in one move."""
    temporary = folder.with_name(f".writing_{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    state = {name: value.detach().cpu().contiguous() for name, value in (weights or model.state_dict()).items()}
    try:
        with _no_bars():
            model.save_pretrained(temporary, state_dict=state)
        folder.mkdir(parents=True, exist_ok=True)
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner may read
            os.replace(file, folder / file.name)
    except OSError as error:
        raise checkpoint.CheckpointError(f"cannot write {folder}: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the bars that transformers shows while it writes: they would tear ours."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename."""
    temporary = path.with_name(f".writing_{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
