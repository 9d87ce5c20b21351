"""What the console commands share: one clear line for expected errors, logging that does not tear a progress bar."""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
PACKAGE = __package__.partition(".")[0]
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of a disk: full, over a quota, read-only
FAILED, INTERRUPTED = 2, 130  # exit codes


def run(command: Callable[[], int | None]) -> int:
    """Run a command; errors that the package or the file system raise on purpose become one line on stderr, exit 2."""
    try:
        return command() or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not expected(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return FAILED


def expected(error: BaseException) -> bool:
    """Whether the error's own message is what a user needs: our own classes, and the file system's."""
    ours = type(error).__module__.partition(".")[0] == PACKAGE
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return ours or isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError)


class BarHandler(logging.Handler):
    """Writes log lines above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def log_to_terminal() -> None:
    """Show the package's own messages on stderr, and warnings of others."""
    handler = BarHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(PACKAGE).setLevel(logging.INFO)


def only_warnings() -> None:
    """Leave progress to another process."""
    logging.getLogger(PACKAGE).setLevel(logging.WARNING)


def bar(items: Iterable[T], total: int | None, unit: str) -> Iterator[T]:
    """The items under a progress bar on stderr, where that is a terminal and there are several."""
    if total == 1:
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit=unit, disable=None, dynamic_ncols=True, file=sys.stderr))
