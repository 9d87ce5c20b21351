"""Virtual hands, rendered when they are loaded (see `virtual`): every label, exact, and no licence.

The training split never ends. The test split is the frozen one of configs/virtual_test.yaml, whatever the generator's
defaults have become; options that differ from the defaults are applied to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch

from ...config import ConfigError, CropSpec
from ...contracts import HandBatch
from ...mano.hand import Hand
from ...virtual import config as virtual
from ...virtual.config import VirtualConfig
from ...virtual.generator import VirtualHands
from ..axes import look_along_crops
from ..base import HandDataset

FROZEN_TEST = "virtual_test.yaml"


@dataclass
class Config(VirtualConfig):
    """The generator's own options (`count`: samples, endless by default in training) and these. `repeat` and `spacing`
    (see `data.stream`): above 1, `repeat` buys speed where rendering is the bottleneck."""

    # keypoint box's longer side, of the crop's; empty: about the crop of the model, in the test split the frozen range
    fill: list[float] = field(default_factory=list)
    split: str = ""  # of the generator; empty: the one that data.train or data.test names
    repeat: int = 1  # how often a training image is shown, each time augmented differently
    spacing: int = 4  # blocks of a lane between two showings
    extra: list[str] = field(default_factory=list)  # labels to make as well, of virtual.config.EXTRA_LABELS

    def __post_init__(self) -> None:
        if self.split:
            super().__post_init__()
        if self.repeat < 1 or self.spacing < 1 or self.count < 1:
            raise ConfigError("virtual: repeat, spacing and count are 1 or more")


class VirtualDataset(HandDataset):
    """Samples by index of one generator."""

    block = 16

    def __init__(self, config: Config, split: str, hand: Hand, image_size: int) -> None:
        self.image_size, self.hand, self._hand, self._config = image_size, hand.fingerprint, hand, config
        self.repeat, self.spacing = config.repeat, config.spacing
        self.split = config.split or split
        self.fit_crop(self.crop)

    def fit_crop(self, crop: CropSpec) -> None:
        """See `HandDataset`."""
        self.crop, self.generator = crop, generator_config(self._config, self.split, crop)
        self._hands = VirtualHands(self.generator, self._hand, extra=tuple(self._config.extra))

    def __len__(self) -> int:
        return self.generator.count

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """Rendered on `device`; aligned runs of 16 indices cost least."""
        return look_along_crops(self._hands.render(indices, device=device, image_size=self.image_size))


def generator_config(config: Config, split: str, crop: CropSpec) -> VirtualConfig:
    """The generator's part of `config`; for the test split, what differs from the defaults on top of the frozen one."""
    defaults = VirtualConfig()
    values = {f.name: getattr(config, f.name) for f in fields(VirtualConfig) if f.name != "split"}
    if not values["fill"]:
        closer = 1.0 if split == "test" else CropSpec().over("keypoints") / crop.over("keypoints")
        values["fill"] = [closer * share for share in defaults.fill]
    if split != "test":
        return VirtualConfig(**values, split=split)
    changed = {name: value for name, value in values.items() if value != getattr(defaults, name)}
    return replace(virtual.read(FROZEN_TEST), **changed)


def build(config: Config, split: str, hand: Hand, image_size: int) -> VirtualDataset:
    """The data set of one split."""
    return VirtualDataset(config, split, hand, image_size)
