"""Reading keypoints, in 2D or 2.5D, from the maps of `layers.keypoints`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..geometry.heatmaps import expectation

SHARPNESS = 2.0  # of the logits where places are read: a plain mean puts a joint between the places that it may have


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


def read(maps: Float[Tensor, "b m h w"], features: Float[Tensor, "b c h w"], keypoints: int) -> Keypoints:
    """Read heat maps as distributions over the crop, in float32."""
    with torch.autocast(features.device.type, enabled=False):
        heatmaps, rest = maps[:, :keypoints], maps[:, keypoints:]
        share, _, spread = expectation(heatmaps)
        _, uv, _ = expectation(SHARPNESS * heatmaps)
        expected = share @ features.to(share.dtype).flatten(2).transpose(1, 2)
        if not rest.shape[1]:
            return Keypoints(heatmaps, uv, spread, expected)
        depth = (share * rest[:, :keypoints].to(share.dtype).flatten(2)).sum(-1, keepdim=True)
        depth = depth - depth.mean(1, keepdim=True)
        return Keypoints(heatmaps, uv, spread, expected, depth, rest[:, keypoints:])
