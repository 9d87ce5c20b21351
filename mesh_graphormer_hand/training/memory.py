"""How much memory there is and is taken, and what to do where it is too little."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path

import torch

MIB = 2**20
UNKNOWN_BYTES = 8 * 2**30  # bytes, where a system does not tell
# of a control group, by the version of its interface: limit, use, and what of the use is only cached files
CONTROL_GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def total_bytes(device: torch.device) -> int:
    """All memory of the device; a CPU's is that of the machine, or of the control group that this process is in."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else UNKNOWN_BYTES
    return min([machine, *(limit for limit, _ in control_groups())])


def available_bytes(device: torch.device) -> int:
    """What this process may still take of the device's memory without taking it from others."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    meminfo = Path("/proc/meminfo")
    lines = meminfo.read_text(encoding="ascii").splitlines() if meminfo.is_file() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*(free or [total_bytes(device)]), *(max(limit - used, 0) for limit, used in control_groups())])


def held_bytes(device: torch.device) -> int:
    """What this process holds of the device's memory; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0


def control_groups(
    mine: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[tuple[int, int]]:
    """Limit and use, bytes, of each control group with a limit that this process is in, the groups around included."""
    found = []
    for line in mine.read_text(encoding="utf-8").splitlines() if mine.is_file() else []:
        _, kind, path = line.split(":", 2)
        if kind not in CONTROL_GROUPS:
            continue
        limit, use, cached = CONTROL_GROUPS[kind]
        top = root / kind
        inside = [top / path.lstrip("/"), *(top / path.lstrip("/")).parents]
        for folder in inside[: len(inside) - len(top.parents)]:
            text = _read(folder / limit)
            if text.isdecimal():  # not "max"; an interface of version 1 says some 2**63
                counts = dict(row.split() for row in _read(folder / "memory.stat").splitlines())
                found.append((int(text), int(_read(folder / use) or 0) - int(counts.get(cached, 0))))
    return found


def _read(file: Path) -> str:
    return file.read_text(encoding="ascii").strip() if file.is_file() else ""


def peak_memory(call: Callable[[], object], device: str = "cpu") -> float | None:
    """MiB that a call needs at its peak above what is held before it; None where the system does not tell.

    On a GPU torch counts; on a CPU Linux does, looked at every few milliseconds.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    here = torch.device("cpu")
    if not held_bytes(here):
        call()
        return None
    largest, done = 0, threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.002):
            largest = max(largest, held_bytes(here))

    before = held_bytes(here)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(largest, held_bytes(here), before) / MIB - before / MIB


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or on a CPU whose memory is limited."""
    text = str(error)
    allocator = "DefaultCPUAllocator" in text or "not enough memory" in text or "out of memory" in text.lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (isinstance(error, RuntimeError) and allocator)


def fitting_part(size: int, attempt: Callable[[int], None]) -> int:
    """The largest of size / 2, size / 4, ... samples for which `attempt` (a pass of that many) has memory; 0: none."""
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


def advice(batch_size: int, processes: int, accumulate: int, fits: int) -> str:
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
