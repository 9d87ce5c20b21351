"""Stacked hourglasses (Newell, Yang, Deng, ECCV 2016): stem, hourglasses, and maps of each that the next one reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ConfigError
from .residual import PreActivation, residuals


@dataclass
class HourglassConfig:
    width: int = 256  # channels of the hourglasses
    stem: list[int] = field(default_factory=lambda: [64, 128])  # channels of the stem before its last block
    order: int = 4  # poolings of an hourglass; maps have sides that are multiples of 2^order cells
    residuals: int = 1  # blocks at each place


class Hourglass(nn.Module):
    """Pools `order` times and comes back by nearest neighbours; what was there before each pooling is added again."""

    def __init__(self, order: int, width: int, count: int) -> None:
        super().__init__()
        self.up = residuals(width, count)
        self.down = residuals(width, count)
        self.inner = Hourglass(order - 1, width, count) if order > 1 else residuals(width, count)
        self.back = residuals(width, count)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Sides are multiples of 2^order."""
        low = self.back(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.up(x) + F.interpolate(low, scale_factor=2, mode="nearest")


class StackedHourglasses(nn.Module):
    """Image -> the maps of each stack, at a quarter of the image's size."""

    def __init__(self, config: HourglassConfig, outputs: Sequence[int]) -> None:
        """`outputs`: channels of each stack's maps.

        Raises:
            ConfigError: numbers that make no network.
        """
        super().__init__()
        if len(config.stem) != 2 or not outputs or min(config.order, config.residuals, config.width) < 1:
            raise ConfigError(
                "model: `stem` is two numbers of channels; stacks, order, residuals and width are 1 or more"
            )
        width, (first, second) = config.width, config.stem
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 7, 2, 3),
            nn.BatchNorm2d(first),
            nn.ReLU(inplace=True),
            PreActivation(first, second),
            nn.MaxPool2d(2),
            PreActivation(second, second),
            PreActivation(second, width),
        )
        self.stacks = nn.ModuleList(Stack(config, count, last=i + 1 == len(outputs)) for i, count in enumerate(outputs))

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Sides of the image are multiples of 4 x 2^order."""
        x, found = self.stem(image), []
        for stack in self.stacks:
            maps, x = stack(x)
            found.append(maps)
        return found


class Stack(nn.Module):
    """An hourglass and its maps; features and maps are added to the input of the next stack by 1 x 1 convolutions."""

    def __init__(self, config: HourglassConfig, out: int, last: bool) -> None:
        super().__init__()
        width = config.width
        self.hourglass = Hourglass(config.order, width, config.residuals)
        self.features = nn.Sequential(
            *residuals(width, config.residuals), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.maps = nn.Conv2d(width, out, 1)
        self.from_features = None if last else nn.Conv2d(width, width, 1)
        self.from_maps = None if last else nn.Conv2d(out, width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h w"]]:
        """The maps, and what the next stack reads."""
        features = self.features(self.hourglass(x))
        maps = self.maps(features)
        if self.from_features is None or self.from_maps is None:
            return maps, features
        return maps, x + self.from_features(features) + self.from_maps(maps)
