"""A small top-down head: the trunk's branches -> heat maps of keypoints, and the features that they come from."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class KeypointHead(nn.Module):
    """Adds the branches up at the resolution of the first one, mixes, and gives a map for each keypoint."""

    def __init__(self, dims: list[int], channels: int, keypoints: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(d, channels, 1) for d in dims)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.maps = nn.Conv2d(channels, keypoints, 1)

    def forward(self, branches: list[Tensor]) -> tuple[Float[Tensor, "b k h w"], Float[Tensor, "b c h w"]]:
        """`branches`: from fine to coarse, each half the size of the one before. Gives logits and features."""
        y = self.laterals[-1](branches[-1])
        for lateral, branch in zip(reversed(self.laterals[:-1]), reversed(branches[:-1]), strict=True):
            y = lateral(branch) + F.interpolate(y, scale_factor=2, mode="nearest")
        y = self.mix(y)
        return self.maps(y), y
