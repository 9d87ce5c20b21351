"""Files that are whole or not there: written under another name and moved, locked, and read without executing them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import numpy as np


class ArchiveError(ValueError):
    """An .npz file that is damaged or holds something else than arrays; the message says why, not where."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name to write under, with the ending of `path`. What was written takes the place of `path` in one move at the
    end of the `with`; after an error nothing is left of it, and what was there before stays."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing_{os.getpid()}_{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def sha256(path: Path) -> str:
    """The check sum of a file's content, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lock(path: Path) -> TextIO | None:
    """The file, made if it is not there and locked until it is closed or the process ends, however it ends; None:
    another process has it. Systems and file systems without locks never say no."""
    file = path.open("a+", encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except (ImportError, OSError):
        pass
    return file


def read_arrays(source: str | Path | BufferedIOBase, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, of `names` those that are there, by default all; pickled objects are refused,
    not executed.

    Raises:
        FileNotFoundError: no such file.
        ArchiveError: it cannot be read, is damaged or holds something else.
    """
    import numpy as np

    try:
        with np.load(source, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if names is None or name in names}
    except FileNotFoundError:
        raise
    except Exception as error:  # of zip, zlib, numpy and the memory that a damaged header asks for
        raise ArchiveError(str(error) or type(error).__name__) from None
