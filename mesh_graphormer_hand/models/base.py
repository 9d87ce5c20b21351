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
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, no_type_check

import torch
from einops import rearrange
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging as hf_logging

from ..backbones.neck import PREFIXES as NECK
from ..config import ConfigError, CropSpec, nearest, parse
from ..contracts import HandBatch, HandInputs, HandPrediction
from ..geometry.heatmaps import HeatmapCodec
from ..layers.graph_conv import adjacency_edges
from ..layers.transformer import Graph
from ..mano import hand as hands
from ..mano.hand import Hand, fingerprint_to_hex
from ..mano.template import HandTemplate, hand_template
from ..skeleton import NUM_JOINTS, WRIST

logger = logging.getLogger(__name__)

XYZ = 3
SIZE_STEP_PX = 32  # of the sides of an image, for networks of any size
INITS = "published", "mesh"  # ways to start a mesh network
POSITION_STD = 0.5  # of positions on a network that starts on the mesh; embedded features are about as large
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
    crop: dict | None = None  # of a CropSpec: what its crops show; default: CropSpec()

    def __post_init__(self, **kwargs: Any) -> None:
        own = ["name", "options", "image_size", "hand", "mesh", "crop"]
        known = {f.name for f in dataclasses.fields(self)} | _HUB_KEYS
        for key in kwargs:
            if key not in known and not key.startswith("_"):
                raise ConfigError(f"unknown key {key!r} in a model's config{nearest(key, own)} (own: {', '.join(own)})")
        self.options = dict(self.options or {})
        self.crop = dataclasses.asdict(parse(CropSpec, self.crop or {}, where="crop"))
        super().__post_init__(**kwargs)

    @property
    def crop_spec(self) -> CropSpec:
        """What the model's crops show."""
        return CropSpec(**self.crop)


class SaveError(RuntimeError):
    """A model that cannot be written."""


class HandModel(PreTrainedModel):
    """A network from HandInputs to HandPrediction.

    Subclasses set `produces` (the HandPrediction fields that they fill), read their options from `config.options`, and
    give the hand's constants in `constants`.
    """

    config_class = HandModelConfig
    main_input_name = "inputs"
    produces: tuple[str, ...] = ()
    any_size: bool = False  # whether it sees images of any size: multiples of SIZE_STEP_PX, not squares alone
    reads: tuple[str, ...] = ("image",)  # fields of HandInputs; with "joints_2d" it lifts 2D joints
    codec: HeatmapCodec | None = None  # of its joint heat maps, for models that have some
    private_terms: tuple[str, ...] = ()  # names of `private_losses`
    output_layers: tuple[
        str, ...
    ] = ()  # that give outputs of eight numbers or more: no hidden layers (training/muon.py)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """`hand`: the hand that `config.hand` names, where it is loaded already.

        Raises:
            ConfigError: `hand` is another one than the config's.
        """
        super().__init__(config)
        self.post_init()
        hand = self.hand_of(hand)
        if config.hand and config.hand != hand.fingerprint_hex:
            raise ConfigError(f"the model was made for the hand {config.hand}, not for {hand.fingerprint_hex}")
        config.hand = hand.fingerprint_hex
        for name, value in (self._image_statistics() | self.constants(hand)).items():
            self.register_buffer(name, value, persistent=False)

    def hand_of(self, hand: Hand | None) -> Hand:
        """`hand`, or where there is none the one that the config names."""
        return hand if hand is not None else hands.find(self.config.hand)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The hand's numbers that this network uses, by buffer name; none by default."""
        return {}

    def template(self, hand: Hand) -> HandTemplate:
        """The hand at rest, with the coarse mesh that `vertices_coarse` is on."""
        return hand_template(hand)

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
        hand = self.hand_of(hand)
        like = next(self.parameters())
        for name, value in (self._image_statistics() | self.constants(hand)).items():
            value = value.to(like.device, like.dtype) if value.is_floating_point() else value.to(like.device)
            self._buffers[name] = value

    @staticmethod
    def _image_statistics() -> dict[str, Tensor]:
        with torch.device("cpu"):
            statistics = {"image_mean": torch.tensor(IMAGENET_MEAN), "image_std": torch.tensor(IMAGENET_STD)}
        return {name: value[:, None, None] for name, value in statistics.items()}

    @classmethod
    def migrate(cls, state: dict[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
        """A saved state dict under today's parameter names; models whose names have changed rename them here."""
        return state

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Nothing: modules initialise themselves when they are built."""


class MeshModel(HandModel):
    """A network that regresses 21 joints and a coarse mesh, and the 778 vertices from the coarse ones.

    Subclasses set `coarse`, the number of coarse vertices, before this class's constructor runs, and have the modules
    `encoders` (layers.transformer) and `upsample` (coarse vertices -> vertices).
    """

    produces = ("joints", "joints_token", "joints_2d", "joints_token_2d", "vertices", "vertices_coarse", "camera")
    coarse: int

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """Warns where this machine's coarse mesh of the hand is not the one that the model was trained on."""
        super().__init__(config, hand)
        hand = self.hand_of(hand)
        mesh = fingerprint_to_hex(self.template(hand).coarse_fingerprint)
        if config.mesh and config.mesh != mesh:
            logger.warning(
                "the model was trained on the coarse mesh %s of this hand, here it is %s, and its answers will be off: "
                "was mano_assets/mano_downsampling.npz put in or taken out since?",
                config.mesh,
                mesh,
            )
        config.mesh = config.mesh or mesh

    def template(self, hand: Hand) -> HandTemplate:
        """The hand at rest, with this network's coarse mesh."""
        return hand_template(hand, self.coarse)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """Template queries (joints, then coarse vertices, m), joint regressor and graph operator of the hand."""
        template = self.template(hand)
        edges, weights = adjacency_edges(template.adjacency)
        return {
            "queries": torch.cat([template.joints, template.coarse_vertices]),
            "joint_regressor": template.joint_regressor,
            "graph_edges": edges,
            "graph_weights": weights,
            "fingerprint": torch.tensor(hand.fingerprint),
        }

    @property
    def graph(self) -> Graph:
        """The mesh's adjacency over the vertex tokens, which follow the joint tokens."""
        return Graph(NUM_JOINTS, len(self.queries), self.graph_edges, self.graph_weights)

    def split(self, tokens: Float[Tensor, "b n 3"]) -> MeshPoints:
        """The last encoder's output as joints, coarse vertices and, upsampled, vertices."""
        joints, coarse = tokens[:, :NUM_JOINTS], tokens[:, NUM_JOINTS : len(self.queries)]
        vertices = rearrange(self.upsample(rearrange(coarse, "b v c -> b c v")), "b c v -> b v c")
        return MeshPoints(joints, coarse, vertices)

    @classmethod
    def migrate(cls, state: dict[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
        """The neck's parameters once were the backbone's."""
        old = tuple(f"backbone.{prefix}" for prefix in NECK)
        return {(f"neck{n.removeprefix('backbone')}" if n.startswith(old) else n): v for n, v in state.items()}

    @torch.no_grad()
    def start_on_mesh(self, hand: Hand) -> None:
        """Fresh weights that learn sooner: positions that tell the tokens apart from the first step on, the template's
        xyz passed on by the skips, the mesh's own upsampling. Not for a licensed hand: its matrix would be saved."""
        for encoder in self.encoders:
            encoder.positions.weight.normal_(std=POSITION_STD)
            encoder.head.weight[:XYZ] *= 0.02
            encoder.skip.weight[:XYZ] = torch.eye(XYZ, encoder.skip.in_features)
        self.upsample.weight.copy_(self.template(hand).upsample)
        self.upsample.bias.zero_()


@dataclass(frozen=True)
class MeshPoints:
    """What the last encoder says, m: of joints, coarse vertices and vertices."""

    joints: Float[Tensor, "b 21 3"]
    coarse: Float[Tensor, "b v 3"]
    vertices: Float[Tensor, "b 778 3"]

    def map(self, function: Callable[[Float[Tensor, "b n 3"]], Float[Tensor, "b n 3"]]) -> MeshPoints:
        """The points with `function` applied to each set."""
        return MeshPoints(function(self.joints), function(self.coarse), function(self.vertices))

    def relative(self, joint_regressor: Float[Tensor, "21 778"]) -> dict[str, Tensor]:
        """The points as HandPrediction has them, each set relative to its own wrist. The joints that count are the
        mesh's, by the joint regressor."""
        joints = joint_regressor @ self.vertices
        wrist, token_wrist = (j[:, WRIST : WRIST + 1] for j in (joints, self.joints))
        return {
            "joints": joints - wrist,
            "joints_token": self.joints - token_wrist,
            "vertices": self.vertices - wrist,
            "vertices_coarse": self.coarse - wrist,
        }


def write_model(model: HandModel, folder: Path, weights: Mapping[str, Shaped[Tensor, "..."]] | None = None) -> None:
    """Put the model in `save_pretrained` format into `folder`, each file replaced in one move.

    Raises:
        SaveError: the disk is full or refuses.
    """
    temporary = folder.with_name(f".writing_{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    state = {name: value.detach().cpu().contiguous() for name, value in (weights or model.state_dict()).items()}
    try:
        with _no_bars():
            model.save_pretrained(temporary, state_dict=state)
        folder.mkdir(parents=True, exist_ok=True)
        for file in temporary.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner may read
            file.replace(folder / file.name)
    except (OSError, SafetensorError) as error:
        raise SaveError(f"cannot write {folder}: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the bars that transformers shows while it writes: they would tear ours."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
