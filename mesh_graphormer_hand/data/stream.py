"""Endless training batches as a pure function of (seed, index): resume is starting elsewhere, workers change nothing.

    loader = DataLoader(stream, batch_size=None, sampler=range(start, stop), num_workers=4)

**Micro-batches.** With `micro_batches` P, index step * P + p is the p-th of P equal pieces of the batch of `step`: the
batch, and how it is augmented, do not depend on how many processes and micro-batches share it.

**Which data set.** A stream is cut into LANES lanes: batch `index` is turn `index // LANES` of lane `index % LANES`.
The samples of a lane are slots; `_taken` deals the slots out to the data sets in proportion to their weights, evenly.

**Which sample.** A finite set is walked in an order that is shuffled anew each epoch, across all lanes. An endless set
gives each lane its own blocks (lane + LANES * k).

**Replay.** Rendering is slower than training on a CPU. An endless set with `repeat` R shows each block R times, each
time augmented differently: visit `t` of a lane shows block `t // R + (R - 1 - t % R) * spacing`, so that every R-th
visit renders a new block and the others meet blocks that are `spacing`, 2 `spacing`, ... blocks old. Nothing has to be
remembered for that: blocks are kept in memory until their last visit, and one that is not there is rendered again.
DataLoader deals indices to its workers in turn, so with a number of workers that divides LANES a worker meets all
visits of its blocks.
"""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from ..contracts import HandBatch
from .base import ENDLESS, HandDataset, join
from .transforms import Augmentation, augment

LANES = 8
MIN_CACHED_BLOCKS = 64  # of a data set (2.4 MB each at 224 px, and as much again for each label image)


@dataclass(frozen=True)
class Block:
    """A rendered block in memory: images as bytes, a quarter of their size; virtual ones are rounded so anyway."""

    image: UInt8[Tensor, "b 3 h w"]
    without_image: HandBatch

    @classmethod
    def of(cls, batch: HandBatch) -> Block:
        """The block that holds a batch."""
        image = (batch.inputs.image * 255).round_().to(torch.uint8)
        return cls(image, replace(batch, inputs=replace(batch.inputs, image=None)))

    def samples(self, rows: Int64[Tensor, "n"]) -> HandBatch:
        """Some of its samples."""
        without_image = self.without_image[rows]
        return replace(without_image, inputs=replace(without_image.inputs, image=self.image[rows].float().div_(255)))


class Stream(Dataset):
    """Batches of `batch_size` samples of a mixture of data sets; index it with the step."""

    def __init__(
        self,
        datasets: Sequence[HandDataset],
        weights: Sequence[float] | None = None,
        batch_size: int = 32,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        device: str | torch.device = "cpu",
        micro_batches: int = 1,
    ) -> None:
        """`weights`: each data set's share, equal by default. `device`: where batches are made (rendered, augmented).
        `batch_size` is that of a whole batch, `micro_batches` pieces of it are taken one by one.

        Raises:
            ValueError: no data set, a weight for each is missing, negative or all are zero, an empty data set, a batch
                that does not split into micro-batches.
        """
        weights = [1.0] * len(datasets) if weights is None else [float(w) for w in weights]
        if not datasets or len(weights) != len(datasets) or min(weights) < 0 or sum(weights) == 0:
            raise ValueError(f"{len(datasets)} data sets need as many weights, none negative, not all 0, not {weights}")
        if empty := [i for i, (d, w) in enumerate(zip(datasets, weights, strict=True)) if w > 0 and not len(d)]:
            raise ValueError(f"data set number {empty[0]} has a weight but no samples")
        self.datasets, self.weights = list(datasets), weights
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self.cut(micro_batches)
        self.augmentation = augmentation or Augmentation(enabled=False)
        self._cache: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self._present = 0  # the step that is being shown

    def cut(self, micro_batches: int) -> None:
        """Split batches into `micro_batches` pieces from now on.

        Raises:
            ValueError: they would not be equal.
        """
        if micro_batches < 1 or self.batch_size % micro_batches:
            raise ValueError(f"a batch of {self.batch_size} does not split into {micro_batches} equal parts")
        self.micro_batches = micro_batches

    def __getitem__(self, index: int) -> HandBatch:
        """The batch of one step, or a part of it."""
        step, part = divmod(index, self.micro_batches)
        if step != self._present:  # not before: parts of one step share blocks
            self._forget(self._present)
            self._present = step
        size = self.batch_size // self.micro_batches
        rows = range(part * size, (part + 1) * size)
        loaded = [self._load(d, mine) for d, mine in enumerate(_cut(self.indices(step), rows)) if mine]
        return augment(join(loaded), self.augmentation, (self.seed, step), rows.start, self.batch_size)

    def indices(self, index: int) -> list[list[int]]:
        """Which samples of each data set the batch of step `index` shows."""
        lane, turn = index % LANES, index // LANES
        before, after = self._taken(turn), self._taken(turn + 1)
        # lanes before this one have had one turn more when the stream has come to `index`
        earlier = self._taken(turn + 1), self._taken(turn)
        chosen = []
        for d, dataset in enumerate(self.datasets):
            count = after[d] - before[d]
            if len(dataset) >= ENDLESS:
                chosen.append([_endless(dataset, lane, before[d] + i) for i in range(count)])
            else:
                start = lane * earlier[0][d] + (LANES - lane) * earlier[1][d]
                chosen.append([self._shuffled(d, start + i) for i in range(count)])
        return chosen

    def _taken(self, turns: int) -> list[int]:
        """How many of the first slots of a lane go to each data set: its share of what the sets before it left."""
        left, share_left, taken = turns * self.batch_size, sum(self.weights), []
        for weight in self.weights[:-1]:
            taken.append(int(left * (weight / share_left)) if share_left > 0 else 0)
            left, share_left = left - taken[-1], share_left - weight
        return [*taken, left]

    def _shuffled(self, d: int, position: int) -> int:
        """Sample number `position` of a finite data set, walked block by block in each epoch's own order."""
        epoch, place = divmod(position, len(self.datasets[d]))
        return int(_epoch_order(len(self.datasets[d]), self.datasets[d].block, self.seed, d, epoch)[place])

    def _load(self, d: int, indices: list[int]) -> HandBatch:
        dataset = self.datasets[d]
        if dataset.block == 1:
            return dataset.load(indices, self.device)
        parts = []
        for block, group in itertools.groupby(indices, key=lambda i: i // dataset.block):
            rows = torch.tensor([i % dataset.block for i in group], device=self.device)
            parts.append(self._block(d, block).samples(rows))
        return HandBatch.cat(parts)

    def _block(self, d: int, block: int) -> Block:
        """A rendered block, from memory where it is there."""
        dataset, key = self.datasets[d], (d, block)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        first = block * dataset.block
        made = dataset.load(list(range(first, min(first + dataset.block, len(dataset)))), self.device)
        self._cache[key] = kept = Block.of(made)
        return kept

    def _forget(self, index: int) -> None:
        """Drop the blocks that this lane has shown for the last time, and the oldest ones where there are too many."""
        lane, after = index % LANES, self._taken(index // LANES + 1)
        for d, dataset in enumerate(self.datasets):
            if len(dataset) >= ENDLESS:
                first_live = after[d] // dataset.block // dataset.repeat
                for key in [k for k in self._cache if k[0] == d and k[1] % LANES == lane]:
                    if key[1] // LANES < first_live:
                        del self._cache[key]
            room = max(MIN_CACHED_BLOCKS, LANES * (dataset.repeat * dataset.spacing + 2))
            for key in [k for k in self._cache if k[0] == d][:-room]:
                del self._cache[key]


def _cut(chosen: list[list[int]], rows: range) -> list[list[int]]:
    """Of the samples chosen from each data set, one after the other, those in `rows` of the batch."""
    cut, start = [], 0
    for indices in chosen:
        cut.append(indices[max(rows.start - start, 0) : max(rows.stop - start, 0)])
        start += len(indices)
    return cut


def _endless(dataset: HandDataset, lane: int, position: int) -> int:
    """The sample at `position` of a lane of an endless data set, by the rule of replay."""
    visit, offset = divmod(position, dataset.block)
    new, again = divmod(visit, dataset.repeat)
    number = new + (dataset.repeat - 1 - again) * dataset.spacing
    return (number * LANES + lane) * dataset.block + offset


@functools.lru_cache(maxsize=16)
def _epoch_order(length: int, block: int, seed: int, d: int, epoch: int) -> np.ndarray:
    """All indices of a data set, block by block, in the order of one epoch."""
    blocks = np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, d, epoch]).permutation(-(-length // block))
    order = (blocks[:, None] * block + np.arange(block)).ravel()
    return order[order < length]
