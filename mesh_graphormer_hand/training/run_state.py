"""The state of a run, saved and restored: weights, averages, optimiser, sums of the log, settings, provenance."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from jaxtyping import Shaped
from torch import Tensor

from ..config import ConfigError, Experiment, to_mapping
from ..models.base import HandModel, write_model
from . import checkpoint
from .distributed import full_tensor
from .log import RunningMeans, provenance
from .optim import Ema, load_optimizer_tensors, optimizer_tensors

logger = logging.getLogger(__name__)

# What may change between two starts of the same run; everything else would make it another run.
MAY_CHANGE = ("train.name", "train.output", "train.steps", "train.log_every", "train.checkpoint_every", "train.keep")
MAY_CHANGE += ("train.evaluate_every", "train.evaluate_samples", "train.threads", "data.workers", "data.test")
MAY_CHANGE += ("train.pictures", "train.bad_steps", "train.gradient_checkpointing", "train.compile", "train.shard")
MAY_CHANGE += ("data.on_device",)
WARNED = ("train.precision", "train.accumulate")  # may change, with a warning: the run is no longer quite the same


def collect(
    model: HandModel, ema: Ema | None, optimizer: torch.optim.Optimizer, main: bool
) -> dict[str, dict[str, Tensor]]:
    """Every tensor of a run, whole and on the CPU; all processes of a sharded run call it, `main` keeps them."""
    groups = {"model": model.state_dict(), "optimizer": optimizer_tensors(optimizer, model)}
    if ema is not None:
        groups["ema"] = ema.average
    kept: dict[str, dict[str, Tensor]] = {}
    for group, named in groups.items():
        kept[group] = {}
        for name, value in named.items():
            whole = full_tensor(value)
            if main:
                kept[group][name] = whole.detach().cpu()
    return kept


def write(
    folder: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Shaped[Tensor, "..."]]],
    experiment: Experiment,
    model: HandModel,
    accelerator: Accelerator,
    log: Mapping[str, Any],
) -> None:
    """Write the checkpoint of `step`, and the model in `save_pretrained` format.

    Raises:
        CheckpointError: the disk is full or refuses.
    """
    scaler = accelerator.scaler
    state = {
        "experiment": to_mapping(experiment),
        "model": {"name": model.config.name, "hand": model.config.hand},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "log": dict(log),
        "processes": accelerator.num_processes,
        "provenance": provenance(str(accelerator.device)),
    }
    checkpoint.save(folder, step, tensors, state, experiment.train.keep)
    write_model(model, folder / "model", tensors.get("ema") or tensors["model"])


def find(folder: Path, experiment: Experiment) -> checkpoint.Checkpoint | None:
    """The checkpoint to continue from, if there is one.

    Raises:
        ConfigError: it was made under other settings.
        CheckpointError: there are checkpoints, and none is whole.
    """
    found = checkpoint.latest(folder) if folder.is_dir() else None
    if found is not None:
        check_same_run(found.state.get("experiment", {}), to_mapping(experiment), found.path)
    return found


def check_same_step(folder: Path, steps: Sequence[int]) -> None:
    """Refuse to train where processes continue from different steps: those of a machine without the checkpoints would
    see other samples, at another learning rate.

    Args:
        folder: of the run.
        steps: of the checkpoint that each process found there, 0: none; the main process's first.

    Raises:
        CheckpointError: they differ.
    """
    other = next((rank for rank, step in enumerate(steps) if step != steps[0]), None)
    if other is not None:
        raise checkpoint.CheckpointError(
            f"{folder}: process 0 finds step {steps[0]} to go on from, process {other} step {steps[other]} (0: none). "
            f"Put train.output on a folder that all machines share, or copy {folder} to each of them"
        )


def load_weights(model: HandModel, found: checkpoint.Checkpoint) -> None:
    """Put a checkpoint's weights into the model, before it is sharded.

    Raises:
        CheckpointError: they are of another network.
    """
    with _fitting(found):
        model.load_state_dict(found.tensors["model"])


def load_rest(
    found: checkpoint.Checkpoint,
    model: HandModel,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer,
    accelerator: Accelerator,
    means: RunningMeans,
) -> None:
    """Put back everything but the weights.

    Raises:
        CheckpointError: it does not fit this network.
    """
    with _fitting(found):
        load_optimizer_tensors(optimizer, model, found.tensors["optimizer"])
        if ema is not None:
            ema.load(found.tensors["ema"])
    if accelerator.scaler is not None and found.state.get("scaler"):
        accelerator.scaler.load_state_dict(found.state["scaler"])
    means.load(found.state.get("log") or {}, accelerator.device, accelerator.num_processes)


@contextmanager
def _fitting(found: checkpoint.Checkpoint) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, KeyError, ValueError) as error:
        raise checkpoint.CheckpointError(f"{found.path} does not fit this model: {error}") from None


def check_same_run(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue a run under settings that would make it another run; say where it will not be quite the same,
    as on a machine that computes in another type.

    Raises:
        ConfigError: naming every setting that differs.
    """
    before, now = flatten(old), flatten(new)
    differ = [key for key in sorted(before.keys() & now.keys()) if before[key] != now[key]]
    for key in (key for key in differ if key in WARNED and now[key] != "auto"):
        logger.warning("%s: the run began with %s=%s and continues with %s", path.parent, key, before[key], now[key])
    changed = [
        f"{key}: {before[key]!r} -> {now[key]!r}"
        for key in differ
        if not any(key == k or key.startswith(k + ".") for k in (*MAY_CHANGE, *WARNED))
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
