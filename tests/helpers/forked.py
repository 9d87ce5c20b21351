"""Processes forked from a test: they start without imports, and may be killed at any moment."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm


def fork(work: Callable[[], int], log: Path, group: bool = False, **environment: str) -> int:
    """Run `work` in a forked process, whose exit code is what `work` returns.

    Args:
        work: what the process does.
        log: file to which its stdout and stderr are appended.
        group: make the process the leader of a process group of its own.
        environment: variables that the process sets before `work`.

    Returns:
        The id of the process.
    """
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        part_from_parent()
        if group:
            os.setsid()
        os.environ.update(environment)
        file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
        logging.getLogger().handlers.clear()  # of the test runner
        code = work()
    finally:
        os._exit(code)


def finish(process: int) -> int:
    """Wait for a forked process; its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ended(process: int) -> bool:
    """Whether a forked process has ended; `finish` can still be called."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def rank_environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torch.distributed.run sets in process `rank` of `processes` on one machine."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    return {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    """A TCP port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def part_from_parent() -> None:
    """Give a forked process state of its own. Call it first.

    tqdm's lock is a semaphore that forked processes share: a child that is killed while it holds the lock would stop
    every later progress bar of the test process. The fork server of the test process is nobody's parent here: worker
    processes are forked from the child itself, which has imported everything.
    """
    tqdm.set_lock(threading.RLock())
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method=None: context
