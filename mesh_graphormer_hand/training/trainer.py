"""The one training loop that every architecture and data set goes through, on Hugging Face Accelerate.

Nothing in it depends on the time of day, the number of workers or how often the run was interrupted: the data, the
learning rate and the random numbers (dropout) of a step are functions of the seed and the step, so that a run that was
killed and resumed ends in the same weights as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from omegaconf import OmegaConf
from torch import Tensor

from .. import files
from ..config import ConfigError, Experiment, to_mapping
from ..contracts import HandBatch, HandPrediction
from ..data.loader import Batches, LockedSource, Samples, load, worker_count
from ..evaluation.evaluate import Predictor, as_float, evaluate
from ..evaluation.pictures import picture_sheet
from ..losses import check_terms, supervised_losses
from ..mano.template import HandTemplate
from ..metrics import Accumulator
from ..models.base import HandModel
from . import micro_batches as parts
from . import nonfinite as guard
from . import report
from . import run_state as state
from .distributed import Sharded, full, recompute, train_mode
from .launch import Interrupt, make_accelerator, seed_all
from .lock import RunLock
from .log import Board, History, Progress, Window
from .nonfinite import Guard, Incidents, TrainingError
from .optim import Ema, build_optimizer, learning_rate, set_learning_rate

logger = logging.getLogger(__name__)


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
    shown: HandBatch | None = None,
) -> bool:
    """Train `model` for `experiment.train.steps` steps in `folder`, going on from its last checkpoint if it has one.

    Args:
        stream: `stream[step * parts + part]` is one part of a step's batch; parts are processes times micro-batches.
            Where train.accumulate is auto, it is cut anew (`data.stream.Stream.cut`).
        folder: of the run; gets config.yaml, step_*/ (checkpoints), model/ (for `from_pretrained`, averaged weights
            where there are any), metrics.json, log.jsonl, report.html, TensorBoard files.
        template: of the model's hand; the losses on meshes need it.
        tests: data sets to evaluate on.
        references: other predictors to score beside the model, such as the mean pose.
        shown: fixed samples whose predictions TensorBoard shows.

    Returns:
        True when the run is finished, False when SIGINT or SIGTERM stopped it (after a checkpoint).

    Raises:
        ConfigError: settings that cannot work, or that differ from those that the folder's run was started with.
        TrainingError: losses that stay not finite, or too little memory.
        CheckpointError: no checkpoint can be read or written, or the processes do not see the same one.
        LockedError: another process trains in `folder`.
    """
    accelerator = accelerator or make_accelerator(experiment)
    with RunLock(folder) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        trainer = Trainer(model, stream, experiment, folder, accelerator)
        trainer.tests, trainer.references, trainer.shown = dict(tests or {}), dict(references or {}), shown
        trainer.template = template.to(accelerator.device) if template is not None else None
        parts.settle(trainer, trainer.before)
        if accelerator.is_main_process:
            files.write_text(folder / "config.yaml", OmegaConf.to_yaml(to_mapping(experiment)))
        return trainer.run()


class Trainer:
    """The state of a run and what happens at each step."""

    def __init__(
        self,
        model: HandModel,
        stream: Batches,
        experiment: Experiment,
        folder: Path,
        accelerator: Accelerator,
    ) -> None:
        self.experiment, self.config, self.folder = experiment, experiment.train, folder
        self.accelerator = accelerator
        self.workers = 0 if experiment.data.on_device else worker_count(experiment.data.workers)
        self.stream = stream if self.workers else LockedSource(stream)  # a loader's thread asks, and `_save_bad_step`
        self.tests: dict[str, Samples] = {}
        self.references: dict[str, Predictor] = {}
        self.template: HandTemplate | None = None
        self.shown: HandBatch | None = None
        self.step = 0
        self.interrupt = Interrupt()
        self.progress = Progress(0, experiment.train.steps, show=False)
        self.before: Mapping[str, Any] = {}  # section `train` of the checkpoint that the run goes on from
        self.window = Window(self._names(), self._sum)
        check_config(experiment, model)
        layout = torch.contiguous_format if self.config.shard else torch.channels_last  # shards are cut from rows
        self.module = model.to(accelerator.device, memory_format=layout)
        found = state.find(folder, experiment)
        state.check_same_step(folder, gather_object([found.step if found else 0]))
        if found is not None:
            state.load_weights(model, found)
        self.model = self._prepare(model)
        optimizer = build_optimizer(model, self.config.optimizer)
        self.ema = Ema(model, self.config.ema) if self.config.ema else None
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        if found is not None:
            state.load_rest(found, model, self.ema, optimizer, accelerator, self.window)
            self.step, self.before = found.step, found.state.get("experiment", {}).get("train", {})
            logger.info("going on from %s", found.path)
        self.guard = Guard(model, accelerator, folder / "bad_steps", self.config.bad_steps)
        self.guard.save = self._save_bad_step

    def _prepare(self, model: HandModel) -> Any:
        """The network as training calls it: recomputed, compiled, sharded or replicated."""
        if self.config.gradient_checkpointing:
            logger.info("activations of %d layers are computed twice", recompute(model))
        if self.config.compile:
            model.compile(dynamic=False)
        return Sharded(model, self.accelerator) if self.config.shard else self.accelerator.prepare_model(model)

    def run(self) -> bool:
        """Train from the present step to the last one; see `fit`."""
        main, steps = self.accelerator.is_main_process, self.config.steps
        if self.step > steps or (self.step == steps and self._evaluated()):
            logger.info("%s: finished at step %d; train.steps=N with a larger N goes on", self.folder, self.step)
            return True
        self.progress = Progress(self.step, steps, show=main)
        board = Board(self.folder, self.step, active=main)
        self.history = History(self.folder, self.step) if main else None
        batches = self._batches()
        train_mode(self.module, self.config.freeze_norms)
        try:
            with self.interrupt:
                if 0 < self.step < steps and self._every(self.config.evaluate_every) and not self._evaluated():
                    self._evaluate(board)  # the run was killed in the middle of it
                self._loop(batches, board)
                batches.close()
                if self.step == steps:
                    self._evaluate(board)
                if main:
                    report.write(self.folder, self.step)
        finally:
            batches.close()  # where something failed: nothing should be prepared any more
            self.progress.close()
            board.close()
        if self.step < steps:
            logger.info("stopped at step %d of %d; the same command goes on from there", self.step, steps)
        return self.step == steps

    def _loop(self, batches: Iterator[HandBatch], board: Board) -> None:
        self.window.start()
        while self.step < self.config.steps:
            if self._train_step(batches):
                self._checkpoint()
                return
            self.progress.advance(self.step)
            self._report(board)
            stop = self._stop_requested()
            if stop or self.step == self.config.steps or self._every(self.config.checkpoint_every):
                self._checkpoint()
            if stop:
                return
            if self.step < self.config.steps and self._every(self.config.evaluate_every):
                self._evaluate(board)

    def _batches(self) -> Iterator[HandBatch]:
        """This process's parts of the remaining batches, in order."""
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        all_parts = self.config.accumulate * count
        mine = range(self.step * all_parts + rank, self.config.steps * all_parts, count)
        return load(self.stream, mine, self.workers, self.accelerator.device)

    def _train_step(self, batches: Iterator[HandBatch]) -> bool:
        """One step; True, and nothing is changed, where a signal came before its last part."""
        config, accelerator = self.config, self.accelerator
        scalars: dict[str, Tensor] = {}
        self.guard.before()
        for part in range(config.accumulate):
            if part and not self._goes_on(part):
                return True
            started = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - started
            # after the data: a loader that starts, and data sets in this process, draw numbers too
            seed_all(config.seed, self.step * config.accumulate + part, accelerator.process_index)
            with self._without_sync(part + 1 < config.accumulate):
                terms = self._pass(batch)
            for name, value in terms.items():
                scalars[name] = scalars.get(name, 0) + value.detach() / config.accumulate
            self.window.count(config.batch_size // config.accumulate, waited)
        norm = full(accelerator.clip_grad_norm_(self.module.parameters(), config.optimizer.clip_grad or math.inf))
        scalars["grad_norm"] = norm
        set_learning_rate(self.optimizer.optimizer, learning_rate(config.optimizer, self.step, config.steps))
        bad = self.guard.judge(self.step, scalars["loss"], norm, self.optimizer.optimizer)
        if self.guard.allows(bad, self.optimizer.optimizer):
            self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.module, self.step)
        self.window.add(scalars, bad)
        self.step += 1
        if self.guard.due:
            self.guard.check()
        return False

    def _goes_on(self, part: int) -> bool:
        """Between two parts of a step: show how fast it goes, and heed Ctrl-C, upon which the step is forgotten (of
        several processes: only after the step, when they agree)."""
        if self.interrupt.requested and self.accelerator.num_processes == 1:
            self.optimizer.zero_grad()
            self.guard.forget()
            logger.info("step %d begins anew: %d of its %d parts", self.step, part, self.config.accumulate)
            return False
        if self.progress.due:
            self.progress.update(self.window.report(), part, self.config.accumulate)
        return True

    def _pass(self, batch: HandBatch) -> dict[str, Tensor]:
        """Forth and back: the losses, with the gradients left in the parameters.

        Raises:
            TrainingError: out of memory, or torch.compile cannot do it.
        """
        try:
            terms = self._losses(batch)
            self.accelerator.backward(terms["loss"] / self.config.accumulate)
            return terms
        except (RuntimeError, MemoryError) as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise TrainingError(
                    f"train.compile=true: {str(error).splitlines()[0]} Try train.compile=false"
                ) from error
            if not guard.is_out_of_memory(error):
                raise
        terms = None  # here, the error is gone too, and with both the activations that they held
        raise TrainingError(self._memory_advice(batch))

    def _without_sync(self, on: bool) -> Any:
        """Micro-batches before the last one leave the adding up over processes to it."""
        if isinstance(self.model, Sharded):
            self.model.sync(not on)
            return nullcontext()
        return self.accelerator.no_sync(self.model) if on else nullcontext()

    def _losses(self, batch: HandBatch, predict: Predictor | None = None) -> dict[str, Tensor]:
        """Every loss term's mean over the batch ("loss/<name>") and their weighted sum ("loss")."""
        prediction = as_float((predict or self.model)(batch.inputs))
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
        if self.accelerator.num_processes > 1:  # a head without a label here has one in another process: all take part
            total = total + _touch(prediction)
        return {"loss": total, **{f"loss/{name}": value for name, value in means.items()}}

    def _memory_advice(self, batch: HandBatch) -> str:
        """What to do about too little memory: measured where that needs no other process."""
        config, processes = self.config, self.accelerator.num_processes
        self.optimizer.zero_grad()
        spare: list[Tensor] = []
        if not self.optimizer.state:  # the first step: the optimiser still has to take its two numbers a parameter
            spare = [torch.empty_like(p) for p in self.module.parameters() for _ in range(2)]

        def attempt(size: int) -> None:
            try:
                self.accelerator.backward(self._losses(batch[:size], self.module)["loss"])
            finally:
                self.module.zero_grad()

        fits = 0 if processes > 1 else guard.fitting_part(len(batch), attempt)
        spare.clear()
        fits = max(1, len(batch) // 2) if processes > 1 else fits
        return f"step {self.step}: {guard.memory_advice(config.batch_size, processes, config.accumulate, fits)}"

    def _save_bad_step(self, step: int, here: bool) -> None:
        """Keep a bad step's batches and the present weights, which the step has not touched."""
        accelerator, config = self.accelerator, self.config
        incidents = Incidents(self.folder / "bad_steps")
        if not (here or accelerator.is_main_process) or not incidents.room():
            return
        all_parts = config.accumulate * accelerator.num_processes
        mine = range(step * all_parts + accelerator.process_index, (step + 1) * all_parts, accelerator.num_processes)
        batches = [self.stream[index] for index in mine]
        whole = self.module.state_dict() if not config.shard else {}  # sharded ones would need all processes
        weights = {n: v.detach().cpu().contiguous() for n, v in whole.items()}
        facts = {
            "step": step,
            "seen_at_step": self.step,
            "process": accelerator.process_index,
            "learning_rate": learning_rate(config.optimizer, step, config.steps),
            "keys": [key for batch in batches for key in batch.keys],
            "experiment": to_mapping(self.experiment),
        }
        incidents.add(f"step_{step:06d}_process_{accelerator.process_index}", batches, weights, facts)

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    def _report(self, board: Board) -> None:
        logs = self._every(self.config.log_every) or self.step == self.config.steps
        due = self.progress.due
        if logs:
            self.guard.check()
            values = self.window.report(everywhere=True)
            rate = learning_rate(self.config.optimizer, self.step - 1, self.config.steps)
            self._log(board, {**values, "lr": rate}, "train")
            self.window.clear()
        elif due:
            values = self.window.report()
        if due or (logs and self.step == self.config.steps):
            self.progress.update(values)

    def _log(self, board: Board, values: Mapping[str, float], of: str) -> None:
        board.add(self.step, values, f"{of}/")
        if self.history is not None:
            self.history.add(self.step, values, of)

    def _names(self) -> list[str]:
        """What every process logs, in the same order."""
        return ["loss", *(f"loss/{name}" for name in sorted(self.config.losses)), "grad_norm"]

    def _sum(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, "sum") if self.accelerator.num_processes > 1 else value

    def _stop_requested(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self.interrupt.requested
        if not self._every(self.config.log_every):  # processes must agree, and asking costs a round
            return False
        flag = torch.tensor([float(self.interrupt.requested)], device=self.accelerator.device)
        return bool(self._sum(flag).item())

    def _evaluate(self, board: Board) -> None:
        """Score the model (with averaged weights where there are any) on every test set."""
        with self.window.paused(), self.ema.applied_to(self.module) if self.ema else nullcontext():
            self._share_statistics()
            self.module.eval()
            results, samples = {}, {}
            for name, dataset in self.tests.items():
                logger.info("step %d: evaluating on %s ...", self.step, name)
                scores = self._score(dataset)
                results[name] = {who: accumulator.summary() for who, accumulator in scores.items()}
                self._log(board, results[name]["model"], f"test/{name}")
                text = ", ".join(f"{k} {v:.4g}" for k, v in results[name]["model"].items())
                logger.info("step %d, %s: %s", self.step, name, text)
                samples[name] = self._extremes(dataset, scores["model"])
            sheet = picture_sheet(self.shown, self._predict, self.template, self.accelerator.device)
            if self.accelerator.is_main_process and self.tests:
                files.write_json(self.folder / "metrics.json", {"step": self.step, "test": results})
            if self.accelerator.is_main_process:
                if sheet is not None:
                    board.picture(self.step, "predictions", sheet)
                report.keep_pictures(self.folder, samples, sheet, self.template)
                report.write(self.folder, self.step)
            train_mode(self.module, self.config.freeze_norms)
            self.accelerator.wait_for_everyone()

    def _evaluated(self) -> bool:
        """Whether the evaluation of this step, which comes after its checkpoint, has been finished."""
        try:
            done = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))["step"]
        except (OSError, ValueError, KeyError, TypeError):
            return not self.tests
        return done == self.step

    def _extremes(self, dataset: Samples, scores: Accumulator) -> report.Extremes | None:
        device, processes = self.accelerator.device, self.accelerator.num_processes
        return report.extremes(dataset, scores, self._predict, device, processes)

    @property
    def _predict(self) -> Predictor:
        """The network outside of training; sharded, all processes have to call it."""
        return self.model if isinstance(self.model, Sharded) else self.module

    def _score(self, dataset: Samples) -> dict[str, Accumulator]:
        """Every predictor's measurements, the same in all processes."""
        accelerator = self.accelerator
        mine = evaluate(
            {"model": self._predict, **self.references},
            dataset,
            device=accelerator.device,
            workers=self.workers,
            samples=self.config.evaluate_samples,
            share=(accelerator.process_index, accelerator.num_processes),
            progress=accelerator.is_main_process,
        )
        if accelerator.num_processes == 1:
            return mine
        first, *others = gather_object([mine])
        for other in others:
            for name, accumulator in other.items():
                first[name].merge(accumulator)
        return first

    def _share_statistics(self) -> None:
        """The main process's batch-norm statistics for all: each has its own since the last forward pass."""
        if self.accelerator.num_processes > 1:
            for buffer in self.module.buffers():
                torch.distributed.broadcast(buffer, 0)

    def _checkpoint(self) -> None:
        with self.window.paused():
            self.guard.check()
            self._share_statistics()
            main = self.accelerator.is_main_process
            log = self.window.state()
            tensors = state.collect(self.module, self.ema, self.optimizer.optimizer, main)
            if main:
                state.write(self.folder, self.step, tensors, self.experiment, self.module, self.accelerator, log)
            self.accelerator.wait_for_everyone()


def _touch(prediction: HandPrediction) -> Tensor:
    """Zero, by way of everything that was predicted."""
    parts: list[Tensor] = []
    prediction.map(lambda t: parts.append(t) or t)
    return sum(0 * t.sum() for t in parts if t.requires_grad)


def check_config(experiment: Experiment, model: HandModel) -> None:
    """Everything that can be known to be wrong before the first batch.

    Raises:
        ConfigError: naming the key.
    """
    config = experiment.train
    learning_rate(config.optimizer, config.steps, config.steps)
    parts.first_parts(config)
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
