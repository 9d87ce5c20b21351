"""Keypoints, in 2D or 2.5D, from feature maps: a small top-down head, and how its maps are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..geometry.heatmaps import expectation

SURFACE = 6  # of the template at each cell: position (dm) and normal, see `losses.surface`
SHARPNESS = 2.0  # of the logits where places are read: a plain mean puts a joint between the places that it may have


class KeypointHead(nn.Module):
    """Adds the branches up at the resolution of the first one, mixes, and gives a heat map for each keypoint.

    With `depth` a map of depths for each, too, and the map of the surface that trains the features beneath.
    """

    def __init__(self, dims: Sequence[int], channels: int, keypoints: int, depth: bool = False) -> None:
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


@dataclass(frozen=True)
class Keypoints:
    """What the image says of each keypoint; distances in crop units, in which the crop is [-1, 1]."""

    heatmaps: Float[Tensor, "b k h w"]  # logits
    uv: Float[Tensor, "b k 2"]  # expected place
    spread: Float[Tensor, "b k 1"]  # standard deviation of the place
    features: Float[Tensor, "b k c"]  # expected feature under the heat map
    depth: Float[Tensor, "b k 1"] | None = None  # expected depth, less the keypoints' mean
    surface: Float[Tensor, "b 6 h w"] | None = None

    @property
    def uvz(self) -> Float[Tensor, "b k 3"]:
        """Place and depth: the keypoints in 3D up to scale (2.5D, Iqbal et al., ECCV 2018)."""
        return torch.cat([self.uv, self.depth], -1)


def keypoints_from_heatmaps(
    maps: Float[Tensor, "b m h w"], features: Float[Tensor, "b c h w"], keypoints: int
) -> Keypoints:
    """Read heat maps as distributions over the crop, in float32."""
    with torch.autocast(features.device.type, enabled=False):
        heatmaps, others = maps[:, :keypoints], maps[:, keypoints:]
        share, _, spread = expectation(heatmaps)
        _, uv, _ = expectation(SHARPNESS * heatmaps)
        expected = share @ features.to(share.dtype).flatten(2).transpose(1, 2)
        if not others.shape[1]:
            return Keypoints(heatmaps, uv, spread, expected)
        depth = (share * others[:, :keypoints].to(share.dtype).flatten(2)).sum(-1, keepdim=True)
        depth = depth - depth.mean(1, keepdim=True)
        return Keypoints(heatmaps, uv, spread, expected, depth, others[:, keypoints:])
