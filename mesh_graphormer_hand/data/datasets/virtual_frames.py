"""Virtual photos with a box round every hand, for the hand detector: frames of people with zero to four small hands,
and, every few blocks, crops that one hand fills, since people photograph those, too.

The training split never ends. `test` is the generator's test split: 2,000 frames that training never sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from ...config import ConfigError
from ...contracts import HandBatch, HandTargets
from ...geometry.cameras import perspective_project
from ...geometry.crops import tight_box
from ...mano.hand import Hand
from ...virtual.config import VirtualConfig
from ...virtual.frames import MAX_HANDS, FrameOptions, VirtualFrames
from ...virtual.generator import VirtualHands
from ..base import HandDataset
from ..transforms import mirror

TEST_COUNT = 2000


@dataclass
class Config(VirtualConfig):
    """The generator's own options and these."""

    split: str = ""  # of the generator; empty: the one that data.train or data.test names
    frames: FrameOptions = field(default_factory=FrameOptions)
    close: int = 4  # every so many-th block holds crops that one hand fills; 0: none
    repeat: int = 1  # see data.stream
    spacing: int = 4

    def __post_init__(self) -> None:
        if self.split:
            super().__post_init__()
        if self.repeat < 1 or self.spacing < 1 or self.count < 1 or self.close < 0:
            raise ConfigError("virtual_frames: repeat, spacing and count are 1 or more, close is 0 or more")


class FramesDataset(HandDataset):
    """Frames by index."""

    block = 16

    def __init__(self, config: Config, split: str, hand: Hand, image_size: int) -> None:
        self.image_size, self.close = image_size, config.close
        self.repeat, self.spacing = config.repeat, config.spacing
        values = {f.name: getattr(config, f.name) for f in fields(VirtualConfig)}
        generator = VirtualConfig(**values | {"split": config.split or split})
        if generator.split == "test" and generator.count == VirtualConfig().count:
            generator = replace(generator, count=TEST_COUNT)
        self._frames = VirtualFrames(generator, hand, config.frames)
        self._hands = VirtualHands(generator, hand)

    def __len__(self) -> int:
        return len(self._frames)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """Rendered on `device`; aligned runs of 16 indices cost least."""
        parts = []
        for block in dict.fromkeys(i // self.block for i in indices):
            own = [i for i in indices if i // self.block == block]
            close = self.close > 0 and block % self.close == self.close - 1
            parts.append((own, self._crops(own, device) if close else self._far(own, device)))
        order = [i for own, _ in parts for i in own]
        batch = HandBatch.cat([part for _, part in parts])
        return batch if order == indices else batch[torch.tensor([order.index(i) for i in indices])]

    def _far(self, indices: list[int], device: str | torch.device) -> HandBatch:
        return _bare(self._frames.render(indices, self.image_size, device).batch())

    def _crops(self, indices: list[int], device: str | torch.device) -> HandBatch:
        batch = self._hands.render(indices, device, self.image_size)
        left = torch.tensor([i % 2 == 1 for i in indices], device=batch.inputs.image.device)
        both = [_boxed(batch), _boxed(mirror(batch))]
        rows = [both[int(side)][k : k + 1] for k, side in enumerate(left.tolist())]
        return HandBatch.cat(rows)


def _boxed(batch: HandBatch) -> HandBatch:
    """Crops of one hand as frames of one hand, the box round its vertices."""
    t, size = batch.targets, float(batch.inputs.image.shape[-1])
    points = perspective_project(t.vertices + t.root[:, None], batch.inputs.intrinsics)
    count = len(batch)
    boxes, valid = t.vertices.new_zeros(count, MAX_HANDS, 4), t.is_left.new_zeros(count, MAX_HANDS)
    boxes[:, 0], valid[:, 0] = tight_box(points).clamp(0, size), True
    left = valid & t.is_left[:, None]
    known = t.is_left.new_ones(count)
    targets = HandTargets(boxes=boxes, boxes_valid=valid, boxes_left=left, boxes_known=known, crop_size=t.crop_size)
    return _bare(replace(batch, targets=targets))


def _bare(batch: HandBatch) -> HandBatch:
    """With nothing but the image and the boxes: a detector needs no more, and less is kept in memory."""
    image: Tensor = batch.inputs.image
    return replace(batch, inputs=replace(batch.inputs, image=image, intrinsics=None, intrinsics_valid=None))


def build(config: Config, split: str, hand: Hand, image_size: int) -> FramesDataset:
    """The data set of one split."""
    return FramesDataset(config, split, hand, image_size)
