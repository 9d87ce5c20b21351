"""Checkpoints: folders of safetensors and JSON with a manifest of checksums. Nothing in them is ever executed.

    step_000500/
      model.safetensors      weights
      ema.safetensors        averaged weights, where training keeps them
      optimizer.safetensors  optimiser state, one tensor per "<slot>/<parameter name>"
      state.json             step, config, schedule, loss scale, versions, git commit, fingerprints
      manifest.json          format, SHA-256 and size of every file above

A checkpoint is written under a temporary name, flushed to the disk and renamed, so that a folder called step_* is
whole unless the disk broke it later; checksums are verified before anything in it is parsed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import files

logger = logging.getLogger(__name__)

FORMAT = 1
TENSOR_GROUPS = ("model", "ema", "optimizer")
SPARE_BYTES = 16 * 2**20  # bytes that must stay free on the disk
STEP = re.compile(r"step_(\d{6,})")
WRITING, REPLACED = ".writing_", ".replaced_"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read or written; the message names the file and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds, in memory."""

    path: Path
    step: int
    tensors: dict[str, dict[str, Tensor]]  # group ("model", "ema", "optimizer") -> name -> tensor on the CPU
    state: dict[str, Any]


def save(
    root: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Shaped[Tensor, "..."]]],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write step_<step> under `root` and drop all but the newest `keep` checkpoints up to it.

    Later ones stay, uncounted: they are broken, or training would have gone on from them.

    Raises:
        CheckpointError: the disk is full or refuses; checkpoints already there stay whole.
    """
    target = root / f"step_{step:06d}"
    temporary = root / f"{WRITING}{target.name}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        _need_space(root, sum(t.nbytes for group in tensors.values() for t in group.values()))
        temporary.mkdir()
        for group, named in tensors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in named.items()}, temporary / f"{group}.safetensors")
        files.write_json(temporary / "state.json", {"step": step, **state})
        files.write_json(temporary / "manifest.json", {"format": FORMAT, "files": _checksums(temporary)})
        _flush(*temporary.iterdir(), temporary)
        _rename(temporary, target)
        _flush(root)  # the new one has its name on the disk before an old one goes
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"cannot write checkpoint {target}: {error}. Earlier checkpoints are untouched."
        ) from None
    for old in [path for path in paths(root) if _step(path) <= step][: -max(keep, 1)]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load(path: Path) -> Checkpoint:
    """Verify and read one checkpoint.

    Raises:
        CheckpointError: a file is missing or changed, or the format is of a newer program.
    """
    verify(path)
    state = _read_json(path / "state.json")
    names = [group for group in TENSOR_GROUPS if (path / f"{group}.safetensors").is_file()]
    try:
        tensors = {group: load_file(path / f"{group}.safetensors") for group in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Checkpoint(path, int(state["step"]), tensors, state)


def latest(root: Path) -> Checkpoint | None:
    """The newest checkpoint under `root` that is whole, or None where there is none at all.

    A broken one is named in a warning and the one before it is used.

    Raises:
        CheckpointError: there are checkpoints, and every one is broken.
    """
    found = paths(root)
    for path in reversed(found):
        try:
            return load(path)
        except CheckpointError as error:
            logger.warning("broken checkpoint left aside: %s", error)
    if found:
        raise CheckpointError(f"no whole checkpoint among the {len(found)} in {root}; start over with --fresh")
    return None


def paths(root: Path) -> list[Path]:
    """The checkpoint folders under `root`, oldest first."""
    found = [p for p in root.glob("step_*") if p.is_dir() and STEP.fullmatch(p.name)]
    return sorted(found, key=_step)


def verify(path: Path) -> None:
    """Compare every file of a checkpoint with its manifest.

    Raises:
        CheckpointError: naming the first file that is missing, torn or changed.
    """
    listed = _manifest(path)
    if not {"state.json", "model.safetensors"} <= set(listed):
        raise CheckpointError(f"{path / 'manifest.json'} lists no state.json or no model.safetensors")
    for name, entry in listed.items():
        _check_file(path, name, entry)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step_"))


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    manifest = _read_json(path / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {manifest.get('format')!r}; this program reads format {FORMAT}")
    listed, known = manifest.get("files"), {"state.json", *(f"{group}.safetensors" for group in TENSOR_GROUPS)}
    if not isinstance(listed, dict) or not set(listed) <= known:
        raise CheckpointError(f"{path / 'manifest.json'} lists files that no checkpoint has")
    return listed


def _check_file(path: Path, name: str, entry: dict[str, Any]) -> None:
    file = path / name
    if not file.is_file():
        raise CheckpointError(f"{file} is missing")
    if file.stat().st_size != entry.get("bytes"):
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes instead of {entry.get('bytes')}")
    if files.sha256(file) != entry.get("sha256"):
        raise CheckpointError(f"{file} does not match its checksum")


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    return {f.name: {"sha256": files.sha256(f), "bytes": f.stat().st_size} for f in sorted(folder.iterdir())}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file} should hold a mapping")
    return value


def _need_space(root: Path, size: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size + SPARE_BYTES:
        raise OSError(f"the disk is full: it takes {size / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free")


def _flush(*paths: Path) -> None:
    """Wait until files and folders are on the disk, where a system can tell (Windows opens no folders)."""
    for path in paths if os.name == "posix" else ():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename(temporary: Path, target: Path) -> None:
    aside = target.with_name(REPLACED + target.name)
    if target.exists():  # a broken one of the same step
        target.rename(aside)
    temporary.rename(target)
    shutil.rmtree(aside, ignore_errors=True)


def _sweep(root: Path) -> None:
    for prefix in (WRITING, REPLACED):
        for leftover in root.glob(f"{prefix}step_*"):
            shutil.rmtree(leftover, ignore_errors=True)
