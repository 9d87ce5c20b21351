"""ResNet trunks (He et al., CVPR 2016) without pooling and classifier, and a small one of ours.

Parameter names are torchvision's, so its ImageNet weights load once `fc.*` is dropped. The stride lies in a block's
first 3 x 3 convolution, as there. Trunks of ResNet-34 and ResNet-50 have 21.3 M and 23.5 M parameters. "lite" is
ResNet-18 at half the width: 2.8 M.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from .base import Backbone


@dataclass(frozen=True)
class Variant:
    """Blocks of each stage, whether they are bottlenecks, and the first stage's channels."""

    blocks: tuple[int, int, int, int]
    bottlenecks: bool = False
    width: int = 64


RESNETS = {
    "lite": Variant((2, 2, 2, 2), width=32),
    "18": Variant((2, 2, 2, 2)),
    "34": Variant((3, 4, 6, 3)),
    "50": Variant((3, 4, 6, 3), bottlenecks=True),
    "101": Variant((3, 4, 23, 3), bottlenecks=True),
    "152": Variant((3, 8, 36, 3), bottlenecks=True),
}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions of `width` channels, added to the input."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, width, stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """The block's output."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up to four times `width`, added to the input."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        out = self.expansion * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(channels, out, stride)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """The block's output."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(y)) + skip)


def _projection(channels: int, out: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResNet(Backbone):
    """The maps of the four stages.

    Raises:
        ValueError: an unknown variant.
    """

    strides = (4, 8, 16, 32)

    def __init__(self, variant: str = "50"):
        super().__init__()
        if variant not in RESNETS:
            raise ValueError(f"no ResNet {variant!r}, there are {', '.join(RESNETS)}")
        sizes = RESNETS[variant]
        block = Bottleneck if sizes.bottlenecks else BasicBlock
        channels = sizes.width
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.dims = tuple(block.expansion * sizes.width * 2**stage for stage in range(4))
        for stage, blocks in enumerate(sizes.blocks):
            width = sizes.width * 2**stage
            layers = [block(channels, width, stride=1 if stage == 0 else 2)]
            channels = self.dims[stage]
            layers += [block(channels, width) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The output of each stage, at strides 4, 8, 16 and 32."""
        x, maps = self.maxpool(self.relu(self.bn1(self.conv1(image)))), []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


def variants() -> tuple[str, ...]:
    """The members of the family."""
    return tuple(RESNETS)


def build(variant: str) -> ResNet:
    """The ResNet of a key of RESNETS."""
    return ResNet(variant)
