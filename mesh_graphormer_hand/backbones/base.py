"""What a backbone is, and how a config names one.

A file of this folder is a family: `variants()` names its members and `build(variant)` makes one. A config says
`backbone: {name: FAMILY_VARIANT}`, such as hrnet_w64 or resnet_50; adding a family is adding a file. timm's hundreds of
backbones are not offered: timm needs torchvision, which has no build for the CPU version of torch that we pin.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ..config import ConfigError, nearest

BACKBONES = __package__


@dataclass
class BackboneConfig:
    name: str = "hrnet_w64"  # FAMILY_VARIANT, see backbones/


class Backbone(nn.Module):
    """Normalised image -> feature maps, from fine to coarse, each half the size of the one before."""

    dims: tuple[int, ...]  # channels of each map
    strides: tuple[int, ...]  # px of the image for a cell of each map

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """`image`: RGB, normalised as of ImageNet, whose sides are multiples of the last stride. Gives maps
        (b, dims[i], h / strides[i], w / strides[i])."""
        raise NotImplementedError


def available() -> dict[str, tuple[str, str]]:
    """Name -> family and variant of every backbone."""
    names = {}
    for module in pkgutil.iter_modules(importlib.import_module(BACKBONES).__path__):
        family = importlib.import_module(f"{BACKBONES}.{module.name}")
        names |= {
            f"{module.name}_{variant}": (module.name, variant) for variant in getattr(family, "variants", tuple)()
        }
    return names


def build_backbone(config: BackboneConfig) -> Backbone:
    """The backbone that `model.backbone` names, with fresh weights.

    Raises:
        ConfigError: no such backbone; the message lists them.
    """
    known = available()
    if config.name not in known:
        hint = nearest(config.name, list(known))
        raise ConfigError(f"model.backbone.name: no backbone {config.name!r}{hint} (there are: {', '.join(known)})")
    family, variant = known[config.name]
    return importlib.import_module(f"{BACKBONES}.{family}").build(variant)
