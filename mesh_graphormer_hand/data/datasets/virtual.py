"""Virtual hands, rendered when they are asked for (see `virtual`): every label, exact, and no licence.

The training split never ends; the test split is the frozen list of images that (seed, "test", index) decides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from ...config import ConfigError
from ...contracts import HandBatch
from ...mano.hand import Hand
from ...virtual.config import VirtualConfig
from ...virtual.generator import VirtualHands
from ..base import ENDLESS, HandDataset

TEST_SAMPLES = 2000


@dataclass
class Config(VirtualConfig):
    """The generator's own options and these. `repeat` and `spacing` (see `data.stream`): above 1, `repeat` buys speed
    where rendering is the bottleneck."""

    split: str = ""  # of the generator; empty: the one that is asked for
    samples: int = 0  # 0: endless in training, 2,000 in the test split
    repeat: int = 1  # how often a training image is shown, each time augmented differently
    spacing: int = 4  # blocks of a lane between two showings

    def __post_init__(self) -> None:
        if self.split:
            super().__post_init__()
        if self.repeat < 1 or self.spacing < 1 or self.samples < 0:
            raise ConfigError("virtual: repeat and spacing are 1 or more, samples 0 (endless) or more")


class VirtualDataset(HandDataset):
    """Samples by index of one generator."""

    block = 16

    def __init__(self, config: Config, split: str, hand: Hand, image_size: int) -> None:
        self.image_size, self.hand = image_size, hand.fingerprint
        self.repeat, self.spacing = config.repeat, config.spacing
        self._length = config.samples or (ENDLESS if split == "train" else TEST_SAMPLES)
        options = {f.name: getattr(config, f.name) for f in fields(VirtualConfig)}
        self._hands = VirtualHands(VirtualConfig(**{**options, "split": config.split or split}), hand)

    def __len__(self) -> int:
        return self._length

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """Rendered on `device`; aligned runs of 16 indices cost least."""
        return self._hands.render(indices, device=device, image_size=self.image_size)


def build(config: Config, split: str, hand: Hand, image_size: int) -> VirtualDataset:
    """The data set of one split."""
    return VirtualDataset(config, split, hand, image_size)
