"""Weights of other programs as ours:  hand-convert FILE OUT [--config NAME] [--hand PATH]   (tools/convert.py)

FILE is the published graphormer_hand_state_dict.bin, or an ImageNet HRNet trunk (hrnetv2_w64_imagenet_pretrained.pth or
a sibling). What no published forward pass reads is dropped by name; any other name or size that is not expected is an
error, and so is a file that would run code. OUT becomes a folder that every tool here loads. Of a trunk it holds a
network that is fresh but for it:  hand-train ... train.init=OUT train.init_parts=[backbone]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import console

if TYPE_CHECKING:
    from torch import Tensor

    from ..mano.hand import Hand
    from ..models.base import HandModel

SHOWN = 5  # names of a list in a message
PREFIX = "module."  # of files saved from DataParallel
NESTS = ("state_dict", "model", "model_state_dict")  # keys that training scripts put weights under
COUNTER = ".num_batches_tracked"  # of batch norms: no forward pass reads it, older files lack it


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and convert; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-convert", description=__doc__.splitlines()[0])
    parser.add_argument("file", metavar="FILE", type=Path, help="the published weights: .bin, .pth, .safetensors")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    networks = f"of the network: a file, or one of {console.shipped_configs(*console.NETWORKS)}"
    parser.add_argument(
        "--config", metavar="NAME", default="graphormer_published", help=f"{networks} (default: graphormer_published)"
    )
    parser.add_argument("--hand", metavar="PATH", help="the hand that the weights are for (default: your MANO hand)")
    arguments = parser.parse_args(argv)
    return console.run(lambda: convert(arguments))


def convert(arguments: argparse.Namespace) -> int:
    """Convert with the options of the command line; see the module's docstring."""
    from .. import config as configs

    experiment = configs.load(arguments.config)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise NotADirectoryError(f"OUT {arguments.out} is a file, not a folder")
    state = read_state(arguments.file)
    console.log_to_terminal()

    import torch

    from .. import assembly
    from ..training.run_state import write_model

    whole = any(name.startswith("trans_encoder.") for name in state)
    hand = choose_hand(arguments.hand, whole)
    with torch.device("meta" if whole else "cpu"):
        model = assembly.build_model(experiment, hand)
    taken, dropped = (fill_network if whole else fill_trunk)(model, state, arguments.file)
    model.restore_constants(hand)
    write_model(model, arguments.out)
    kind = "published Mesh Graphormer" if whole else "HRNet trunk"
    print(f"{kind}: {taken} tensors taken, {dropped} that no forward pass reads dropped, hand {hand.fingerprint_hex}")
    for name in ("config.json", "model.safetensors"):
        print(arguments.out / name)
    if whole:
        warn_of_mesh()
    return 0


def warn_of_mesh() -> None:
    """Say so where the published coarse mesh, on which the published network was trained, is not here."""
    from .. import paths

    published = paths.MANO_ASSETS / "mano_downsampling.npz"
    if not published.is_file():
        print(
            f"warning: {published} is not there: this network was trained on the coarse mesh in it, and on the one "
            "that is made instead its answers are off; put it there and convert again",
            file=sys.stderr,
        )


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a file of torch.save or safetensors, without executing any code in it.

    Raises:
        ConfigError: a damaged file, one that holds more than tensors, or no tensors by name.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ..config import ConfigError

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
    from ..config import ConfigError
    from ..mano import hand as hands

    hand = hands.load(source or "auto")
    if whole and source is None and hand.name == "open":
        raise ConfigError(
            "the published network gives MANO's 778 vertices, which are not the open hand's: put MANO_RIGHT.pkl (and "
            "mano_downsampling.npz, its coarse mesh) into mano_assets/, or name your hand with --hand"
        )
    return hand


def fill_network(model: HandModel, state: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """Give a network on the meta device the published weights; returns how many were taken and dropped."""
    from ..inference.convert_published import from_published

    ours = from_published(state)
    own = model.state_dict()
    check_fit(ours, own, path)
    counters = {n: v.new_zeros((), device="cpu") for n, v in own.items() if n.endswith(COUNTER) and n not in ours}
    model.load_state_dict({n: _as(own[n], v) for n, v in ours.items()} | counters, assign=True)
    return len(ours), len(state) - len(ours)


def fill_trunk(model: HandModel, state: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """Give a network's trunk ImageNet weights, which lack nothing and have a classifier more."""
    from ..backbones.neck import PREFIXES as NECK
    from ..config import ConfigError

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


def check_fit(given: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """
    Raises:
        ConfigError: names or sizes that differ, or numbers that are not finite; the message lists the first few.
    """
    from ..config import ConfigError

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


def _as(like: Tensor, value: Tensor) -> Tensor:
    """The value in our type (files in half precision become float32) and in one piece."""
    return value.to(like.dtype).contiguous()


def _list(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
