"""What a network must be, to be trained, evaluated, saved and demoed: a transformers PreTrainedModel on our contracts.

A plug-in file holds a dataclass `Config` (its options), a subclass of `HandModel` and
`build(config: HandModelConfig, hand: Hand) -> HandModel`. One hub config serves them all: it names the plug-in, keeps
the plug-in's options and the fingerprint of the hand that the network was made for.

Constants of the hand (template, regressor, adjacency) are non-persistent buffers: no licensed number is ever saved.
`from_pretrained` builds on the meta device and would leave them as garbage: `constants` puts them back.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any, Self, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from ..config import ConfigError, nearest
from ..contracts import HandBatch, HandInputs, HandPrediction
from ..mano import hand as hands
from ..mano.hand import Hand

logger = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Keys of the hub's own base class that are no dataclass fields of it.
_HUB_KEYS = {"model_type", "torch_dtype", "name_or_path", "num_labels", "output_attentions", "attn_implementation"}


@no_type_check  # the hub's base class rewrites __init__ behind the shape checker's back
class HandModelConfig(PretrainedConfig):
    """The hub's config of every model here.

    Raises:
        ConfigError: an unknown key (the base class would swallow it), with the nearest known one.
    """

    model_type = "mesh_graphormer_hand"

    name: str = ""  # plug-in: file under models/
    options: dict | None = None  # of the plug-in's Config; parsed by the plug-in
    image_size: int = 224  # px, the side of the crops that the model was trained on
    hand: str = ""  # fingerprint of the hand that it was made for, as 16 hexadecimal digits
    mesh: str = ""  # the same of the hand's coarse mesh, for models that work on one

    def __post_init__(self, **kwargs: Any) -> None:
        own = ["name", "options", "image_size", "hand", "mesh"]
        known = {f.name for f in dataclasses.fields(self)} | _HUB_KEYS
        for key in kwargs:
            if key not in known and not key.startswith("_"):
                raise ConfigError(f"unknown key {key!r} in a model's config{nearest(key, own)} (own: {', '.join(own)})")
        self.options = dict(self.options or {})
        super().__post_init__(**kwargs)


class HandModel(PreTrainedModel):
    """A network from HandInputs to HandPrediction.

    Subclasses set `produces` (the HandPrediction fields that they fill), read their options from `config.options`, and
    give the hand's constants in `constants`.
    """

    config_class = HandModelConfig
    main_input_name = "inputs"
    produces: tuple[str, ...] = ()
    private_terms: tuple[str, ...] = ()  # names of `private_losses`
    output_layers: tuple[str, ...] = ()  # that give outputs of eight numbers or more: no hidden layers (`engine.muon`)
    coarse: int = 195  # vertices of the coarse mesh that `vertices_coarse` is on

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """`hand`: the hand that `config.hand` names, where it is loaded already.

        Raises:
            ConfigError: `hand` is another one than the config's.
        """
        super().__init__(config)
        self.post_init()
        hand = hand if hand is not None else hands.find(config.hand)
        if config.hand and config.hand != hand.fingerprint_hex:
            raise ConfigError(f"the model was made for the hand {config.hand}, not for {hand.fingerprint_hex}")
        config.hand = hand.fingerprint_hex
        mesh = self.coarse_mesh(hand)
        if config.mesh and config.mesh != mesh:
            logger.warning(
                "the model was trained on the coarse mesh %s of this hand, here it is %s, and its answers will be off: "
                "was mano_assets/mano_downsampling.npz put in or taken out since?",
                config.mesh,
                mesh,
            )
        config.mesh = config.mesh or mesh
        for name, value in (self._image_statistics() | self.constants(hand)).items():
            self.register_buffer(name, value, persistent=False)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The hand's numbers that this network uses, by buffer name; none by default."""
        return {}

    def coarse_mesh(self, hand: Hand) -> str:
        """The fingerprint of the coarse mesh that this network works on, none by default."""
        return ""

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict for a batch of crops."""
        raise NotImplementedError

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """Terms that only this architecture has, one value per sample; pure functions of their arguments."""
        return {}

    def normalise(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """RGB in [0, 1] -> zero mean and unit deviation on ImageNet, as published trunks expect."""
        return (image - self.image_mean) / self.image_std

    @classmethod
    def from_pretrained(cls, path: str | Path, hand: Hand | None = None, **kwargs: Any) -> Self:
        """Load what `save_pretrained` wrote, with the constants of the hand that it was made for.

        Raises:
            ConfigError: an unknown config key, or another hand than the model's.
            UnknownHandError: no hand on this machine has the model's fingerprint.
        """
        loaded = super().from_pretrained(path, hand, **kwargs)  # by keyword it would override config.hand
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.restore_constants(hand)
        return loaded

    def restore_constants(self, hand: Hand | None = None) -> None:
        """Fill the non-persistent buffers anew, on the device and in the type of the parameters."""
        hand = hand if hand is not None else hands.find(self.config.hand)
        like = next(self.parameters())
        for name, value in (self._image_statistics() | self.constants(hand)).items():
            value = value.to(like.device, like.dtype) if value.is_floating_point() else value.to(like.device)
            self._buffers[name] = value

    @staticmethod
    def _image_statistics() -> dict[str, Tensor]:
        with torch.device("cpu"):
            statistics = {"image_mean": torch.tensor(IMAGENET_MEAN), "image_std": torch.tensor(IMAGENET_STD)}
        return {name: value[:, None, None] for name, value in statistics.items()}

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: modules initialise themselves when they are built."""
