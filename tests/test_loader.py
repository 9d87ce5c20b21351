"""engine.loader: batches from a thread come in order, a few ahead, and stop when nobody takes them."""

import threading
import time
from dataclasses import dataclass

import pytest
import torch

from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.engine import loader

GPU = torch.device("cuda")


@dataclass(frozen=True)
class OnGpu(HandBatch):
    """A batch that is on the GPU already, wherever the tests run."""

    def to(self, device: torch.device, non_blocking: bool = True) -> HandBatch:
        assert device == GPU
        return self

    def pin_memory(self) -> HandBatch:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor': only dense CPU tensors can be pinned")


class Source:
    """Batch i has the key i; `broken` cannot be made."""

    def __init__(self, broken: int = -1) -> None:
        self.made, self.broken = [], broken

    def __getitem__(self, index: int) -> HandBatch:
        if index == self.broken:
            raise ValueError(f"batch {index} cannot be read")
        assert threading.current_thread() is not threading.main_thread()
        self.made.append(index)
        return OnGpu(HandInputs(), HandTargets(), [str(index)])


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("batches")]


def test_a_gpu_gets_batches_from_a_thread_in_order_and_unpinned():
    source = Source()
    batches = list(loader.load(source, range(3, 40, 4), 0, GPU))
    assert [b.keys for b in batches] == [[str(i)] for i in range(3, 40, 4)]
    assert source.made == list(range(3, 40, 4)) and not threads()
    assert list(loader.load(source, range(0), 0, GPU)) == []


def test_the_thread_is_a_few_batches_ahead_and_ends_with_its_iterator():
    source = Source()
    batches = loader.load(source, range(100), 0, GPU)
    next(batches)
    for taken in range(1, 4):
        deadline = time.monotonic() + 20
        while len(source.made) < taken + loader.PREFETCH and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert len(source.made) == taken + loader.PREFETCH
        next(batches)
    batches.close()
    assert not threads() and len(source.made) <= 4 + loader.PREFETCH


def test_what_a_source_raises_comes_after_the_batches_before_it():
    batches = loader.load(Source(broken=2), range(10), 0, GPU)
    assert [next(batches).keys for _ in range(2)] == [["0"], ["1"]]
    with pytest.raises(ValueError, match="batch 2 cannot be read"):
        next(batches)
    assert not threads()


def test_one_thread_at_a_time_asks_a_source():
    busy, together = [], []

    class Slow:
        def __getitem__(self, index: int) -> HandBatch:
            busy.append(index)
            together.append(len(busy))
            time.sleep(0.01)
            busy.pop()
            return HandBatch(HandInputs(), HandTargets(), [str(index)])

    source = loader.OneAtATime(Slow())
    asking = [threading.Thread(target=source.__getitem__, args=(i,)) for i in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert together == [1] * 8
