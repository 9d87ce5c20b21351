"""Plain stacks of convolutions with leaky ReLUs, as of Zimmermann and Brox (ICCV 2017): no norms, biases everywhere."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..config import ConfigError

SLOPE = 0.01  # of the leaky ReLU
LAST_STD = 0.01  # of the weights of layers that give maps


def convolutions(channels: int, widths: Sequence[int], kernel: int) -> nn.Sequential:
    """A convolution and a leaky ReLU for each width; the size stays."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, kernel, padding=kernel // 2), nn.LeakyReLU(SLOPE)]
        channels = width
    return nn.Sequential(*layers)


def trunk(counts: Sequence[int], widths: Sequence[int]) -> nn.Sequential:
    """Blocks of 3 x 3 convolutions on an RGB image, a 2 x 2 max-pool between two blocks.

    Raises:
        ConfigError: not one width for each block.
    """
    if len(counts) != len(widths) or not counts:
        raise ConfigError("model: `convolutions` and `channels` need a number per block each")
    layers: list[nn.Module] = []
    channels = 3
    for index, (count, width) in enumerate(zip(counts, widths, strict=True)):
        layers += [*([nn.MaxPool2d(2)] if index else []), *convolutions(channels, count * [width], 3)]
        channels = width
    return nn.Sequential(*layers)


def initialise(network: nn.Module, last: Sequence[nn.Module] = ()) -> None:
    """He's rule for leaky ReLUs; the layers of `last` start near 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=SLOPE, nonlinearity="leaky_relu")
            nn.init.zeros_(module.bias)
    for module in last:
        nn.init.normal_(module.weight, std=LAST_STD)
