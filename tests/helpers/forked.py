"""Processes forked from a test, to be killed at any moment."""

import threading

from tqdm import tqdm


def part_from_parent() -> None:
    """Call first in the child. tqdm's lock is a semaphore that forked processes share: a child that is killed while it
    holds it would stop every later progress bar of the test process."""
    tqdm.set_lock(threading.RLock())
