"""Heat maps of keypoints: encoding, reading and decoding in one object, so that they cannot disagree.

A map of hh x wh cells covers a square crop; cell (row, column) is centred at (column + .5, row + .5) cells from the
crop's top-left corner. Gaussians stand at the keypoint's exact place: targets are never rounded to cells.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class HeatmapCodec:
    """Gaussian heat maps as in SimpleBaseline (ECCV 2018), decoded by the largest cell and a quarter-cell offset."""

    sigma: float = 2.0  # cells

    def encode(
        self, joints_2d: Float[Tensor, "*b j 2"], crop_size: Float[Tensor, "*b"], shape: tuple[int, int]
    ) -> Float[Tensor, "*b j h w"]:
        """Gaussians of height 1 (at the keypoint itself) of keypoints in px of a crop of side `crop_size`."""
        height, width = shape
        column = joints_2d[..., 0] * (width / crop_size[..., None]) - 0.5
        row = joints_2d[..., 1] * (height / crop_size[..., None]) - 0.5
        cells = torch.arange(max(height, width), device=joints_2d.device, dtype=joints_2d.dtype)
        across = (cells[:width] - column[..., None]).square()  # *b j w
        down = (cells[:height] - row[..., None]).square()  # *b j h
        scale = -0.5 / self.sigma**2
        return torch.exp(scale * down)[..., :, None] * torch.exp(scale * across)[..., None, :]

    def encode_distribution(
        self, joints_2d: Float[Tensor, "*b j 2"], crop_size: Float[Tensor, "*b"], shape: tuple[int, int]
    ) -> Float[Tensor, "*b j h w"]:
        """The same Gaussians, each divided by its sum over the map."""
        maps = self.encode(joints_2d, crop_size, shape)
        return maps / maps.sum((-1, -2), keepdim=True).clamp_min(1e-12)

    def decode(self, heatmaps: Float[Tensor, "*b j h w"], crop_size: float | Tensor) -> Float[Tensor, "*b j 2"]:
        """Keypoints in px: the centre of the largest cell, moved a quarter cell towards its larger neighbour."""
        height, width = heatmaps.shape[-2:]
        index = heatmaps.flatten(-2).argmax(-1)
        row, column = index // width, index % width
        lines = heatmaps.gather(-2, row[..., None, None].expand(*row.shape, 1, width))[..., 0, :]  # *b j w
        posts = heatmaps.gather(-1, column[..., None, None].expand(*row.shape, height, 1))[..., 0]  # *b j h
        x = (column + 0.5 + _quarter(lines, column)) / width
        y = (row + 0.5 + _quarter(posts, row)) / height
        side = crop_size[..., None, None] if isinstance(crop_size, Tensor) else crop_size
        return torch.stack([x, y], -1) * side


def _quarter(line: Float[Tensor, "*b n"], peak: Tensor) -> Float[Tensor, "*b"]:
    """+-1/4 towards the larger neighbour of the peak, 0 at the map's border or between equal neighbours."""
    last = line.shape[-1] - 1
    before = line.gather(-1, (peak - 1).clamp_min(0)[..., None])[..., 0]
    after = line.gather(-1, (peak + 1).clamp_max(last)[..., None])[..., 0]
    inside = (peak > 0) & (peak < last)
    return 0.25 * torch.sign((after - before).float()) * inside


def inside_crop(joints_2d: Float[Tensor, "*b j 2"], crop_size: Float[Tensor, "*b"]) -> Bool[Tensor, "*b j"]:
    """Which keypoints (px) lie in the crop and so on its heat maps."""
    return ((joints_2d >= 0) & (joints_2d < crop_size[..., None, None])).all(-1)


def expectation(
    heatmaps: Float[Tensor, "*b j h w"],
) -> tuple[Float[Tensor, "*b j h*w"], Float[Tensor, "*b j 2"], Float[Tensor, "*b j 1"]]:
    """Read maps of logits as distributions over a square crop (soft-argmax), in float32 at least.

    Returns:
        The distributions over the cells, row by row; their means, in crop units [-1, 1]; their standard deviations.
    """
    height, width = heatmaps.shape[-2:]
    share = heatmaps.to(torch.promote_types(heatmaps.dtype, torch.float32)).flatten(-2).softmax(-1)
    y = (torch.arange(height, device=share.device, dtype=share.dtype) + 0.5) * (2 / height) - 1
    x = (torch.arange(width, device=share.device, dtype=share.dtype) + 0.5) * (2 / width) - 1
    cells = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1).view(-1, 2)
    moments = share @ torch.cat([cells, cells.square().sum(-1, keepdim=True)], -1)
    mean = moments[..., :2]
    variance = moments[..., 2:] - mean.square().sum(-1, keepdim=True)
    return share, mean, variance.clamp_min(1e-6).sqrt()
