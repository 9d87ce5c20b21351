"""Stopwatch: several ways of doing one thing, in turns, so that what else a machine does falls on all of them alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.evaluation.stopwatch import in_turns, middle, stopwatch
from mesh_graphormer_hand.training.memory import peak_memory


@dataclass(frozen=True)
class Timing:
    """One way of doing it."""

    name: str
    seconds: float  # median of the rounds, for all `items` together
    spread: float  # of the rounds: (third quartile - first) / median
    items: int  # images (or what it is) a call
    ratio: float | None  # times faster than the baseline: median over rounds of the ratio in the same round
    memory_mib: float | None  # most memory above what was held before; None where it cannot be told
    note: str = ""  # such as how far its answers are from the baseline's
    peak: float | None = None  # share of the machine's matrix rate that it reaches
    waiting: float | None = None  # share of the time that it waits for data

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds


@dataclass(frozen=True)
class Case:
    """A call to time, and how many items it works on."""

    call: Callable[[], object]
    items: int = 1
    note: str = ""
    tells: bool = False  # the call returns its own seconds: of another process, whose memory is not known here


def multiplication(dtype: torch.dtype, device: str = "cpu") -> Case:
    """A product of square matrices, large enough for the machine's matrix rate; an item is an operation, of which a
    multiplication and an addition are two."""
    side = 8192 if device.startswith("cuda") else 2048
    a, b = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))
    return Case(partial(torch.mm, a, b), 2 * side**3)


def compare(
    cases: Mapping[str, Case],
    baseline: str | None = None,
    rounds: int = 7,
    warmup: int = 1,
    device: str = "cpu",
    clock: str = "wall",
) -> list[Timing]:
    """Time every case once a round, after `warmup` calls of each.

    Args:
        cases: by name.
        baseline: of the cases; ratios are against it, per item.
        rounds: at least 1.
        warmup: at least 1: the first call also tells the memory.
        device: that the calls compute on.
        clock: of `stopwatch.CLOCKS`.

    Raises:
        ConfigError: no rounds, or a baseline that is no case.
    """
    if rounds < 1 or warmup < 1:
        raise ConfigError(f"rounds ({rounds}) and warm-up calls ({warmup}) should be 1 or more")
    if baseline is not None and baseline not in cases:
        raise ConfigError(f"no case {baseline!r} to compare with (there are: {', '.join(cases)})")
    memory = {name: peak_memory(case.call, device) for name, case in cases.items()}
    timers = {n: c.call if c.tells else partial(stopwatch, c.call, device, clock) for n, c in cases.items()}
    seconds = in_turns(timers, rounds, warmup - 1)
    return [_timing(name, case, seconds, cases, baseline, memory[name]) for name, case in cases.items()]


def _timing(
    name: str,
    case: Case,
    seconds: Mapping[str, Sequence[float]],
    cases: Mapping[str, Case],
    baseline: str | None,
    memory: float | None,
) -> Timing:
    own = seconds[name]
    ratio = None
    if baseline is not None:
        per_item = case.items / cases[baseline].items
        ratio = statistics.median(b / s for b, s in zip(seconds[baseline], own, strict=True)) * per_item
    return Timing(name, *middle(own), case.items, ratio, None if case.tells else memory, case.note)


def table(title: str, timings: Sequence[Timing], unit: str = "image") -> str:
    """A Markdown table; milliseconds and rates are of one item."""
    head = f"| {title} | ms per {unit} | {unit}/s | times faster | MiB | |\n|---|---:|---:|---:|---:|---|"
    rows = []
    for t in timings:
        ratio = "" if t.ratio is None else f"{t.ratio:.2f}"
        memory = "" if t.memory_mib is None else f"{t.memory_mib:.0f}"
        rows.append(f"| {t.name} | {1e3 * t.seconds / t.items:.4g} | {t.rate:.4g} | {ratio} | {memory} | {t.note} |")
    return "\n".join([head, *rows])


def as_mapping(timing: Timing) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(timing), "rate": timing.rate}
