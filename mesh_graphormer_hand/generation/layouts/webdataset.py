"""WebDataset tars: SPLIT-000000.tar, ..., of 1024 samples each.

Of each sample NUMBER.jpg (or .png), NUMBER.mask.png (0 or 255), NUMBER.depth.png (16 bit, steps of 0.1 mm),
NUMBER.parts.png (positions in contracts.SEGMENTATION_CLASSES), NUMBER.normals.png (127 (n + 1), x in red, black where
there is none), NUMBER.json (the labels that a person reads) and NUMBER.npz (all of HandTargets in float32, and
`intrinsics`). The data set `webdataset` reads them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from ...contracts import HandBatch
from ...mano.hand import Hand
from .base import Block, Encoding, Layout, Samples, npz, png, to_json

SPAN = 64  # blocks of 16: some 50 MB at 224 px
TAR_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class WebDataset(Layout):
    """Part: the members of one block, as they stand in the tar."""

    encoding: Encoding
    split: str
    span: int
    about: str = (
        "`*.tar`, WebDataset: of each sample the picture, `mask.png`, `depth.png` (16 bit, steps of 0.1 mm), "
        "`parts.png`, `normals.png` (127 (n + 1), x in red), `json` and `npz` (every label, float32). The data set "
        "`webdataset` reads them: `data: {train: {webdataset: {root: ...}}}`"
    )

    def encode(self, batch: HandBatch, indices: list[int]) -> Block:
        """See `Layout`."""
        samples, members = Samples.of(batch), []
        for k, index in enumerate(indices):
            contents = {
                self.encoding.suffix: self.encoding.encode(samples.images[k]),
                "mask.png": png(samples.mask[k]),
                "depth.png": png(samples.depth[k]),
                **{f"{name}.png": png(values[k]) for name, values in samples.maps.items()},
                "json": to_json(samples.readable(k)).encode(),
                "npz": npz(samples.arrays(k)),
            }
            members += [member(f"{index:08d}.{suffix}", content) for suffix, content in contents.items()]
        return Block({}, b"".join(members))

    def outputs(self, group: int) -> list[str]:
        """See `Layout`."""
        return [f"{self.split}-{group:06d}.tar"]

    def assemble(self, parts: Iterable[bytes], sinks: list[BinaryIO]) -> None:
        """See `Layout`."""
        for part in parts:
            sinks[0].write(part)
        sinks[0].write(TAR_END)


def build(encoding: Encoding, split: str, hand: Hand) -> WebDataset:
    """The layout for one split."""
    return WebDataset(encoding, split, SPAN)


def member(name: str, content: bytes) -> bytes:
    """One file of a tar: its header, which names no time and no user, its bytes, and zeros up to the next 512."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
