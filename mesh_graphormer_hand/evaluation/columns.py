"""Columns of a table of scores: data sets with options, as a command line names them, and the state of their files."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import config as configs


def parse_tests(texts: Iterable[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Heading -> the data set's name and options, of each --data; roots tell columns apart that nothing else does.

    Raises:
        ConfigError: an option without "=".
    """
    parsed = [parse_data(text) for text in dict.fromkeys(texts)]
    headings = [heading for heading, _ in parsed]
    return {
        heading if headings.count(heading) == 1 else f"{heading} root={raw.get('root', '')}": (name, raw)
        for heading, (name, raw) in parsed
    }


def parse_data(text: str) -> tuple[str, tuple[str, dict[str, Any]]]:
    """ "freihand:root=DIR,versions=[gs,hom]" -> its column's heading, and the data set's name and options. A heading of
    one's own stands before it: "my photos=folder:root=DIR".

    Raises:
        ConfigError: an option without "=".
    """
    title, equals, remainder = text.partition("=")
    title, text = (title.strip(), remainder) if equals and ":" not in title else ("", text)
    name, _, options = text.partition(":")
    parts = re.split(r",(?=\w[\w.]*=)", options.strip(",")) if options else []  # before a key: values may be lists
    shown = [part for part in parts if not part.startswith("root=")]
    return title or " ".join([name, *shown]), (name, configs.overrides_to_mapping(parts))


def data_state(raw: dict[str, Any]) -> str:
    """Which folder the option `root` names, and a check sum of the names, sizes and times of the files in it."""
    root = Path(str(raw.get("root", "")))
    if not raw.get("root") or not root.is_dir():
        return ""  # no files, or none that can be read: the data set itself tells of it
    digest = hashlib.sha256()
    for file in _files(root):
        about = file.stat()
        digest.update(os.fsencode(f"{os.path.relpath(file.path, root)}|{about.st_size}|{about.st_mtime_ns}\n"))
    return f"{root.resolve()}|{digest.hexdigest()}"


def _files(folder: Path | str) -> Iterator[os.DirEntry]:
    """All files below a folder, in one order, but hidden ones: among these are the indexes that we make ourselves."""
    with os.scandir(folder) as found:
        entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file():
            yield entry
