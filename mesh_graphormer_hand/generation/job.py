"""One job of writing: what is done, what is left, whose turn it is, and files that are never half there.

The blocks (aligned runs of indices) of a job are shared between any number of machines. Every file is written under a
temporary name and renamed; a block is done when its part is there, a group when the files that its parts make are.
A sample is a function of its index, so a block that is rendered twice has equal bytes.

    DIR/manifest.json         which job this is (README.md: the same for people)
    DIR/.generate/parts/      parts of the groups that are not complete
    DIR/.generate/0-of-2/     temporary files and the lock of shard 0/2; all of .generate goes when it is empty
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from .. import files
from ..config import ConfigError
from ..mano.hand import Hand
from .layouts import coco, folder, freihand, webdataset
from .layouts import multi_image as groups
from .layouts.base import Block, Encoding, Layout, WriteError

MANIFEST, CARD, STATE = "manifest.json", "README.md", ".generate"
LAYOUTS = {"webdataset": webdataset, "freihand": freihand, "folder": folder, "coco": coco, "groups": groups}
TITLES = {"frames": "virtual frames", "views": "moments of virtual hands", "sequences": "sequences of virtual hands"}
STAYS = "what is written so far stays: the same command goes on from there"


@dataclass(frozen=True)
class Shard:
    """Share `index` of `count` equal ones."""

    index: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def layout_named(name: str, encoding: Encoding, split: str, hand: Hand) -> Layout:
    """The layout `name`, a key of LAYOUTS."""
    return LAYOUTS[name].build(encoding, split, hand)


@dataclass(frozen=True)
class Store:
    """Writes into the folder of a job; workers get a copy."""

    root: Path
    shard: Shard

    @property
    def parts(self) -> Path:
        """The folder of the parts."""
        return self.root / STATE / "parts"

    @property
    def scratch(self) -> Path:
        """The folder of this shard's temporary files."""
        return self.root / STATE / f"{self.shard.index}-of-{self.shard.count}"

    def write(self, number: int, block: Block) -> None:
        """Write one block; its part comes last.

        Raises:
            WriteError: the disk is full, or the folder cannot be written to.
        """
        for path, content in block.files.items():
            self.put(self.root / path, content)
        self.put(self._part(number), block.part)

    def put(self, path: Path, content: bytes) -> None:
        """Write one file at once or not at all."""
        with self.sinks([path]) as (sink,):
            sink.write(content)

    @contextmanager
    def sinks(self, paths: list[Path]) -> Iterator[list[BinaryIO]]:
        """Files to write to, which take the place of `paths` at the end."""
        temporary = [self.scratch / f"{os.getpid()}-{path.name}" for path in paths]
        try:
            with ExitStack() as stack:
                yield [stack.enter_context(t.open("wb")) for t in temporary]
            for source, path in zip(temporary, paths, strict=True):
                _move(source, path)
        except OSError as error:
            for source in temporary:
                with suppress(OSError):
                    source.unlink()
            raise WriteError(f"{paths[0]} cannot be written: {error.strerror or error}; {STAYS}") from None

    def read(self, numbers: range) -> Iterator[bytes]:
        """The parts of some blocks, one at a time."""
        for number in numbers:
            yield self._part(number).read_bytes()

    def drop(self, numbers: Iterable[int]) -> None:
        """Remove the parts of some blocks."""
        for number in numbers:
            self._part(number).unlink(missing_ok=True)

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:08d}"


class Job:
    """The work that is left of a job, for one shard.

    Args:
        root: the folder; made if it is not there.
        layout: how samples become files.
        manifest: what decides the bytes; a folder with another one is refused. Has `count`, of samples, and `block`.
        shard: which share of the work is ours.

    Raises:
        ConfigError: the folder holds another job, or files without a manifest.
        WriteError: another process writes this shard, or the folder cannot be made.
    """

    def __init__(self, root: Path, layout: Layout, manifest: dict[str, Any], shard: Shard) -> None:
        self.layout, self.store = layout, Store(root, shard)
        self.count, self.block = manifest["count"], manifest["block"]
        self.blocks = -(-self.count // self.block)
        self.span = layout.span or self.blocks
        check_folder(root, manifest)
        self._lock = self._enter(manifest)
        self._open = {g for g in range(-(-self.blocks // self.span)) if not self._complete(g)}
        self._parts = self._list_parts()
        self._arrived = Counter(b // self.span for b in self._parts)
        self.store.drop(b for b in self._parts if b // self.span not in self._open)  # a kill came just before

    def indices(self, number: int) -> list[int]:
        """The samples of a block."""
        return list(range(number * self.block, min((number + 1) * self.block, self.count)))

    def pending(self) -> list[int]:
        """Our blocks that are left to render, in order."""
        return [b for b in self._ours() if b // self.span in self._open and b not in self._parts]

    def samples(self, numbers: list[int] | None = None) -> int:
        """How many samples some blocks have; by default all of ours."""
        return sum(len(self.indices(b)) for b in (self._ours() if numbers is None else numbers))

    def missing(self) -> int:
        """How many blocks of all shards are not there yet."""
        return sum(b not in self._parts for g in self._open for b in self._members(g))

    def done(self, number: int) -> None:
        """Take note of a block that was written, and finish its group if it is the last of it."""
        self._parts.add(number)
        self._arrived[number // self.span] += 1
        self._finish(number // self.span)

    def finish(self) -> bool:
        """Finish every group whose parts are there, whoever made them; whether the whole job is complete."""
        self._parts |= self._list_parts()
        self._arrived = Counter(b // self.span for b in self._parts)
        for group in sorted(self._open):
            self._finish(group)
        return not self._open

    def close(self) -> None:
        """Leave: remove what is temporary, .generate if nobody needs it any more, and the name of a job without files.

        (So that a setting that made the first block fail can be mended.)
        """
        shutil.rmtree(self.store.scratch, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
        if not self._open:
            self._remove_stale()
        for path in (self.store.parts, self.store.parts.parent):
            with suppress(OSError):  # not empty: other shards are at work, or parts wait for theirs
                path.rmdir()
        with suppress(OSError):
            if {path.name for path in self.store.root.iterdir()} <= {MANIFEST, CARD}:
                for name in (MANIFEST, CARD):
                    (self.store.root / name).unlink(missing_ok=True)

    def _ours(self) -> Iterator[int]:
        """Blocks of this shard: whole groups where a job has many, so that each machine makes whole files."""
        unit, shard = self.layout.span or 1, self.store.shard
        return (b for b in range(self.blocks) if b // unit % shard.count == shard.index)

    def _members(self, group: int) -> range:
        return range(group * self.span, min((group + 1) * self.span, self.blocks))

    def _complete(self, group: int) -> bool:
        return all((self.store.root / name).is_file() for name in self.layout.outputs(group))

    def _list_parts(self) -> set[int]:
        try:
            return {int(path.name) for path in self.store.parts.iterdir() if path.name.isdigit()}
        except FileNotFoundError:
            return set()

    def _finish(self, group: int) -> None:
        members = self._members(group)
        if group not in self._open or self._arrived[group] < len(members):
            return
        try:
            with self.store.sinks([self.store.root / name for name in self.layout.outputs(group)]) as sinks:
                self.layout.assemble(self.store.read(members), sinks)
        except WriteError:
            if not self._complete(group):  # another shard may have been quicker
                raise
        self._open.discard(group)
        self.store.drop(members)

    def _enter(self, manifest: dict[str, Any]) -> TextIO | None:
        """Make the folder, keep other processes off this shard, remove what a killed one has left."""
        store = self.store
        try:
            store.scratch.mkdir(parents=True, exist_ok=True)
            lock = files.lock(store.scratch / "lock")
            if lock is None:
                raise WriteError(f"{store.root}: another process is writing shard {store.shard} of this job")
            for path in store.scratch.iterdir():
                if path.name != "lock":
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(f"{store.root} cannot be written to: {error.strerror or error}") from None
        store.put(store.root / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        check_folder(store.root, manifest)
        store.put(store.root / CARD, card(manifest, self.layout).encode())
        return lock

    def _remove_stale(self) -> None:
        """Parts and temporary folders of shards that were killed; the job is complete without them."""
        shutil.rmtree(self.store.parts, ignore_errors=True)
        for folder_ in (self.store.root / STATE).glob("*-of-*"):
            with suppress(OSError):
                if (lock := files.lock(folder_ / "lock")) is not None:
                    shutil.rmtree(folder_, ignore_errors=True)
                    lock.close()


def check_folder(root: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder that is not this job's.

    Raises:
        ConfigError: it holds another job, or files without a manifest.
        NotADirectoryError: it is a file.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not a folder")
    try:
        there = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        strange = sorted(p.name for p in root.iterdir() if p.name != STATE) if root.is_dir() else []
        if strange:
            message = f"{root} holds {strange[0]!r} and no {MANIFEST}: choose a new or empty folder"
            raise ConfigError(message) from None
        return
    except (OSError, ValueError) as error:
        raise ConfigError(f"{root / MANIFEST} cannot be read ({error}); choose another folder") from None
    here = json.loads(json.dumps(manifest))
    if there != here:
        raise ConfigError(f"{root} holds another job ({_difference(there, here)}): choose another folder")


def card(manifest: dict[str, Any], layout: Layout) -> str:
    """What the folder holds, how it was made and what may be done with it."""
    hand = manifest["hand"]
    free = "no licence lies on these images and labels: do anything with them"
    bound = "the licence of that hand model governs these images and labels"
    sides = "right hands"
    if manifest.get("left_fraction"):
        sides = "right and left hands (of a left one the `npz` has the mirrored, right hand, and `is_left`)"
    elif manifest.get("kind") == "frames":
        sides = "right and left hands"
    return (
        f"# {manifest['count']:,} {TITLES.get(manifest.get('what'), 'virtual hands')}\n\n"
        f"{layout.about}.\n\n"
        "Rendered by mesh_graphormer_hand (`hand-generate`); `manifest.json` has every setting. Metres, radians, "
        f"pixels measured from the picture's top-left corner; camera axes x right, y down, z forward; {sides}; "
        "joints: wrist, then thumb to little finger, each from its base to its tip. JSON files of all samples appear "
        "when the last sample is there.\n\n"
        f"Hand: {hand['name']} ({hand['fingerprint']}); {free if hand['name'] == 'open' else bound}. Photographs in "
        "the background, where the settings name a folder of them, keep their own licences.\n"
    )


def _difference(there: Any, here: Any, where: str = "") -> str:
    """The first key in which two mappings differ, and both values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in [*here, *there]:
            if there.get(key) != here.get(key):
                return _difference(there.get(key), here.get(key), f"{where}.{key}" if where else key)
    return f"{where or 'its manifest'} is {there!r} there, {here!r} here"


def _move(source: Path, path: Path) -> None:
    try:
        source.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        source.replace(path)
