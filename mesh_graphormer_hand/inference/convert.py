"""Weights of other programs as ours: the published Mesh Graphormer hand network, and ImageNet trunks of HRNet.

The published file holds 43 M numbers that no forward pass reads: the encoders' BERT embeddings (the live position table
is another one), their poolers, the graph blocks' `skip_conv` and the trunk's classifier. Exactly these are dropped.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .. import assembly, paths
from .. import config as configs
from ..backbones.neck import PREFIXES as NECK
from ..config import ConfigError
from ..mano import hand as hands
from ..mano.hand import Hand
from ..models.base import HandModel, write_model

LISTED_NAMES = 5  # names of a list in a message
PREFIX = "module."  # of files saved from DataParallel
NESTS = ("state_dict", "model", "model_state_dict")  # keys that training scripts put weights under
COUNTER = ".num_batches_tracked"  # of batch norms: no forward pass reads it, older files lack it
DEAD = re.compile(
    r"backbone\.classifier\.(weight|bias)"
    r"|trans_encoder\.\d+\.bert\.(embeddings|pooler)\..+"
    r"|trans_encoder\.\d+\.bert\.encoder\.layer\.\d+\.graph_conv\.skip_conv\.[Wb]"
)
# The first rule that fits a name is the only one used; the trunk keeps its names.
RULES = (
    (r"backbone\.((?:incre_modules|downsamp_modules|final_layer)\..+)", r"neck.\1"),
    (r"backbone\.(.+)", r"backbone.\1"),
    (r"trans_encoder\.(\d+)\.bert\.img_embedding\.(.+)", r"encoders.\1.embed.\2"),
    (r"trans_encoder\.(\d+)\.bert\.position_embeddings\.weight", r"encoders.\1.positions.weight"),
    (r"trans_encoder\.(\d+)\.cls_head\.(.+)", r"encoders.\1.head.\2"),
    (r"trans_encoder\.(\d+)\.residual\.(.+)", r"encoders.\1.skip.\2"),
    (r"upsampling\.(.+)", r"upsample.\1"),
    (r"cam_param_fc\.(.+)", r"camera.reduce.\1"),
    (r"cam_param_fc2\.(.+)", r"camera.hidden.\1"),
    (r"cam_param_fc3\.(.+)", r"camera.out.\1"),
    (r"grid_feat_dim\.(.+)", r"grid_embed.\1"),
)
LAYER = re.compile(r"trans_encoder\.(\d+)\.bert\.encoder\.layer\.(\d+)\.(.+)\.(\w+)")
IN_LAYER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention.norm",
    "graph_conv.pre_norm": "graph.norm_in",
    "graph_conv.lin1": "graph.reduce",
    "graph_conv.norm1": "graph.norm_reduced",
    "graph_conv.conv": "graph.conv",
    "graph_conv.norm2": "graph.norm_mixed",
    "graph_conv.lin2": "graph.expand",
    "intermediate.dense": "feed_forward.0",
    "output.dense": "feed_forward.2",
    "output.LayerNorm": "norm",
}
LEAVES = {"W": "weight", "b": "bias"}


@dataclass(frozen=True)
class Converted:
    """What became of a file."""

    whole: bool  # the published network, not a trunk alone
    summary: str


def convert_file(file: Path, out: Path, config: str, hand: str | None) -> Converted:
    """Write a network with the weights in `file` to the folder `out`.

    Args:
        config: of the network: a file, or a name in configs/.
        hand: that the weights are for; None: the MANO hand on this machine.

    Raises:
        NotADirectoryError: `out` is a file.
        ConfigError: a file that is damaged, would run code or is of another network; no MANO hand.
    """
    experiment = configs.load(config)
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"OUT {out} is a file, not a folder")
    state = read_state(file)
    whole = any(name.startswith("trans_encoder.") for name in state)
    chosen = choose_hand(hand, whole)
    with torch.device("meta" if whole else "cpu"):
        model = assembly.build_model(experiment, chosen)
    taken, dropped = (fill_network if whole else fill_trunk)(model, state, file)
    model.restore_constants(chosen)
    write_model(model, out)
    kind = "published Mesh Graphormer" if whole else "HRNet trunk"
    counts = f"{taken} tensors taken, {dropped} that no forward pass reads dropped"
    return Converted(whole, f"{kind}: {counts}, hand {chosen.fingerprint_hex}")


def missing_mesh() -> str:
    """A warning where the coarse mesh on which the published network was trained is not here, else nothing."""
    published = paths.MANO_ASSETS / "mano_downsampling.npz"
    if published.is_file():
        return ""
    return (
        f"{published} is not there: this network was trained on the coarse mesh in it, and on the one that is made "
        "instead its answers are off; put it there and convert again"
    )


def our_name(published: str) -> str | None:
    """Our name of a published parameter or buffer; None where it is a dead one.

    Raises:
        ConfigError: a name that the published network does not have.
    """
    if DEAD.fullmatch(published):
        return None
    for pattern, ours in RULES:
        if re.fullmatch(pattern, published):
            return re.sub(pattern, ours, published)
    layer = LAYER.fullmatch(published)
    if layer is None or layer[3] not in IN_LAYER:
        raise ConfigError(f"{published!r} is no parameter of the published Mesh Graphormer")
    leaf = "lin.weight" if (layer[3], layer[4]) == ("graph_conv.conv", "weight") else LEAVES.get(layer[4], layer[4])
    return f"encoders.{layer[1]}.layers.{layer[2]}.{IN_LAYER[layer[3]]}.{leaf}"


def from_published(state: Mapping[str, Shaped[Tensor, "..."]]) -> dict[str, Tensor]:
    """A published state dict under our names and in our layout, ready for a strict `load_state_dict`.

    Raises:
        ConfigError: a name that the published network does not have.
    """
    ours = {}
    for name, value in state.items():
        target = our_name(name)
        if target is not None:  # the published graph convolution multiplies from the left: X W, a linear layer X W^T
            ours[target] = value.T if target.endswith("graph.conv.lin.weight") else value
    return ours


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a file of torch.save or safetensors, without executing any code in it.

    Raises:
        ConfigError: a damaged file, one that holds more than tensors, or no tensors by name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is no file of weights, is damaged or would run code: {why}") from None
    for key in NESTS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ConfigError(f"{path} holds a {type(content).__name__}, not tensors by name")
    wrong = [str(k) for k, v in content.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor)]
    if wrong:
        raise ConfigError(f"{path} holds more than tensors by name: {_list(wrong)}")
    return {name.removeprefix(PREFIX): value for name, value in content.items()}


def choose_hand(source: str | None, whole: bool) -> Hand:
    """The hand to convert for: a trunk fits any, the published network was trained on MANO's.

    Raises:
        ConfigError: the published network, no MANO hand here, and none named.
    """
    hand = hands.load(source or "auto")
    if whole and source is None and hand.name == "open":
        raise ConfigError(
            "the published network gives MANO's 778 vertices, which are not the open hand's: put MANO_RIGHT.pkl (and "
            "mano_downsampling.npz, its coarse mesh) into mano_assets/, or name your hand with --hand"
        )
    return hand


def fill_network(model: HandModel, state: Mapping[str, Shaped[Tensor, "..."]], path: Path) -> tuple[int, int]:
    """Give a network on the meta device the published weights; returns how many were taken and dropped."""
    ours = from_published(state)
    own = model.state_dict()
    check_fit(ours, own, path)
    counters = {n: v.new_zeros((), device="cpu") for n, v in own.items() if n.endswith(COUNTER) and n not in ours}
    model.load_state_dict({n: _as(own[n], v) for n, v in ours.items()} | counters, assign=True)
    return len(ours), len(state) - len(ours)


def fill_trunk(model: HandModel, state: Mapping[str, Shaped[Tensor, "..."]], path: Path) -> tuple[int, int]:
    """Give a network's trunk ImageNet weights, which lack nothing and have a classifier more."""
    if getattr(model, "backbone", None) is None:
        raise ConfigError(f"the network {model.config.name} has no backbone for the trunk in {path}")
    ours = {n: v for n, v in state.items() if not n.startswith("classifier.")}
    ours = {f"{'neck' if n.startswith(NECK) else 'backbone'}.{n}": v for n, v in ours.items()}
    own = {n: v for n, v in model.state_dict().items() if n.startswith(("backbone.", "neck."))}
    if not any(n.startswith("neck.") for n in own):  # a network of heat maps reads the maps alone
        ours = {n: v for n, v in ours.items() if not n.startswith("neck.")}
    check_fit(ours, own, path)
    model.load_state_dict({n: _as(own[n], v) for n, v in ours.items()}, strict=False)
    return len(ours), len(state) - len(ours)


def check_fit(given: Mapping[str, Shaped[Tensor, "..."]], own: Mapping[str, Shaped[Tensor, "..."]], path: Path) -> None:
    """
    Raises:
        ConfigError: names or sizes that differ, or numbers that are not finite; the message lists the first few.
    """
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    foreign = [name for name in given if name not in own]
    sizes = [
        f"{n} {tuple(v.shape)} for {tuple(own[n].shape)}"
        for n, v in given.items()
        if n in own and v.shape != own[n].shape
    ]
    problems = {"lacks": missing, "has what no network of ours has": foreign, "has other sizes": sizes}
    reasons = [f"{what}: {_list(names)}" for what, names in problems.items() if names]
    if reasons:
        raise ConfigError(f"{path} is not this network ({'; '.join(reasons)}); is --config the right one?")
    broken = [n for n, v in given.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if broken:
        raise ConfigError(f"{path} holds numbers that are not finite: {_list(broken)}")


def _as(like: Shaped[Tensor, "*s"], value: Shaped[Tensor, "*s"]) -> Tensor:
    """The value in our type (files in half precision become float32) and in one piece."""
    return value.to(like.dtype).contiguous()


def _list(names: list[str]) -> str:
    return ", ".join(names[:LISTED_NAMES]) + (
        f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    )
