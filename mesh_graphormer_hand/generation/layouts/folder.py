"""A plain folder with one JSON file, as the data set `folder` reads it (docs/your_own_photos.md).

keypoints.json                  21 joints in pixels and metres, camera and side of every picture's hand
images/0000/00000000.jpg        10,000 in each subfolder
masks/0000/00000000.png         0 or 255            depth/0000/00000000.png  16 bit, steps of 0.1 mm
parts/0000/00000000.png         positions in contracts.SEGMENTATION_CLASSES
normals/0000/00000000.png       127 (n + 1), x in red, black: none
labels/0000/00000000.npz        all of HandTargets in float32, and `intrinsics`
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from ...contracts import HandBatch
from ...mano.hand import Hand
from .base import Block, Encoding, Layout, Samples, npz, png, to_json

SUBFOLDER = 10_000  # samples


@dataclass(frozen=True)
class Folder(Layout):
    """Part: the block's entries of the JSON file, without the braces."""

    encoding: Encoding
    span: int = 0
    about: str = (
        "`keypoints.json` for the data set `folder`, `images/`, `masks/` (0 or 255), `depth/` (16 bit, steps of "
        "0.1 mm), `parts/`, `normals/` (127 (n + 1), x in red), `labels/` (every label, float32)"
    )

    def encode(self, batch: HandBatch, indices: list[int]) -> Block:
        """See `Layout`."""
        samples, files, entries = Samples.of(batch), {}, []
        for k, index in enumerate(indices):
            name = f"{index // SUBFOLDER:04d}/{index:08d}"
            files |= self.pictures(samples, k, name)
            files[f"labels/{name}.npz"] = npz(samples.arrays(k))
            entries.append(self.entry(samples, k, name))
        return Block(files, ",\n".join(entries).encode())

    def pictures(self, samples: Samples, k: int, name: str) -> dict[str, bytes]:
        """The image of a sample and its labels that are images."""
        return {
            self._image(name): self.encoding.encode(samples.images[k]),
            f"masks/{name}.png": png(samples.mask[k]),
            f"depth/{name}.png": png(samples.depth[k]),
            **{f"{label}/{name}.png": png(values[k]) for label, values in samples.maps.items()},
        }

    def entry(self, samples: Samples, k: int, name: str) -> str:
        """The entry of a sample in the JSON file."""
        return f"{to_json(self._image(name))}:[{to_json(samples.photo_labels(k))}]"

    def _image(self, name: str) -> str:
        return f"images/{name}.{self.encoding.suffix}"

    def outputs(self, group: int) -> list[str]:
        """See `Layout`."""
        return ["keypoints.json"]

    def assemble(self, parts: Iterable[bytes], sinks: list[BinaryIO]) -> None:
        """See `Layout`."""
        before = b"{"
        for part in parts:
            sinks[0].write(before + part)
            before = b",\n"
        sinks[0].write(b"}\n")


def build(encoding: Encoding, split: str, hand: Hand) -> Folder:
    """The layout; every split has the same names."""
    return Folder(encoding)
