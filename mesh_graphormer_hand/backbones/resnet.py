"""ResNet trunks (He et al., CVPR 2016) with 50 layers or more, without pooling and classifier.

Parameter names are torchvision's, so its ImageNet weights load once `fc.*` is dropped. The stride lies in a block's
3 x 3 convolution, as there. ResNet-50's trunk has 23.5 M parameters.
"""

from jaxtyping import Float
from torch import Tensor, nn

from .base import Backbone

RESNETS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}  # blocks of each stage


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up to four times `width`, added to the input."""

    def __init__(self, channels: int, width: int, stride: int = 1):
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        """The block's output."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        skip = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(y)) + skip)


class ResNet(Backbone):
    """The maps of the four stages.

    Raises:
        ValueError: an unknown variant.
    """

    dims = (256, 512, 1024, 2048)
    strides = (4, 8, 16, 32)

    def __init__(self, variant: str = "50"):
        super().__init__()
        if variant not in RESNETS:
            raise ValueError(f"no ResNet {variant!r}, there are {', '.join(RESNETS)}")
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, blocks in enumerate(RESNETS[variant]):
            width = 64 * 2**stage
            layers = [Bottleneck(channels, width, stride=1 if stage == 0 else 2)]
            channels = 4 * width
            layers += [Bottleneck(channels, width) for _ in range(blocks - 1)]
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
