"""Batches from worker processes, in a given order: which batch comes when never depends on the number of workers.

Workers start from a fork server: the training process has threads (and maybe a GPU) by then, and a process with
threads should not be forked. They render with one thread each, and leave Ctrl-C and SIGTERM to the training process,
which ends them itself: an error in one of them is handed over and raised there, and its exit kills who is left.
A GPU without worker processes is fed by a thread, so that it works while the next batches are prepared.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import multiprocessing.process
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from ..contracts import HandBatch
from .freed_memory import keep_freed_memory

PREFETCH = 2  # batches that every worker, or the thread, keeps ready
# modules that the fork server imports once
PRELOADED = ["torch", "torch.utils.data", "numpy", "mesh_graphormer_hand.contracts"]
MEMORY_HINT = "If memory is short: fewer data.workers (0: none), or more shared memory (docker run --shm-size=8g)."


class WorkerError(RuntimeError):
    """A process that prepares batches died."""


class Batches(Protocol):
    """Anything that turns an index into a batch: `data.stream.Stream`, `SequentialBatches`."""

    def __getitem__(self, index: int) -> HandBatch: ...


class Samples(Protocol):
    """What evaluation needs of a data set (`data.base.HandDataset`)."""

    def __len__(self) -> int: ...

    def load(self, indices: list[int], device: str = "cpu") -> HandBatch: ...


class SequentialBatches:
    """A data set cut into batches of consecutive samples."""

    def __init__(self, dataset: Samples, batch_size: int, samples: int = 0) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.samples = min(samples, len(dataset)) if samples > 0 else len(dataset)

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __getitem__(self, index: int) -> HandBatch:
        start = index * self.batch_size
        return self.dataset.load(list(range(start, start + self.size(index))))

    def size(self, index: int) -> int:
        """How many samples batch `index` has."""
        return min(self.batch_size, self.samples - index * self.batch_size)


class LockedSource:
    """A source behind a lock: several threads may take batches from it, one at a time."""

    def __init__(self, source: Batches) -> None:
        self.source, self.lock = source, threading.Lock()

    def __getitem__(self, index: int) -> HandBatch:
        with self.lock:
            return self.source[index]

    def cut(self, micro_batches: int) -> None:
        """Split batches anew (`data.stream.Stream.cut`)."""
        with self.lock:
            self.source.cut(micro_batches)


def load(source: Batches, indices: Sequence[int], workers: int, device: torch.device) -> Iterator[HandBatch]:
    """`source[i]` for every i of `indices`, in order, moved to `device`, prepared by `workers` processes (0: by this
    one; for a GPU by a thread of it, so a source has to draw its random numbers from generators of its own).

    Close the iterator to stop them early.

    Raises:
        WorkerError: a process died. What a data set raises in a process or thread is raised here.
    """
    workers = min(workers, len(indices))
    if workers > 0:
        return _from_processes(source, indices, workers, device)
    if device.type == "cuda":
        return _from_thread(source, indices, device)
    return (source[index].to(device) for index in indices)


def _from_processes(source: Batches, indices: Sequence[int], workers: int, device: torch.device) -> Iterator[HandBatch]:
    options: dict[str, Any] = {
        "multiprocessing_context": process_context(PRELOADED),
        "prefetch_factor": PREFETCH,
    }
    options |= {"worker_init_fn": _start_worker, "pin_memory": device.type == "cuda"}
    loader = DataLoader(_CatchErrors(source), batch_size=None, sampler=indices, num_workers=workers, **options)
    others = set(multiprocessing.active_children())
    coming = iter(loader)
    mine = set(multiprocessing.active_children()) - others
    _workers.update(mine)
    try:
        for batch in coming:
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch.to(device)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(f"{' '.join(str(error).split())} {MEMORY_HINT}") from error
    finally:
        coming._shutdown_workers()  # now: an error's traceback would keep the iterator, and so the workers, alive
        _kill(mine)
        _workers.difference_update(mine)


@dataclass(frozen=True)
class _Failure:
    """What a worker hands over instead of a batch."""

    error: Exception


class _CatchErrors:
    """A source whose errors are handed over: DataLoader would raise them from within, as text in another's words."""

    def __init__(self, source: Batches) -> None:
        self.source = source

    def __getitem__(self, index: int) -> HandBatch | _Failure:
        try:
            return self.source[index]
        except Exception as error:
            return _Failure(_portable(error))


def _portable(error: Exception) -> Exception:
    """The error with its traceback as a note; a WorkerError of its words where it cannot go to another process."""
    error.add_note("in a process that prepares batches:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return WorkerError(f"a process that prepares batches failed: {type(error).__name__}: {error}")
    return error


_workers: set[multiprocessing.process.BaseProcess] = set()  # that are alive, of all iterators


@atexit.register  # before multiprocessing's own, which sends them SIGTERM and waits
def _kill_workers() -> None:
    _kill(_workers)


def _kill(processes: Iterable[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        process.kill()


def _from_thread(source: Batches, indices: Sequence[int], device: torch.device) -> Iterator[HandBatch]:
    """One thread, so that batches come in order; it is up to PREFETCH of them ahead of who takes them."""
    pool, coming = ThreadPoolExecutor(1, "batches"), deque[Future[HandBatch]]()

    def prepare(index: int) -> HandBatch:
        return source[index].to(device)

    try:
        for index in indices:
            coming.append(pool.submit(prepare, index))
            if len(coming) > PREFETCH:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:  # all taken, closed or failed: no other batch is begun, and the present one is waited for
        pool.shutdown(cancel_futures=True)


def worker_count(asked: int) -> int:
    """`data.workers`, where -1 becomes half of the cores, as a divisor of 8 (see `data.stream` for why)."""
    return asked if asked >= 0 else max(n for n in (1, 2, 4, 8) if n == 1 or n <= cores() // 2)


def spare_threads(workers: int) -> int:
    """The cores that `workers` single-threaded processes leave over, at least one."""
    return max(1, cores() - workers)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_context(preload: list[str]) -> multiprocessing.context.BaseContext:
    """How to start processes: from a fork server that has imported `preload`, or anew where a system has no fork."""
    context = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
    if hasattr(context, "set_forkserver_preload"):
        context.set_forkserver_preload(preload)
    return context


def prepare_process(ignored: Iterable[signal.Signals]) -> None:
    """Say in a process of ours that it ends with the one that started it, and leaves `ignored` to that one."""
    keep_freed_memory()
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _start_worker(worker: int) -> None:
    prepare_process((signal.SIGINT, signal.SIGTERM))


def _end_with_parent() -> None:
    """Torch's own watch looks at the fork server, which waits for its workers: killed, training would leave both."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
