"""The head of HRNet's classifier as a neck for any backbone: maps -> grid features and one global feature.

Wang et al., TPAMI 2020, figure 12c ("HRNetV2-C"): each map is widened by a bottleneck, then added to the next coarser
one by a strided convolution; a 1 x 1 convolution and the mean over the image give the global feature. Parameter names
are the published ones. Mesh Graphormer reads its grid features before the 1 x 1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from .hrnet import EXPANSION, Bottleneck, initialise_convolutions

PREFIXES = ("incre_modules.", "downsamp_modules.", "final_layer.")  # of its parameters in published ImageNet weights


class ClassificationNeck(nn.Module):
    """Maps of `dims` channels, each half the size of the one before -> (grid features, global feature)."""

    def __init__(self, dims: Sequence[int], planes: Sequence[int], out: int) -> None:
        """`planes`: of each map's bottleneck, a quarter of its channels; `out`: channels of the global feature.

        Raises:
            ValueError: not one number of planes for each map.
        """
        super().__init__()
        if len(planes) != len(dims):
            raise ValueError(f"{len(dims)} maps need {len(dims)} numbers of planes, not {list(planes)}")
        wide = [p * EXPANSION for p in planes]
        self.grid_dim = wide[-1]
        self.incre_modules = nn.ModuleList(nn.Sequential(Bottleneck(d, p)) for d, p in zip(dims, planes, strict=True))
        self.downsamp_modules = nn.ModuleList(_conv(*pair, 3, 2) for pair in zip(wide, wide[1:], strict=False))
        self.final_layer = _conv(wide[-1], out, 1, 1)
        initialise_convolutions(self)

    def forward(self, maps: list[Tensor]) -> tuple[Float[Tensor, "b g h w"], Float[Tensor, "b f"]]:
        """Grid features at the coarsest map's size, and the global feature."""
        grid = self.incre_modules[0](maps[0])
        for down, widen, x in zip(self.downsamp_modules, self.incre_modules[1:], maps[1:], strict=True):
            grid = widen(x) + down(grid)
        return grid, self.final_layer(grid).mean((2, 3))


def _conv(dim_in: int, dim_out: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(dim_out), nn.ReLU(inplace=True))
