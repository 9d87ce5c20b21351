"""Put a run's weights into the box:  python tools/ship.py runs/graphormer_lite [NAME] [--with RUN ...]

Writes mesh_graphormer_hand/weights/NAME: the model with its matrices in half precision (networks are float32 again once
loaded, and half the size in the repository) and training.json, which says where they come from: every piece of training
that led to them, back through `train.init`. The card beside them is written by hand. `--with`: the mean of several
runs' weights, one trained on from the other (Wortsman et al., "Model soups", ICML 2022).
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand import config, paths
from mesh_graphormer_hand.cli import console

if TYPE_CHECKING:
    from torch import Tensor, nn

LIMIT_MIB = 16  # of the file with the weights


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and ship; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ship", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("name", nargs="?", help="of the weights (default: the run's)")
    parser.add_argument("--with", dest="others", type=Path, nargs="+", default=[], help="runs to take the mean with")
    arguments = parser.parse_args(argv)
    return console.run(lambda: ship(arguments.run, arguments.name or arguments.run.name, arguments.others))


def ship(run: Path, name: str, others: Sequence[Path] = ()) -> int:
    """Write the weights of `run`, or their mean with those of `others`, under `name` and print where they are.

    Raises:
        ConfigError: no run with a model and a checkpoint, networks that differ, or weights too large for the box.
    """
    from mesh_graphormer_hand import assembly
    from mesh_graphormer_hand.files import write_json
    from mesh_graphormer_hand.models.base import write_model

    model = assembly.load_model(assembly.find_model(run))
    model.load_state_dict(mean([model, *(assembly.load_model(assembly.find_model(other)) for other in others)]))
    pieces = merged(training(source) for source in [*others, run])
    if not pieces:
        raise config.ConfigError(f"{run} has no checkpoint step_*/ that says how it was trained")
    # Biases, gains and the statistics of batch norms stay as they are: they are few, and some exceed half precision.
    weights = {key: value.half() if value.dim() > 1 else value for key, value in model.state_dict().items()}
    size = sum(v.numel() * v.element_size() for v in weights.values()) / 2**20
    if size > LIMIT_MIB:
        raise config.ConfigError(f"{run}: {size:.1f} MiB of weights, the box takes {LIMIT_MIB}")
    folder = paths.WEIGHTS / name
    write_model(model, folder, weights)
    write_json(folder / "training.json", {"images": sum(p["images"] for p in pieces), "pieces": pieces})
    print(f"{size:.1f} MiB, {len(pieces)} pieces of training\n{folder}")
    return 0


def mean(models: "Sequence[nn.Module]") -> "dict[str, Tensor]":
    """The mean of the models' weights and statistics; counters are the first one's.

    Raises:
        ConfigError: they are not of one kind.
    """
    import torch

    states = [model.state_dict() for model in models]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise config.ConfigError("the runs' networks differ: no mean of their weights")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if first.is_floating_point() else first
        for name, first in states[0].items()
    }


def training(source: Path) -> list[dict]:
    """The pieces of training behind a run or shipped weights, oldest first: config, steps, images, machine, scores."""
    shipped = source / "training.json"
    if shipped.is_file():
        return read(shipped).get("pieces", [])
    states = sorted(source.glob("step_*/state.json"), key=lambda path: int(path.parent.name.partition("_")[2]))
    if not states:
        return []
    state, metrics = read(states[-1]), source / "metrics.json"
    options = state.get("experiment", {}).get("train", {})
    images = state["step"] * options.get("batch_size", 0)  # of all processes and micro-batches together
    earlier = before(options.get("init", ""))
    names = [Path(source).name for source in config.sources(options.get("init", ""))]
    options.update(init=", ".join(names), output="runs")
    state = without_folders(state)
    return [*earlier, {**state, "images": images, "metrics": read(metrics) if metrics.is_file() else None}]


def without_folders(value: Any) -> Any:
    """The settings with no folder of this machine in them: of an absolute path only its last part."""
    if isinstance(value, dict):
        return {key: without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def before(init: str) -> list[dict]:
    """The pieces behind the weights that a run started from, each once."""
    from mesh_graphormer_hand import assembly

    folders = [assembly.find_model(source) for source in config.sources(init)]
    return merged(training(folder.parent if folder.name == "model" else folder) for folder in folders)


def merged(lists: Iterable[list[dict]]) -> list[dict]:
    """All pieces in order, each once."""
    pieces: list[dict] = []
    for found in lists:
        pieces += [piece for piece in found if piece not in pieces]
    return pieces


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
