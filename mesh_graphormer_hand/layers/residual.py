"""The pre-activation bottleneck of stacked hourglasses (Newell et al., ECCV 2016; He et al., "Identity Mappings",
2016)."""

from jaxtyping import Float
from torch import Tensor, nn


class PreActivation(nn.Module):
    """x + {BN, ReLU, 1 x 1 to half of `out`; BN, ReLU, 3 x 3; BN, ReLU, 1 x 1 to `out`}; the skip is a convolution
    where the width changes. Convolutions have biases."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.steps = nn.Sequential(
            *_activated(channels, nn.Conv2d(channels, half, 1)),
            *_activated(half, nn.Conv2d(half, half, 3, padding=1)),
            *_activated(half, nn.Conv2d(half, out, 1)),
        )
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """The same height and width."""
        return self.skip(x) + self.steps(x)


def _activated(channels: int, convolution: nn.Conv2d) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(), convolution]


def residuals(width: int, count: int) -> nn.Sequential:
    """`count` blocks of one width, one after another."""
    return nn.Sequential(*(PreActivation(width, width) for _ in range(count)))
