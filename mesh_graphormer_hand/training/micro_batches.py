"""Into how many micro-batches a step's batch is cut, so that training fits into the free memory of its device.

An estimate comes first, which takes no more memory than a forward pass without gradients; then forward and backward
passes of a few samples are measured. Nothing is tried until it fails: Linux kills a process that takes too much.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from ..contracts import HandBatch
from . import memory
from .activation_checkpointing import checkpoint_activations, checkpointed_layers
from .batch_norms import train_mode
from .distributed import Sharded
from .launch import AUTO
from .memory import available_bytes, held_bytes
from .nonfinite import TrainingError

if TYPE_CHECKING:
    from .trainer import Trainer

MEMORY_SHARE = 0.75  # of the memory that others leave, at most for training
MEASURED_SAMPLES = 2  # samples that are measured first: some batch norms need more than one
SAFETY_FACTOR = 2.0  # times what an estimate says that a pass may take
WORKER_BYTES = 2**29  # bytes for each process that prepares batches

logger = logging.getLogger(__name__)


def settle(trainer: Trainer, kept: Mapping[str, Any]) -> None:
    """Put numbers in the place of train.accumulate=auto, and cut the trainer's stream so.

    Args:
        kept: section `train` of the checkpoint that the run continues from, whose number of micro-batches is kept if
            it fits.

    Raises:
        TrainingError: a few samples alone are more than the memory holds.
    """
    config, accelerator = trainer.config, trainer.accelerator
    if config.accumulate != AUTO:
        return
    config.accumulate = 1
    if trainer.step >= config.steps:  # the run is finished
        return
    if kept.get("gradient_checkpointing") and not config.gradient_checkpointing:
        _checkpoint_activations(trainer)
    batch = _few_samples(trainer)
    parts = _kept_count(trainer, batch, kept) or _needed_count(trainer, batch)
    config.accumulate = max(gather_object([parts])) if accelerator.num_processes > 1 else parts
    config.gradient_checkpointing |= bool(checkpointed_layers(trainer.module))
    trainer.stream.cut(accelerator.num_processes * config.accumulate)


def _few_samples(trainer: Trainer) -> HandBatch:
    """Twice MEASURED_SAMPLES samples of the present step's batch, or all of it."""
    whole = trainer.config.batch_size
    size = next(n for n in range(1, whole + 1) if whole % n == 0 and n >= min(2 * MEASURED_SAMPLES, whole))
    trainer.stream.cut(whole // size)
    batch = trainer.stream[trainer.step * (whole // size)]
    return batch[: 2 * MEASURED_SAMPLES].to(trainer.accelerator.device)


def _kept_count(trainer: Trainer, batch: HandBatch, kept: Mapping[str, Any]) -> int:
    """The checkpoint's number of micro-batches, so that a continued run equals an uninterrupted one; 0: choose."""
    parts, processes = kept.get("accumulate", 0), trainer.accelerator.num_processes
    if not isinstance(parts, int) or parts < 1 or trainer.config.batch_size % (parts * processes):
        return 0
    size = trainer.config.batch_size // (parts * processes)
    need, free = size * kept_bytes(trainer, batch)[0], _free_bytes(trainer)
    if need <= free:
        logger.info("train.accumulate: %d, as the run began", parts)
        return parts
    logger.warning("%d samples at once, as the run began, take %s, and %s is free", size, _gib(need), _gib(free))
    return 0


def _needed_count(trainer: Trainer, batch: HandBatch) -> int:
    """As few micro-batches as the memory allows; activations are computed twice where even a few samples do not fit."""
    config, device = trainer.config, trainer.accelerator.device
    processes, held = trainer.accelerator.num_processes, held_bytes(device)
    room = int(MEMORY_SHARE * (_free_bytes(trainer) + held)) - held - _later_bytes(trainer)
    fixed, sample = _measure(trainer, batch, room, held)
    few = min(MEASURED_SAMPLES, len(batch))
    if fixed + few * sample > room and not config.gradient_checkpointing:
        _checkpoint_activations(trainer)
        fixed, sample = _measure(trainer, batch, room, held)
    if fixed + few * sample > room:
        raise TrainingError(
            f"{few} samples at once take {_gib(fixed + few * sample)}, and {_gib(max(room, 0))} is theirs to take: "
            "a smaller data.image_size or model, or a machine with more"
        )
    parts = memory.pieces(config.batch_size, processes, int((room - fixed) // max(sample, 1)))
    logger.info(
        "train.accumulate: %d (parts of %d samples of about %s, %s being free for them); batch norms see a part, all "
        "else is as with the whole batch",
        *(parts, config.batch_size // (processes * parts), _gib(sample), _gib(room - fixed)),
    )
    return parts


def _checkpoint_activations(trainer: Trainer) -> None:
    layers = checkpoint_activations(trainer.module)
    trainer.config.gradient_checkpointing = True
    logger.info("train.gradient_checkpointing: activations of %d layers are computed twice", layers)


def _free_bytes(trainer: Trainer) -> int:
    """What this process may still take; on a CPU, processes share it."""
    device = trainer.accelerator.device
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if device.type == "cpu" else 1
    return available_bytes(device) // sharing


def _later_bytes(trainer: Trainer) -> int:
    """What training takes after its first pass: the optimiser's moments, and on a CPU the workers."""
    moments = (
        0 if trainer.optimizer.state else 2 * sum(p.nbytes for p in trainer.module.parameters() if p.requires_grad)
    )
    return moments + WORKER_BYTES * trainer.workers * (trainer.accelerator.device.type == "cpu")


def _measure(trainer: Trainer, batch: HandBatch, room: int, held: int) -> tuple[int, int]:
    """Bytes that a forward and backward pass takes above `held`, whatever its size, and for each sample: measured with
    as many samples as surely fit by an estimate; the estimate where none do."""
    few = min(MEASURED_SAMPLES, len(batch))
    sample, fixed = kept_bytes(trainer, batch)
    fixed += sum(p.nbytes for p in trainer.module.parameters() if p.requires_grad)  # gradients
    fit = [
        n for n in (few, few, len(batch)) if fixed + SAFETY_FACTOR * n * sample <= room
    ]  # twice: the first makes kernels
    peaks = [_peak_bytes(trainer, batch[:count]) for count in fit]
    trainer.optimizer.zero_grad()
    memory.free_memory()
    if not peaks or None in peaks:
        return fixed, int(SAFETY_FACTOR * sample)
    if len(peaks) < 3 or len(batch) == few:
        return fixed, max(sample, (max(peaks) - held - fixed) // few)
    sample = max(sample, (peaks[2] - max(peaks[:2])) // (len(batch) - few))
    return max(max(peaks) - held - len(batch) * sample, fixed), sample


def _peak_bytes(trainer: Trainer, batch: HandBatch) -> int | None:
    """The most bytes that this process holds during a forward and backward pass; None where the system does not say."""

    def call() -> None:
        began = time.perf_counter()
        trainer.accelerator.backward(_losses(trainer, batch)["loss"])
        seconds = time.perf_counter() - began
        rate = len(batch) * trainer.accelerator.num_processes / seconds
        logger.info("%d samples, forward and backward: %.1f s, about %.2g images/s", len(batch), seconds, rate)

    device = trainer.accelerator.device
    held = held_bytes(device)
    trainer.guard.before()
    more = memory.peak_memory(call, str(device))
    trainer.guard.forget()
    return None if more is None else held + int(more * memory.MIB)


def kept_bytes(trainer: Trainer, batch: HandBatch) -> tuple[int, int]:
    """Bytes that a forward pass leaves for the backward pass, for each sample and for all of them together, without
    the weights themselves. They are counted and let go, so that it takes no more memory than an evaluation."""
    few = min(MEASURED_SAMPLES, len(batch))
    trainer.guard.before()
    some, more = (_saved_bytes(trainer, part) for part in (batch[:few], batch))
    trainer.guard.forget()
    if len(batch) == few:
        return some // few, 0
    sample = (more - some) // (len(batch) - few)
    return sample, max(some - few * sample, 0)


def _saved_bytes(trainer: Trainer, batch: HandBatch) -> int:
    train_mode(trainer.module, trainer.config.freeze_norms)
    weights = {t.untyped_storage().data_ptr() for t in trainer.module.state_dict(keep_vars=True).values()}
    seen: dict[StorageWeakRef, int] = {}  # which outlive the memory, so that none is counted twice

    def pack(value: Tensor) -> None:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[StorageWeakRef(storage)] = storage.nbytes()

    def enter(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        for value in args:
            for tensor in value if isinstance(value, list | tuple) else [value]:
                if isinstance(tensor, Tensor):
                    pack(tensor)

    hooks = [module.register_forward_pre_hook(enter) for module in checkpointed_layers(trainer.module)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        terms = _losses(trainer, batch)
    del terms
    for hook in hooks:
        hook.remove()
    return sum(seen.values())


def memory_advice(trainer: Trainer, batch: HandBatch) -> str:
    """What to do about a micro-batch that did not fit into memory: measured where that needs no other process."""
    config, processes = trainer.config, trainer.accelerator.num_processes
    trainer.optimizer.zero_grad()
    spare: list[Tensor] = []
    if not trainer.optimizer.state:  # the first step: the optimiser still has to take its two numbers a parameter
        spare = [torch.empty_like(p) for p in trainer.module.parameters() for _ in range(2)]

    def attempt(size: int) -> None:
        try:
            trainer.accelerator.backward(trainer.losses(batch[:size], trainer.module)["loss"])
        finally:
            trainer.module.zero_grad()

    fits = max(1, len(batch) // 2) if processes > 1 else memory.fitting_part(len(batch), attempt)
    spare.clear()
    return memory.advice(config.batch_size, processes, config.accumulate, fits)


def _losses(trainer: Trainer, batch: HandBatch) -> dict[str, Tensor]:
    """Of this process alone, not compiled; a sharded network takes all processes."""
    sharded = isinstance(trainer.model, Sharded)
    return trainer.losses(batch, trainer.model if sharded else trainer.module.forward)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"
