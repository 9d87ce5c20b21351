"""HRNet: image -> four maps of different resolution that exchange features throughout.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020. Written from the paper;
parameter names are the published ones, so that published ImageNet weights load. The head of the published classifier
is backbones/neck.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Backbone

EXPANSION = 4  # of a bottleneck's output over its planes


@dataclass(frozen=True)
class Variant:
    """Sizes of one HRNet: the stem's bottlenecks, the branches' first width, and modules and blocks of stages 2-4."""

    width: int
    stem_planes: int = 64
    stem_blocks: int = 4
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4


HRNETS = {
    "w18_small": Variant(16, stem_planes=32, stem_blocks=1, modules=(1, 1, 1), blocks=2),
    "w18": Variant(18),
    "w32": Variant(32),
    "w40": Variant(40),
    "w64": Variant(64),
}


def _conv_norm(dim_in: int, dim_out: int, kernel: int, stride: int = 1, relu: bool = False) -> nn.Sequential:
    layers = [
        nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(dim_out),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + x, inplace=True)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with a residual; four times `planes` come out."""

    def __init__(self, dim_in: int, planes: int) -> None:
        super().__init__()
        dim_out = planes * EXPANSION
        self.conv1 = nn.Conv2d(dim_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, dim_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(dim_out)
        self.downsample = _conv_norm(dim_in, dim_out, 1) if dim_in != dim_out else None

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn3(self.conv3(y)) + skip, inplace=True)


class Module(nn.Module):
    """Residual blocks on every branch, then every branch adds up all of them, brought to its resolution."""

    def __init__(self, dims: list[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(d) for _ in range(blocks))) for d in dims)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self._fuse(dims, source, target) for source in range(len(dims)))
            for target in range(len(dims))
        )

    @staticmethod
    def _fuse(dims: list[int], source: int, target: int) -> nn.Module | None:
        if source == target:
            return None
        if source > target:
            return _conv_norm(dims[source], dims[target], 1)
        steps = [_conv_norm(dims[source], dims[source], 3, 2, relu=True) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, _conv_norm(dims[source], dims[target], 3, 2))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """A map for each branch -> the same shapes."""
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        out = []
        for target, fuse in enumerate(self.fuse_layers):
            total = xs[target]
            for source, step in enumerate(fuse):
                if step is not None:
                    y = step(xs[source])
                    total = total + (F.interpolate(y, scale_factor=2 ** (source - target)) if source > target else y)
            out.append(F.relu(total))
        return out


def initialise_convolutions(module: nn.Module) -> None:
    """Convolutions of `module` start as He et al. (ICCV 2015) propose."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class HRNet(Backbone):
    """The multi-resolution network, without its classification head (backbones/neck.py).

    Raises:
        ValueError: an unknown variant.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, variant: str = "w64") -> None:
        super().__init__()
        if variant not in HRNETS:
            raise ValueError(f"no HRNet {variant!r}, there are {', '.join(HRNETS)}")
        sizes = HRNETS[variant]
        self.dims = tuple(sizes.width * 2**i for i in range(4))
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        stem = sizes.stem_planes * EXPANSION
        self.layer1 = nn.Sequential(
            *(Bottleneck(64 if i == 0 else stem, sizes.stem_planes) for i in range(sizes.stem_blocks))
        )
        before = [stem]
        for stage, modules in enumerate(sizes.modules, start=1):
            dims = list(self.dims[: stage + 1])
            setattr(self, f"transition{stage}", self._transition(before, dims))
            setattr(self, f"stage{stage + 1}", nn.Sequential(*(Module(dims, sizes.blocks) for _ in range(modules))))
            before = dims
        initialise_convolutions(self)

    @staticmethod
    def _transition(before: list[int], after: list[int]) -> nn.ModuleList:
        """One step for every branch of the next stage: none, a change of width, or a new branch at half the size."""
        steps: list[nn.Module | None] = [
            None if old == new else _conv_norm(old, new, 3, relu=True)
            for old, new in zip(before, after[: len(before)], strict=True)
        ]
        return nn.ModuleList([*steps, nn.Sequential(_conv_norm(before[-1], after[-1], 3, 2, relu=True))])

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The four branches, at strides 4, 8, 16 and 32.

        Raises:
            ValueError: sides that are no multiples of 32.
        """
        stride = self.strides[-1]
        if image.shape[-1] % stride or image.shape[-2] % stride:
            raise ValueError(f"HRNet takes sides that are multiples of {stride}, not {tuple(image.shape[-2:])}")
        x = F.relu(self.bn1(self.conv1(image)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        xs = [self.layer1(x)]
        for stage in (1, 2, 3):
            steps = getattr(self, f"transition{stage}")
            xs = [x if step is None else step(x) for step, x in zip(steps, [*xs, xs[-1]], strict=True)]
            xs = getattr(self, f"stage{stage + 1}")(xs)
        return xs


def variants() -> tuple[str, ...]:
    """The members of the family."""
    return tuple(HRNETS)


def build(variant: str) -> HRNet:
    """The HRNet of a key of HRNETS."""
    return HRNet(variant)
