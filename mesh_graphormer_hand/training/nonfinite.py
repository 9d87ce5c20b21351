"""What goes wrong in a step, and its remedy: losses that are no numbers, memory that is too small.

A step whose loss or gradients are not finite must leave no trace. Whether it is one is known on the device only, and
asking there at each step would make a GPU wait. So it is the device that steps over it: the fused optimisers take a
flag (`found_inf`, made for loss scaling), batch norms get the statistics back that they had, and the flags are read
when the log is. The batch is a function of the step: it is made again to be saved.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from torch import Tensor, nn

from .. import files
from ..contracts import HandBatch, Record
from .distributed import batch_norms

logger = logging.getLogger(__name__)

SAVED = 3  # bad steps of a run whose batch and state are kept
SCALING = 20  # steps in a row that fp16's loss scale may take to adapt
ADVICE = "try a lower train.optimizer.lr, train.optimizer.clip_grad=1 or train.precision=fp32"


class TrainingError(RuntimeError):
    """Training that cannot go on; the message says at which step and why."""


class Guard:
    """Watches one run; `in_a_row` bad steps end it."""

    def __init__(self, model: nn.Module, accelerator: Accelerator, folder: Path, in_a_row: int) -> None:
        self.accelerator, self.folder = accelerator, folder
        self.scaled = accelerator.scaler is not None
        self.limit = in_a_row + SCALING * self.scaled
        self.flags: list[tuple[int, Tensor, Tensor]] = []  # step, bad in any process, its loss bad in this one
        self.row = 0
        self.statistics = Statistics(model)
        self.save: Callable[[int, bool], None] = lambda step, here: None  # keep a bad step's batch and the state

    def before(self) -> None:
        """Remember what a bad step could spoil."""
        self.statistics.keep()

    def forget(self) -> None:
        """Put back what a step that is given up has changed."""
        device = self.accelerator.device
        self.statistics.restore_where(torch.ones((), dtype=torch.bool, device=device))

    def judge(self, step: int, loss: Tensor, grad_norm: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
        """Make `optimizer` pass over this step if its loss or gradients are not finite in any process: 1 if so."""
        here = ~loss.detach().isfinite()
        bad = (here | ~grad_norm.detach().isfinite()).float()
        if self.accelerator.num_processes > 1:
            bad = self.accelerator.reduce(bad, "sum").clamp(max=1)
        self.statistics.restore_where(bad > 0)
        if not self.scaled:  # a loss scaler puts its own flag there
            optimizer.found_inf = bad
        self.flags.append((step, bad, here))
        return bad

    def allows(self, bad: Tensor, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimiser may be called: it passes over bad steps itself, if it can."""
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
                self.save(step, bool(is_here))
            if self.row >= self.limit:
                raise TrainingError(
                    f"the loss or its gradients were not finite in {self.row} steps in a row up to step {step}. "
                    f"Checkpoints are from before; batches and weights to look into are in {self.folder}: {ADVICE}"
                )


class Statistics:
    """The running statistics of all batch norms, kept and put back without asking the device anything."""

    def __init__(self, model: nn.Module) -> None:
        found = [b for norm in batch_norms(model) for b in norm.buffers(recurse=False)]
        kinds = {b.dtype for b in found}
        self.groups = [[b for b in found if b.dtype == kind] for kind in kinds]
        self.kept: list[Tensor] = []

    def keep(self) -> None:
        """Remember the present values."""
        self.kept = [torch.cat([b.flatten() for b in group]) for group in self.groups]

    @torch.no_grad()
    def restore_where(self, bad: Tensor) -> None:
        """Put the kept values back if the scalar `bad` is true."""
        for group, old in zip(self.groups, self.kept, strict=True):
            now = torch.cat([b.flatten() for b in group])
            parts = torch.where(bad, old, now).split([b.numel() for b in group])
            torch._foreach_copy_(group, [part.view_as(b) for part, b in zip(parts, group, strict=True)])


class Incidents:
    """Folder `bad_steps/` of a run: the first few bad batches, with the weights, to be looked into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def room(self) -> bool:
        """Whether another one is kept."""
        return not self.folder.is_dir() or len(list(self.folder.iterdir())) < SAVED

    def add(self, name: str, batches: list[HandBatch], weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write one; a full disk only costs the record."""
        target = self.folder / name
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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on a CPU whose memory is limited."""
    text = str(error)
    allocator = "DefaultCPUAllocator" in text or "not enough memory" in text or "out of memory" in text.lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and allocator)


def fitting_part(size: int, attempt: Callable[[int], None]) -> int:
    """The largest of size / 2, size / 4, ... samples that `attempt` (a pass forth and back) has memory for, 0: none."""
    while size > 1:
        size //= 2
        free_memory()
        try:
            attempt(size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return size
    return 0


def pieces(batch_size: int, processes: int, fits: int) -> int:
    """As few equal parts for each process as none of them has more than `fits` samples, or one."""
    count = max(1, -(-batch_size // (processes * max(fits, 1))))
    while batch_size % (processes * count):
        count += 1
    return count


def memory_advice(batch_size: int, processes: int, accumulate: int, fits: int) -> str:
    """What to write into the config, `fits` being how many samples a process can hold at once."""
    part = batch_size // (processes * accumulate)
    text = f"out of memory: {part} samples at once are too many for this machine"
    if not fits:
        return f"{text}, and so is one. train.gradient_checkpointing=true and train.precision=bf16 need less"
    count = pieces(batch_size, processes, fits)
    return (
        f"{text}, {fits} would fit: train.accumulate={count} keeps the batch of {batch_size} and takes it in parts of "
        f"{batch_size // (processes * count)}; train.batch_size={fits * processes * accumulate} makes it smaller. "
        f"train.gradient_checkpointing=true and train.precision=bf16 need less, too"
    )


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    for name in ("cuda", "xpu", "mps"):
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            device.empty_cache()
