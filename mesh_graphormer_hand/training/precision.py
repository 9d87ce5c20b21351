"""Which type a device computes in: bfloat16 where it has units for it, float32 where bfloat16 would be emulated.

A processor's name does not say which: kernels for AVX-512 accept bfloat16 and compute it by way of float32, at a sixth
of the speed. So a CPU whose kernels accept it is measured for a few milliseconds, which also heeds ATEN_CPU_CAPABILITY
and ONEDNN_MAX_CPU_ISA. One thread is measured by its own CPU time: other processes on the machine do not count.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MIN_GAIN = 1.2  # times faster than float32 that bfloat16 should be: it costs digits
ROUNDS = 5  # of which the fastest counts


@dataclass(frozen=True)
class Choice:
    """The type that a device computes in, and why."""

    precision: str  # bf16 | fp32
    why: str

    @property
    def dtype(self) -> torch.dtype:
        """The same as torch calls it."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def choose(device: torch.device | str) -> Choice:
    """What `train.precision=auto` is on `device`; a process asks it once."""
    return _choose(torch.device(device).type)


@functools.cache
def _choose(kind: str) -> Choice:
    if kind == "cuda":
        computes = torch.cuda.is_bf16_supported(including_emulation=False)
        return Choice("bf16", "this GPU computes in it") if computes else Choice("fp32", "this GPU emulates bfloat16")
    if kind != "cpu":
        return Choice("fp32", f"nothing is known of bfloat16 on {kind}")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return Choice("fp32", "this processor has no bfloat16 units")
    gain = measured_gain()
    why = f"bfloat16 is {gain:.2g} times as fast as float32 here, by a product and a convolution"
    return Choice("bf16" if gain >= MIN_GAIN else "fp32", why)


@torch.no_grad()
def measured_gain() -> float:
    """How many times faster one thread of this CPU multiplies and convolves in bfloat16 than in float32, together."""
    matrix, image, weight = torch.rand(512, 512), torch.rand(4, 64, 32, 32), torch.rand(64, 64, 3, 3)
    image = image.to(memory_format=torch.channels_last)

    def work(
        a: Float[Tensor, "n n"], x: Float[Tensor, "b c h w"], w: Float[Tensor, "c c 3 3"]
    ) -> list[Callable[[], Tensor]]:
        return [lambda: a @ a, lambda: torch.conv2d(x, w, padding=1)]

    calls = [call for t in (torch.float32, torch.bfloat16) for call in work(matrix.to(t), image.to(t), weight.to(t))]
    fastest = [float("inf")] * len(calls)
    with one_thread():
        for _ in range(1 + ROUNDS):  # the first one also makes the kernels
            for i, call in enumerate(calls):
                start = time.thread_time()
                call()
                fastest[i] = min(fastest[i], time.thread_time() - start)
    return sum(fastest[:2]) / sum(fastest[2:])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with the calling thread alone inside the `with`, and with as many threads as before after it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
