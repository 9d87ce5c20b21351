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
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float
from omegaconf import OmegaConf
from torch import Tensor

from .. import files
from ..config import ConfigError, to_mapping
from ..contracts import HandBatch, HandPrediction
from ..data.loader import LockedSource, Samples, load, worker_count
from ..evaluation.evaluate import MeanPose, Predictor, as_float, evaluate
from ..evaluation.pictures import picture_sheet
from ..losses import supervised_losses
from ..metrics import Accumulator
from ..models.base import HandModel
from . import memory, micro_batches, report, run_state
from .activation_checkpointing import checkpoint_activations
from .batch_norms import train_mode
from .distributed import Sharded, full_tensor
from .launch import Interrupt, Run, RunLock, check_config, make_accelerator, seed_all
from .log import JsonlLog, Progress, RunningMeans, TensorBoardLog
from .nonfinite import BadStepDump, NonFiniteGuard, TrainingError
from .optim import Ema, build_optimizer, learning_rate, set_learning_rate

logger = logging.getLogger(__name__)


def fit(run: Run, accelerator: Accelerator | None = None) -> bool:
    """Train `run.model` for `train.steps` steps in `run.folder`, from its last checkpoint if it has one.

    The folder gets config.yaml, step_*/ (checkpoints), model/ (for `from_pretrained`, averaged weights where there are
    any), metrics.json, log.jsonl, report.html and TensorBoard files.

    Returns:
        True when the run is finished, False when SIGINT or SIGTERM stopped it (after a checkpoint).

    Raises:
        ConfigError: settings that cannot work, or that differ from those that the folder's run was started with.
        TrainingError: losses that stay not finite, or too little memory.
        CheckpointError: no checkpoint can be read or written, or the processes do not see the same one.
        LockedError: another process trains in the folder.
    """
    accelerator = accelerator or make_accelerator(run.experiment)
    with RunLock(run.folder) if accelerator.is_main_process else nullcontext():
        accelerator.wait_for_everyone()
        trainer = Trainer(run, accelerator)
        if accelerator.is_main_process:
            files.write_text(run.folder / "config.yaml", OmegaConf.to_yaml(to_mapping(run.experiment)))
        return trainer.train()


class Trainer:
    """A run on this machine's devices: its state, and what happens at each step.

    The newest checkpoint in the run's folder is loaded, and `train.accumulate=auto` becomes a number.
    """

    def __init__(self, run: Run, accelerator: Accelerator) -> None:
        """See `fit` for what is raised."""
        experiment = run.experiment
        self.experiment, self.config, self.folder = experiment, experiment.train, run.folder
        self.accelerator, self.tests = accelerator, run.tests
        self.template = run.template.to(accelerator.device) if run.template is not None else None
        self.references = {"mean_pose": MeanPose(run.template)} if run.template is not None else {}
        self.shown = run.shown
        self.workers = 0 if experiment.data.on_device else worker_count(experiment.data.workers)
        self.stream = run.stream if self.workers else LockedSource(run.stream)  # a loader's thread reads it, and `dump`
        self.interrupt = Interrupt()
        self.progress = Progress(0, self.config.steps, show=False)
        self.means = RunningMeans(self._names(), self._sum)
        check_config(experiment, run.model)
        layout = torch.contiguous_format if self.config.shard else torch.channels_last  # shards are cut from rows
        self.module = run.model.to(accelerator.device, memory_format=layout)
        begun = self._load_checkpoint()
        dump = BadStepDump(self.folder / "bad_steps", experiment, self.module, self.stream, accelerator)
        self.guard = NonFiniteGuard(self.module, accelerator, dump, self.config.bad_steps)
        micro_batches.settle(self, begun)

    def _load_checkpoint(self) -> Mapping[str, Any]:
        """Build network, averages and optimiser, as the newest checkpoint has them where there is one; returns the
        section `train` that the run began with."""
        model, accelerator = self.module, self.accelerator
        found = run_state.find(self.folder, self.experiment)
        run_state.check_same_step(self.folder, gather_object([found.step if found else 0]))
        if found is not None:
            run_state.load_weights(model, found)
        self.model = self._prepare(model)
        optimizer = build_optimizer(model, self.config.optimizer)
        self.ema = Ema(model, self.config.ema) if self.config.ema else None
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.step = found.step if found else 0
        if found is None:
            return {}
        run_state.load_rest(found, model, self.ema, optimizer, accelerator, self.means)
        logger.info("continuing from %s", found.path)
        return found.state.get("experiment", {}).get("train", {})

    def _prepare(self, model: HandModel) -> Any:
        """The network as training calls it: recomputed, compiled, sharded or replicated."""
        if self.config.gradient_checkpointing:
            logger.info("activations of %d layers are computed twice", checkpoint_activations(model))
        if self.config.compile:
            model.compile(dynamic=False)
        return Sharded(model, self.accelerator) if self.config.shard else self.accelerator.prepare_model(model)

    def train(self) -> bool:
        """Train from the present step to the last one; see `fit`."""
        main, steps = self.accelerator.is_main_process, self.config.steps
        if self.step > steps or (self.step == steps and self._evaluated()):
            logger.info("%s: finished at step %d; train.steps=N with a larger N continues it", self.folder, self.step)
            return True
        self.progress = Progress(self.step, steps, show=main)
        board = TensorBoardLog(self.folder, self.step, active=main)
        self.history = JsonlLog(self.folder, self.step) if main else None
        batches = self.batches()
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
            logger.info("stopped at step %d of %d; the same command continues from there", self.step, steps)
        return self.step == steps

    def _loop(self, batches: Iterator[HandBatch], board: TensorBoardLog) -> None:
        self.means.start()
        while self.step < self.config.steps:
            if not self.training_step(batches):
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

    def batches(self) -> Iterator[HandBatch]:
        """This process's micro-batches of the remaining steps, in order. Close the iterator to stop them early."""
        count, rank = self.accelerator.num_processes, self.accelerator.process_index
        per_step = self.config.accumulate * count
        mine = range(self.step * per_step + rank, self.config.steps * per_step, count)
        return load(self.stream, mine, self.workers, self.accelerator.device)

    def training_step(self, batches: Iterator[HandBatch]) -> bool:
        """One optimiser step on the next `train.accumulate` micro-batches; False where a signal came before the last of
        them: nothing is changed then."""
        config = self.config
        scalars: dict[str, Tensor] = {}
        self.guard.before()
        for part in range(config.accumulate):
            if part and not self._goes_on(part):
                return False
            started = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - started
            # after the data: a loader that starts, and data sets in this process, draw numbers too
            seed_all(config.seed, self.step * config.accumulate + part, self.accelerator.process_index)
            with self._without_sync(part + 1 < config.accumulate):
                terms = self.forward_backward(batch)
            for name, value in terms.items():
                scalars[name] = scalars.get(name, 0) + value.detach() / config.accumulate
            self.means.count(config.batch_size // config.accumulate, waited)
        self.update(scalars)
        if self.guard.due:
            self.guard.check()
        return True

    def update(self, scalars: dict[str, Float[Tensor, ""]]) -> None:
        """Move the weights along the gradients, unless they or the loss are not finite; counts the step.

        Args:
            scalars: the step's losses by name, the weighted sum as "loss".
        """
        config, accelerator = self.config, self.accelerator
        norm = accelerator.clip_grad_norm_(self.module.parameters(), config.optimizer.clip_grad or math.inf)
        scalars["grad_norm"] = norm = full_tensor(norm)
        set_learning_rate(self.optimizer.optimizer, learning_rate(config.optimizer, self.step, config.steps))
        bad = self.guard.judge(self.step, scalars["loss"], norm, self.optimizer.optimizer)
        if self.guard.allows(bad, self.optimizer.optimizer):
            self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.module, self.step)
        self.means.add(scalars, bad)
        self.step += 1

    def _goes_on(self, part: int) -> bool:
        """Between two micro-batches of a step: show the speed; False after Ctrl-C, upon which the step is forgotten (of
        several processes: only after the step, when they agree)."""
        if self.interrupt.requested and self.accelerator.num_processes == 1:
            self.optimizer.zero_grad()
            self.guard.forget()
            logger.info("step %d begins anew: %d of its %d parts", self.step, part, self.config.accumulate)
            return False
        if self.progress.due:
            self.progress.update(self.means.report(), part, self.config.accumulate)
        return True

    def forward_backward(self, batch: HandBatch) -> dict[str, Tensor]:
        """The losses of one micro-batch; its gradients are added to those of the parameters.

        Raises:
            TrainingError: out of memory, or torch.compile cannot do it.
        """
        try:
            terms = self.losses(batch)
            self.accelerator.backward(terms["loss"] / self.config.accumulate)
            return terms
        except (RuntimeError, MemoryError) as error:
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise TrainingError(
                    f"train.compile=true: {str(error).splitlines()[0]} Try train.compile=false"
                ) from error
            if not memory.is_out_of_memory(error):
                raise
        terms = None  # here, the error is gone too, and with both the activations that they held
        raise TrainingError(f"step {self.step}: {micro_batches.memory_advice(self, batch)}")

    def _without_sync(self, on: bool) -> Any:
        """Micro-batches before the last one leave the adding up over processes to it."""
        if isinstance(self.model, Sharded):
            self.model.sync(not on)
            return nullcontext()
        return self.accelerator.no_sync(self.model) if on else nullcontext()

    def losses(self, batch: HandBatch, predict: Predictor | None = None) -> dict[str, Tensor]:
        """Every loss term's mean over the batch ("loss/<name>") and their weighted sum ("loss")."""
        prediction = as_float((predict or self.model)(batch.inputs_for(self.module)))
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

    def _every(self, steps: int) -> bool:
        return steps > 0 and self.step % steps == 0

    def _report(self, board: TensorBoardLog) -> None:
        logs = self._every(self.config.log_every) or self.step == self.config.steps
        due = self.progress.due
        if logs:
            self.guard.check()
            values = self.means.report(everywhere=True)
            rate = learning_rate(self.config.optimizer, self.step - 1, self.config.steps)
            self._log(board, {**values, "lr": rate}, "train")
            self.means.clear()
        elif due:
            values = self.means.report()
        if due or (logs and self.step == self.config.steps):
            self.progress.update(values)

    def _log(self, board: TensorBoardLog, values: Mapping[str, float], of: str) -> None:
        board.add(self.step, values, f"{of}/")
        if self.history is not None:
            self.history.add(self.step, values, of)

    def _names(self) -> list[str]:
        """What every process logs, in the same order."""
        return ["loss", *(f"loss/{name}" for name in sorted(self.config.losses)), "grad_norm"]

    def _sum(self, value: Float[Tensor, "..."]) -> Tensor:
        return self.accelerator.reduce(value, "sum") if self.accelerator.num_processes > 1 else value

    def _stop_requested(self) -> bool:
        if self.accelerator.num_processes == 1:
            return self.interrupt.requested
        if not self._every(self.config.log_every):  # processes must agree, and asking costs a round
            return False
        flag = torch.tensor([float(self.interrupt.requested)], device=self.accelerator.device)
        return bool(self._sum(flag).item())

    def _evaluate(self, board: TensorBoardLog) -> None:
        """Score the model (with averaged weights where there are any) on every test set."""
        with self.means.paused(), self.ema.applied_to(self.module) if self.ema else nullcontext():
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
        with self.means.paused():
            self.guard.check()
            self._share_statistics()
            main = self.accelerator.is_main_process
            log = self.means.state()
            tensors = run_state.collect(self.module, self.ema, self.optimizer.optimizer, main)
            if main:
                run_state.write(self.folder, self.step, tensors, self.experiment, self.module, self.accelerator, log)
            self.accelerator.wait_for_everyone()


def _touch(prediction: HandPrediction) -> Tensor:
    """Zero, by way of everything that was predicted."""
    parts: list[Tensor] = []
    prediction.map(lambda t: parts.append(t) or t)
    return sum(0 * t.sum() for t in parts if t.requires_grad)
