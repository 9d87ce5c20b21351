"""A 2D network and a network that lifts its joints to 3D, as one: image -> 2D joints -> 3D joints.

`first` and `second` are sections `model` of two networks (name, options); the second reads `inputs.joints_2d`. The two
are trained alone and joined by `Chain.of`. With PoseNet and PosePrior it is the system of Zimmermann and Brox (ICCV
2017) on a crop; the detector hand_seg_net gives the crop.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from ..config import ConfigError, parse
from ..contracts import HandInputs, HandPrediction
from ..mano.hand import Hand
from .base import HandModel, HandModelConfig


@dataclass
class Config:
    first: dict[str, Any] = field(default_factory=lambda: {"name": "pose_net"})  # image -> joints_2d
    second: dict[str, Any] = field(default_factory=lambda: {"name": "pose_prior"})  # joints_2d -> joints


class Chain(HandModel):
    """The second network's answers, and those of the first that the second does not give."""

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: no such networks, or two that do not fit together.
        """
        super().__init__(config, hand)
        options = parse(Config, config.options, where="model")
        self.first = _build("first", options.first, config, self.hand_of(hand))
        self.second = _build("second", options.second, config, self.hand_of(hand))
        if "joints_2d" not in self.first.produces or "joints_2d" not in self.second.reads:
            raise ConfigError("model: the first network should produce joints_2d and the second read them")
        self.codec = self.first.codec
        own = [name for name in self.first.produces if name not in self.second.produces]
        self.produces = (*self.second.produces, *own)

    @classmethod
    def of(cls, first: HandModel, second: HandModel) -> Self:
        """Two trained networks joined; crops have the first one's size.

        Raises:
            ConfigError: they are of two hands, or do not fit together.
        """
        if first.config.hand != second.config.hand:
            raise ConfigError(f"two hands: {first.config.name} has {first.config.hand}, not {second.config.hand}")
        sections = {
            key: {"name": model.config.name, **model.config.options}
            for key, model in (("first", first), ("second", second))
        }
        config = replace_config(first.config, "chain", sections)
        chain = cls(config)
        chain.first.load_state_dict(first.state_dict())
        chain.second.load_state_dict(second.state_dict())
        return chain

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`."""
        seen = self.first(inputs)
        known = torch.ones(seen.joints_2d.shape[:2], dtype=torch.bool, device=seen.joints_2d.device)
        lifted = self.second(replace(inputs, joints_2d=seen.joints_2d.detach(), joints_2d_valid=known))
        own = {name: getattr(seen, name) for name in self.produces if name not in self.second.produces}
        return replace(lifted, **own)

    def restore_constants(self, hand: Hand | None = None) -> None:
        """Fill the non-persistent buffers of both networks anew."""
        super().restore_constants(hand)
        for part in (self.first, self.second):
            part.restore_constants(hand)


def replace_config(config: HandModelConfig, name: str, options: dict[str, Any]) -> HandModelConfig:
    """A config of another network for the same crops and hand."""
    return HandModelConfig(name=name, options=options, image_size=config.image_size, hand=config.hand, crop=config.crop)


def _build(key: str, section: dict[str, Any], config: HandModelConfig, hand: Hand) -> HandModel:
    """The network that a section `model` names, with fresh weights."""
    options = dict(section)
    name = str(options.pop("name", ""))
    for package in (f"{__package__}.baselines", __package__):
        if name.isidentifier() and importlib.util.find_spec(f"{package}.{name}") is not None:
            module = importlib.import_module(f"{package}.{name}")
            return module.build(replace_config(config, name, options), hand)
    raise ConfigError(f"model.{key}.name: no model named {name!r}")


def build(config: HandModelConfig, hand: Hand) -> Chain:
    """The networks with fresh weights."""
    return Chain(config, hand)
