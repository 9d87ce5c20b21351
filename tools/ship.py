"""Put a run's weights into the box:  python tools/ship.py runs/graphormer_lite [NAME]

Writes mesh_graphormer_hand/weights/NAME: the model with its matrices in half precision (networks are float32 again once
loaded, and half the size in the repository) and training.json, which says where they come from: every piece of training
that led to them, back through `train.init`. The card beside them is written by hand.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand import assembly, config, paths
from mesh_graphormer_hand.cli import console

LIMIT_MIB = 16  # of the file with the weights


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and ship; returns the exit code."""
    parser = argparse.ArgumentParser(prog="ship", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("name", nargs="?", help="of the weights (default: the run's)")
    arguments = parser.parse_args(argv)
    return console.run(lambda: ship(arguments.run, arguments.name or arguments.run.name))


def ship(run: Path, name: str) -> int:
    """Write the weights of `run` under `name` and print where they are.

    Raises:
        ConfigError: `run` is no run with a model and a checkpoint, or its weights are too large for the box.
    """
    from mesh_graphormer_hand.engine.state import write_model
    from mesh_graphormer_hand.files import write_json

    model = assembly.load_model(assembly.find_model(run))
    pieces = training(run)
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


def training(source: Path) -> list[dict]:
    """The pieces of training behind a run or shipped weights, oldest first: config, steps, images, machine, scores."""
    shipped = source / "training.json"
    if shipped.is_file():
        return read(shipped).get("pieces", [])
    states = sorted(source.glob("step_*/state.json"))
    if not states:
        return []
    state, metrics = read(states[-1]), source / "metrics.json"
    options = state.get("experiment", {}).get("train", {})
    images = state["step"] * options.get("batch_size", 0)  # of all processes and micro-batches together
    earlier = before(options.get("init", ""))
    names = [Path(source).name for source in config.sources(options.get("init", ""))]
    options.update(init=", ".join(names), output="runs")  # no folders of this machine
    return [*earlier, {**state, "images": images, "metrics": read(metrics) if metrics.is_file() else None}]


def before(init: str) -> list[dict]:
    """The pieces behind the weights that a run started from, each once."""
    pieces: list[dict] = []
    for source in config.sources(init):
        folder = assembly.find_model(source)
        found = training(folder.parent if folder.name == "model" else folder)
        pieces += [piece for piece in found if piece not in pieces]
    return pieces


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
