"""What a network costs: its parameters, the operations of a forward pass, and the time of a crop."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..contracts import HandInputs
from .stopwatch import in_turns, stopwatch

TIMING_ROUNDS, TIMING_WARMUP = 30, 3


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Parameters of each child, and of the model's own where it has any."""
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    own = sum(p.numel() for p in model.parameters(recurse=False))
    return {name: count for name, count in {**counts, "itself": own}.items() if count}


@torch.no_grad()
def forward_flops(model: nn.Module, inputs: HandInputs | Tensor) -> float:
    """Floating-point operations of a forward pass; a multiplication and an addition are two. Leaves `model` in
    evaluation mode."""
    model.eval()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # fused on a CPU, it is not counted
        model(inputs)
    return float(counter.get_total_flops())


def milliseconds(
    calls: Mapping[str, Callable[[], object]], threads: int = 1, device: str = "cpu", rounds: int = TIMING_ROUNDS
) -> dict[str, float]:
    """The median time (ms) of each call, all of them timed in turns on `threads` threads."""
    timers = {name: partial(stopwatch, call, device) for name, call in calls.items()}
    with torch.inference_mode(), _threads(threads):
        seconds = in_turns(timers, rounds, TIMING_WARMUP)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
