"""Stopwatch: calls timed in turns, so that what else a machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}  # cpu: all threads' time, whatever else the machine does


def in_turns(timers: Mapping[str, Callable[[], float]], rounds: int, warmup: int = 0) -> dict[str, list[float]]:
    """The seconds that each of `timers` returns, called once a round, after `warmup` rounds that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    for number in range(warmup + rounds):
        for name, timer in timers.items():
            took = timer()
            if number >= warmup:
                seconds[name].append(took)
    return seconds


def middle(seconds: Sequence[float]) -> tuple[float, float]:
    """The median of some timings and their spread, as Timing has them."""
    median = statistics.median(seconds)
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [median, median, median]
    return median, (quartiles[2] - quartiles[0]) / median


def stopwatch(call: Callable[[], object], device: str = "cpu", clock: str = "wall") -> float:
    """Seconds that a call takes, the device's own work included."""
    now = CLOCKS[clock]
    wait(device)
    start = now()
    call()
    wait(device)
    return now() - start


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
