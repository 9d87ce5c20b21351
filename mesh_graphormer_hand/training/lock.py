"""One training process at a time in a run's folder."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Self, TextIO

from .. import files

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

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = files.lock(self.path)
        if self.file is None:
            holder = self.path.read_text(encoding="utf-8").strip() or "another process"
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
