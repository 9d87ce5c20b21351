"""Files of a run's folder: replaced in one move, and written by one training process at a time."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any, TextIO

LOCK = ".lock"


class LockedError(RuntimeError):
    """Another process trains in this folder; the message names it."""


class RunLock:
    """Inside the `with`, no other process on a machine that sees this folder trains in it.

    The system drops the lock when the process ends, however it ends: a run that was killed can go on at once.

    Raises:
        LockedError: somebody holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK
        self.file: TextIO | None = None

    def __enter__(self) -> RunLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.path.open("a+", encoding="utf-8")
        if not _lock(self.file):
            self.file.seek(0)
            holder = self.file.read().strip() or "another process"
            self.file.close()
            raise LockedError(
                f"{self.path.parent} is being trained in by {holder}. Wait for it, end it, or give this run a folder "
                f"of its own with train.name=..."
            )
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {platform.node() or 'this machine'}\n")
        self.file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()  # and with it the lock; the file stays, since to remove it would race with the next holder


def _lock(file: TextIO) -> bool:
    """Take the lock without waiting; systems without fcntl have no such lock."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file under a temporary name, then rename."""
    temporary = path.with_name(f".writing_{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
