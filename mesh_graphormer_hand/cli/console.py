"""What the console commands share: user errors as one line, logging above a progress bar, names for --help."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from .. import paths
from ..config import ConfigError

T = TypeVar("T")
PACKAGE_NAME = __package__.partition(".")[0]
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # errors of a disk: full, over a quota, read-only
FAILED, INTERRUPTED = 2, 130  # exit codes


def run(command: Callable[[], int | None]) -> int:
    """Run a command and return its exit code; a user error becomes one line on stderr and exit code 2."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        code = command() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has ended, as in `| head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if not is_user_error(error):
            raise
        print(f"error: {format_error(error)}", file=sys.stderr)
        return FAILED


def is_user_error(error: BaseException) -> bool:
    """Whether the error's own message is what a user needs: our own classes, and the file system's."""
    ours = type(error).__module__.partition(".")[0] == PACKAGE_NAME
    files = isinstance(error, OSError) and (error.errno in DISK_ERRORS or error.filename is not None)
    return ours or files or isinstance(error, FileNotFoundError | NotADirectoryError)


def format_error(error: BaseException) -> str:
    """An error's message on one line; characters of a file's name that control a terminal are escaped."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    text = re.sub(r"\n\s+", " ", text.strip())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def refuse_renamed(parser: argparse.ArgumentParser, table: Mapping[str, str]) -> None:
    """Answer old options (`table`: old -> new) with the new one's name, where argparse would guess or find none."""

    class Refuse(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
            parser.error(f"{self.option_strings[0]} is now {table[self.option_strings[0]]}")

    for old in table:
        parser.add_argument(old, action=Refuse, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


NETWORKS = ("[!v]*.yaml", "baselines/*.yaml", "weights/*.yaml")  # patterns of configs: all but the generator's


def shipped_configs(*patterns: str) -> str:
    """The names of shipped configs, for --help."""
    found = {p.relative_to(paths.CONFIGS).with_suffix("") for pattern in patterns for p in paths.CONFIGS.glob(pattern)}
    return ", ".join(sorted(p.as_posix() for p in found))


def shipped_weights() -> str:
    """The names of shipped weights, for --help."""
    return ", ".join(sorted(p.parent.name for p in paths.WEIGHTS.glob("*/config.json")))


def plugins(folder: str) -> str:
    """The names of the plug-ins in a folder of the package, for --help: importing their package may load torch."""
    names = sorted(p.stem for p in (paths.PACKAGE / folder).glob("*.py") if not p.stem.startswith("_"))
    return ", ".join(name for name in names if name != "base")


def check_device(name: str) -> None:
    """
    Raises:
        ConfigError: a device that is missing or does not compute; the message lists the ones that do.
    """
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        why = str(error).splitlines()[0]
        if why.startswith("Could not run"):  # an operator of torch, at length
            why = "this machine has none, or this build of torch does not know it"
        more = [torch.accelerator.current_accelerator().type] if torch.accelerator.is_available() else []
        raise ConfigError(f"--device {name}: {why} (usable here: {', '.join(['cpu', *more])})") from None


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
    logging.getLogger(PACKAGE_NAME).setLevel(logging.INFO)


def only_warnings() -> None:
    """Hide progress messages: another process shows them."""
    logging.getLogger(PACKAGE_NAME).setLevel(logging.WARNING)


def bar(items: Iterable[T], total: int | None, unit: str) -> Iterator[T]:
    """The items under a progress bar on stderr, where that is a terminal and there are several."""
    if total == 1:
        return iter(items)
    from tqdm import tqdm

    return iter(tqdm(items, total=total, unit=unit, disable=None, dynamic_ncols=True, file=sys.stderr))
