"""Steps whose loss or gradients are not finite: skipped, and kept to be looked into.

Such a step must change nothing. Only the device knows whether a step is bad, and to read that at each step would make a
GPU wait. So the device itself skips the step: the fused optimisers take a flag (`found_inf`, made for loss scaling),
batch norms get their earlier statistics back, and the flags are read when the log is written. The batch is a function
of the step: it is made again to be saved.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Float, Shaped
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import files
from ..config import Experiment, to_mapping
from ..contracts import HandBatch, Record
from ..data.loader import Batches
from ..models.base import HandModel
from .batch_norms import BatchNormSnapshot
from .optim import learning_rate

logger = logging.getLogger(__name__)

MAX_DUMPS = 3  # bad steps of a run whose batch and state are kept
SCALING_STEPS = 20  # steps in a row that fp16's loss scale may take to adapt
ADVICE = "try a lower train.optimizer.lr, train.optimizer.clip_grad=1 or train.precision=fp32"


class TrainingError(RuntimeError):
    """Training cannot continue; the message gives the step and the reason."""


class NonFiniteGuard:
    """Skips the bad steps of a run; `in_a_row` of them end it."""

    def __init__(self, model: nn.Module, accelerator: Accelerator, dump: BadStepDump, in_a_row: int) -> None:
        self.accelerator, self.dump = accelerator, dump
        self.scaled = accelerator.scaler is not None
        self.limit = in_a_row + SCALING_STEPS * self.scaled
        self.flags: list[tuple[int, Tensor, Tensor]] = []  # step, bad in any process, its loss bad in this one
        self.row = 0
        self.statistics = BatchNormSnapshot(model)

    def before(self) -> None:
        """Keep what a bad step would change."""
        self.statistics.keep()

    def forget(self) -> None:
        """Undo the changes of a step that is not finished."""
        device = self.accelerator.device
        self.statistics.restore_where(torch.ones((), dtype=torch.bool, device=device))

    def judge(
        self, step: int, loss: Float[Tensor, ""], grad_norm: Float[Tensor, ""], optimizer: torch.optim.Optimizer
    ) -> Tensor:
        """Make `optimizer` skip this step if its loss or gradients are not finite in any process; 1 if so, else 0."""
        here = ~loss.detach().isfinite()
        bad = (here | ~grad_norm.detach().isfinite()).float()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad, "sum").clamp(max=1)
        self.statistics.restore_where(bad > 0)
        if optimizer.defaults.get("fused") and not self.scaled:  # a loss scaler puts its own flag there
            optimizer.found_inf = bad
        self.flags.append((step, bad, here))
        return bad

    def allows(self, bad: Float[Tensor, ""], optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimiser may be called: a fused one skips bad steps itself."""
        return bool(optimizer.defaults.get("fused")) or self.scaled or not bad.item()

    @property
    def due(self) -> bool:
        """Whether reading the flags costs nothing: on a CPU."""
        return self.accelerator.device.type == "cpu"

    def check(self) -> None:
        """Read the flags since the last call.

        Raises:
            TrainingError: too many bad steps in a row.
        """
        if not self.flags:
            return
        steps = [step for step, _, _ in self.flags]
        bad, here = torch.stack([torch.stack([b, h.float()]) for _, b, h in self.flags]).unbind(1)
        self.flags = []
        for step, is_bad, is_here in zip(steps, bad.tolist(), here.tolist(), strict=True):
            self.row = self.row + 1 if is_bad else 0
            if is_bad and not (self.scaled and not is_here):  # a scale that is too large is no mistake
                logger.warning("step %d: the loss or its gradients are not finite, the step is skipped", step)
                self.dump.save(step, seen_at=steps[-1] + 1, here=bool(is_here))
            if self.row >= self.limit:
                raise TrainingError(
                    f"the loss or its gradients were not finite in {self.row} steps in a row up to step {step}. "
                    f"Checkpoints are from before; batches and weights to look into are in {self.dump.folder}: {ADVICE}"
                )


class BadStepDump:
    """Folder `bad_steps/` of a run: the batches of the first few bad steps, with the weights, to be looked into."""

    def __init__(
        self, folder: Path, experiment: Experiment, model: HandModel, stream: Batches, accelerator: Accelerator
    ) -> None:
        self.folder, self.experiment, self.model = folder, experiment, model
        self.stream, self.accelerator = stream, accelerator

    def save(self, step: int, seen_at: int, here: bool) -> None:
        """Keep the batches of `step` and the present weights, which the step has not touched.

        Args:
            step: the bad one.
            seen_at: the present step.
            here: the loss was not finite in this process.
        """
        accelerator, train = self.accelerator, self.experiment.train
        if not (here or accelerator.is_main_process) or not self.has_room():
            return
        count, rank = accelerator.num_processes, accelerator.process_index
        per_step = train.accumulate * count
        batches = [self.stream[index] for index in range(step * per_step + rank, (step + 1) * per_step, count)]
        weights = self.model.state_dict() if not train.shard else {}  # sharded ones would need all processes
        facts = {
            "step": step,
            "seen_at_step": seen_at,
            "process": rank,
            "learning_rate": learning_rate(train.optimizer, step, train.steps),
            "keys": [key for batch in batches for key in batch.keys],
            "experiment": to_mapping(self.experiment),
        }
        kept = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        self._write(self.folder / f"step_{step:06d}_process_{rank}", batches, kept, facts)

    def has_room(self) -> bool:
        """Whether another bad step is kept."""
        return not self.folder.is_dir() or len(list(self.folder.iterdir())) < MAX_DUMPS

    def _write(
        self, target: Path, batches: list[HandBatch], weights: dict[str, Shaped[Tensor, "..."]], facts: dict[str, Any]
    ) -> None:
        """A full disk only costs the record."""
        tensors = {f"{i}.{k}": v for i, batch in enumerate(batches) for k, v in flat_tensors(batch).items()}
        try:
            target.mkdir(parents=True, exist_ok=True)
            save_file(tensors, target / "batch.safetensors")
            if weights:
                save_file(weights, target / "model.safetensors")
            files.write_json(target / "facts.json", facts)
        except OSError as error:
            logger.warning("cannot write %s: %s", target, error)
            return
        logger.warning("batch and weights saved in %s (%s)", target, json.dumps(facts["keys"][:4])[1:-1] + " ...")


def flat_tensors(record: Record, prefix: str = "") -> dict[str, Tensor]:
    """Every tensor of a record by its dotted name, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, value in vars(record).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value.detach().cpu().contiguous().clone()
        elif isinstance(value, Record):
            found |= flat_tensors(value, f"{prefix}{name}.")
    return found
