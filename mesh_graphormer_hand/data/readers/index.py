"""Indexes of large data sets: JSON files read record by record, and numpy arrays that stay on the disk.

The official label files of some data sets are gigabytes of JSON, several times that as Python objects. They are read
once, one record at a time, into flat arrays; every later start maps those arrays into memory and reads what it needs.

    ROOT/.mesh_graphormer_hand/NAME-KEY/index.json     shapes and types; KEY: a hash of the sources' names, sizes, times
    ROOT/.mesh_graphormer_hand/NAME-KEY/ARRAY.bin      raw numbers, little-endian, row after row

Nothing in these files is executed. Where ROOT cannot be written to, the user's cache folder is taken instead.
"""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ... import json_stream
from ...config import ConfigError
from ..images import DataError

INDEX_VERSION = 2  # of the files that are written here: raise it when their meaning changes
INDEX_FOLDER = ".mesh_graphormer_hand"
logger = logging.getLogger(__name__)


def json_items(path: Path, depth: int) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """See `json_stream.json_items`.

    Raises:
        DataError: no such file, not JSON, or cut short; names the file and the place.
    """
    try:
        yield from json_stream.json_items(path, depth)
    except json_stream.JsonError as error:
        raise DataError(str(error)) from None


def read_json(path: Path) -> Any:
    """All of a JSON file. Raises what `json_items` raises."""
    return next(json_items(path, 0))[1]


class IndexWriter:
    """Collects the arrays of an index, rows at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._files, self._meta, self.extra = folder, {}, {}, {}

    def append(self, name: str, rows: Any, dtype: str) -> None:
        """More rows of the array `name`, whose type and row shape never change."""
        rows = np.ascontiguousarray(rows, dtype=dtype)
        meta = self._meta.setdefault(name, {"dtype": np.dtype(dtype).str, "shape": [0, *rows.shape[1:]]})
        if [*rows.shape[1:]] != meta["shape"][1:]:
            raise ValueError(f"index array {name}: rows of shape {rows.shape[1:]} after {meta['shape'][1:]}")
        if name not in self._files:
            self._files[name] = (self.folder / f"{name}.bin").open("wb")
        self._files[name].write(rows.tobytes())
        meta["shape"][0] += len(rows)

    def append_text(self, name: str, texts: Sequence[str]) -> None:
        """More texts of the list `name`."""
        encoded = [text.encode() for text in texts]
        start = self.extra.setdefault(f"{name}.bytes", 0)
        ends = start + np.cumsum([len(e) for e in encoded], dtype=np.int64)
        self.append(f"{name}.ends", ends, "<i8")
        self.append(f"{name}.text", np.frombuffer(b"".join(encoded), np.uint8), "u1")
        self.extra[f"{name}.bytes"] = int(ends[-1]) if len(ends) else start

    def read(self, name: str) -> np.ndarray:
        """What has been written of an array so far."""
        if name not in self._meta:
            return np.zeros(0)
        self._files[name].flush()
        return _map(self.folder, name, self._meta[name])

    def close(self) -> None:
        """Write what describes the arrays; only then is the index whole."""
        for file in self._files.values():
            file.close()
        text = json.dumps({"arrays": self._meta, "extra": self.extra})
        (self.folder / "index.json").write_text(text, encoding="utf-8")

    def abandon(self) -> None:
        """Drop everything."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Index:
    """Arrays on the disk by name. A pickle of it holds the folder's name only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self._meta, self.extra = meta["arrays"], meta["extra"]
        self._arrays: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = _map(self.folder, name, self._meta[name])
        return self._arrays[name]

    def __contains__(self, name: str) -> bool:
        return name in self._meta

    def text(self, name: str, row: int) -> str:
        """One text of a list."""
        ends = self[f"{name}.ends"]
        return bytes(self[f"{name}.text"][int(ends[row - 1]) if row else 0 : int(ends[row])]).decode()

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])


def _map(folder: Path, name: str, meta: dict[str, Any]) -> np.ndarray:
    """
    Raises:
        DataError: the index is damaged, or asks for anything but numbers (objects would be addresses in memory).
    """
    path = folder / f"{name}.bin"
    try:
        shape, dtype = tuple(meta["shape"]), np.dtype(meta["dtype"])
        if dtype.kind not in "biuf":
            raise ValueError(f"numbers of type {dtype}")
        return np.memmap(path, mode="r", dtype=dtype, shape=shape) if np.prod(shape) else np.zeros(shape, dtype)
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} is a damaged index ({error}); delete its folder, it is made anew") from None


def cached_index(
    root: Path, cache: str, name: str, sources: Iterable[Path], build: Callable[[IndexWriter], None], about: str = ""
) -> Index:
    """The index `name` of the label files `sources`, from the cache or made now by `build`.

    Args:
        root: the data set's folder; the index lies in it, unless `cache` names another folder for indexes.
        about: options that change what `build` writes.

    Raises:
        DataError: a source is missing, cannot be read or is laid out otherwise, or no folder can be written to.
    """
    sources = list(sources)
    for source in sources:
        if not source.is_file():
            raise DataError(f"{source}: no such file; is root={root} the folder of the data set as it is unpacked?")
    stats = [(str(s.relative_to(root)), s.stat().st_size, s.stat().st_mtime_ns) for s in sources]
    key = hashlib.sha256(json.dumps([INDEX_VERSION, name, about, stats, sys.byteorder]).encode()).hexdigest()[:16]
    folders = _cache_folders(root, cache)
    for place in folders:
        if (place / f"{name}-{key}" / "index.json").is_file():
            return Index(place / f"{name}-{key}")
    scratch = _writable(folders, f"{name}-{key}.{os.getpid()}")
    logger.info("reading the labels of %s once, into %s", root, scratch.parent)
    writer = IndexWriter(scratch)
    collecting = gc.isenabled()
    gc.disable()  # JSON makes millions of lists and no cycles: looking for these takes a third of the time
    try:
        build(writer)
        writer.close()
    except ConfigError:
        writer.abandon()
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        writer.abandon()
        raise DataError(f"{_named(sources)}: no label file of {name}: {type(error).__name__}: {error}") from error
    except BaseException:
        writer.abandon()
        raise
    finally:
        if collecting:
            gc.enable()
    final = scratch.parent / f"{name}-{key}"
    try:
        scratch.rename(final)
    except OSError:  # another process was faster
        shutil.rmtree(scratch, ignore_errors=True)
    return Index(final)


def _named(sources: list[Path]) -> str:
    return " or ".join(str(source) for source in sources) or "one of its files"


def _cache_folders(root: Path, cache: str) -> list[Path]:
    """Where an index may lie, best first."""
    mark = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    if cache:
        return [Path(cache).expanduser() / mark]
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return [root / INDEX_FOLDER, home / INDEX_FOLDER.strip(".") / mark]


def _writable(folders: list[Path], name: str) -> Path:
    """A new folder in the first place that can be written to."""
    problem: OSError | None = None
    for place in folders:
        try:
            (place / name).mkdir(parents=True)
        except OSError as error:
            problem = error
        else:
            return place / name
    tried = " and ".join(str(p) for p in folders)
    raise DataError(f"no index can be written to {tried}: {problem}; name a folder for it with cache=DIR")


def require(path: Path, rows: int, wanted: int, what: str) -> None:
    """Refuse a wrong count.

    Raises:
        DataError: `rows` is not `wanted`.
    """
    if rows != wanted:
        raise DataError(f"{path} has {rows} entries, {what} has {wanted}; files of two versions, or one is cut short")


def array(value: object, shape: tuple[int, ...], where: str) -> Float[np.ndarray, "..."]:
    """A label as float64.

    Raises:
        DataError: it is no array of numbers of this shape.
    """
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where} should be {' x '.join(map(str, shape))} numbers") from None
    if found.size == np.prod(shape) and found.ndim > len(shape):
        found = found.reshape(shape)  # singletons: 42 x 1, 1 x 61
    if found.shape != shape:
        raise DataError(f"{where} has shape {list(found.shape)}, it should be {list(shape)}")
    return found


def image_size(entry: dict) -> tuple[int, int]:
    """Width and height that an entry of COCO's `images` gives, px; 0, 0: it does not say."""
    return int(entry.get("width") or 0), int(entry.get("height") or 0)
