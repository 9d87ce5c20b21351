"""Keypoints from feature maps: a small top-down head."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

SURFACE = 6  # of the template at each cell: position (dm) and normal, see `losses.surface`


class KeypointHead(nn.Module):
    """Adds the branches up at the resolution of the first one, mixes, and gives a heat map for each keypoint.

    With `depth` a map of depths for each, too, and the map of the surface that trains the features beneath.
    """

    def __init__(self, dims: list[int], channels: int, keypoints: int, depth: bool = False) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(d, channels, 1) for d in dims)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.maps = nn.Conv2d(channels, 2 * keypoints + SURFACE if depth else keypoints, 1)

    def forward(self, branches: list[Tensor]) -> tuple[Float[Tensor, "b m h w"], Float[Tensor, "b c h w"]]:
        """`branches`: from fine to coarse, each half the size of the one before. Gives maps (of the keypoints' logits,
        then their depths, then the surface) and the features that they come from."""
        y = self.laterals[-1](branches[-1])
        for lateral, branch in zip(reversed(self.laterals[:-1]), reversed(branches[:-1]), strict=True):
            y = lateral(branch) + F.interpolate(y, scale_factor=2, mode="nearest")
        y = self.mix(y)
        return self.maps(y), y
