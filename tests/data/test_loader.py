"""engine.loader: batches from a thread come in order, a few ahead, and stop when nobody takes them; errors end it."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import pytest
import torch

from helpers.places import ROOT
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.data import loader

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

    source = loader.LockedSource(Slow())
    asking = [threading.Thread(target=source.__getitem__, args=(i,)) for i in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert together == [1] * 8


PROGRAM = """
import multiprocessing
import sys

import torch

from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandPrediction, HandTargets
from mesh_graphormer_hand.data import loader
from mesh_graphormer_hand.evaluation import evaluate


class Samples:
    def __len__(self):
        return 64

    def load(self, indices, device="cpu"):
        if "worker" in sys.argv and 2 in indices:
            raise ZeroDivisionError("nobody thought of this")
        return HandBatch(HandInputs(), HandTargets(), [str(i) for i in indices])


def broken(inputs):
    raise ZeroDivisionError("nobody thought of this")


if __name__ == "__main__":
    if "open" not in sys.argv:  # a fork server would import torch once more
        multiprocessing.get_context = lambda method=None, get=multiprocessing.get_context: get("fork")
    if "open" in sys.argv:  # the iterator is left to the traceback
        for batch in loader.load(loader.SequentialBatches(Samples(), 1), range(64), 2, torch.device("cpu")):
            broken(batch)
    evaluate.evaluate({"one": broken} if "main" in sys.argv else {}, Samples(), batch_size=1, workers=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["worker", "main", "open"])
def test_an_error_ends_the_process_with_its_own_message(tmp_path, where):
    """Not a hang: workers ignore SIGTERM, and the error's traceback holds their iterator."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), where]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1 and "ZeroDivisionError: nobody thought of this" in done.stderr
    assert ("in a process that prepares batches" in done.stderr) == (where == "worker")


def test_an_error_that_cannot_travel_keeps_its_words():
    class Local(Exception):
        pass

    assert type(loader._portable(ValueError("x"))) is ValueError
    lost = loader._portable(Local("what it said"))
    assert type(lost) is loader.WorkerError and "Local: what it said" in str(lost)
