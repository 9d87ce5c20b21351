"""Virtual hands, rendered when they are asked for (see `virtual`): every label, exact, and no licence.

The training split never ends; the test split is the frozen list of `samples` images that (seed, index) decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ...contracts import HandBatch
from ...mano.hand import Hand
from ...virtual.config import VirtualConfig
from ...virtual.generator import VirtualHands
from ..base import ENDLESS, HandDataset


@dataclass
class Config:
    """`repeat` and `spacing`: see `data.stream`; above 1 they buy training speed where rendering is the bottleneck."""

    samples: int = 0  # 0: endless in training, 2,000 in the test split
    repeat: int = 1  # how often a training image is shown, each time augmented differently
    spacing: int = 4  # blocks of a lane between two showings
    generator: VirtualConfig = field(default_factory=VirtualConfig)


class VirtualDataset(HandDataset):
    """Samples by index of one generator."""

    block = 16

    def __init__(self, config: Config, split: str, hand: Hand, image_size: int) -> None:
        self.config, self.image_size, self.hand = config, image_size, hand.fingerprint
        self.repeat, self.spacing = config.repeat, config.spacing
        self._length = config.samples or (ENDLESS if split == "train" else 2000)
        self._hands = VirtualHands(config.generator, hand)

    def __len__(self) -> int:
        return self._length

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        return self._hands.render(indices, device=device, image_size=self.image_size)


def build(config: Config, split: str, hand: Hand, image_size: int) -> VirtualDataset:
    """The data set of one split.

    Raises:
        ValueError: a repeat or spacing below 1, a negative number of samples.
    """
    if config.repeat < 1 or config.spacing < 1 or config.samples < 0:
        raise ValueError("data set virtual: repeat and spacing are 1 or more, samples 0 (endless) or more")
    return VirtualDataset(config, split, hand, image_size)
