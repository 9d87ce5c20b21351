"""How much memory there is, of a device and for this process."""

from __future__ import annotations

import os
from pathlib import Path

import torch

UNKNOWN = 8 * 2**30  # bytes, where a system does not tell
# of a control group, by the version of its interface: limit, use, and what of the use is only cached files
GROUPS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def total_bytes(device: torch.device) -> int:
    """All memory of the device; a CPU's is that of the machine, or of the control group that this process is in."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else UNKNOWN
    return min([machine, *(limit for limit, _ in groups())])


def available_bytes(device: torch.device) -> int:
    """What this process may still take of the device's memory without taking it from others."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    told = Path("/proc/meminfo")
    lines = told.read_text(encoding="ascii").splitlines() if told.is_file() else []
    free = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*(free or [total_bytes(device)]), *(max(limit - used, 0) for limit, used in groups())])


def held_bytes(device: torch.device) -> int:
    """What this process holds of the device's memory; 0 where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    statm = Path("/proc/self/statm")
    return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0


def groups(mine: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[tuple[int, int]]:
    """Limit and use, bytes, of each control group with a limit that this process is in, the groups around included."""
    found = []
    for line in mine.read_text(encoding="utf-8").splitlines() if mine.is_file() else []:
        _, kind, path = line.split(":", 2)
        if kind not in GROUPS:
            continue
        limit, use, cached = GROUPS[kind]
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
