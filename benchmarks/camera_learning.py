"""How a small Mesh Graphormer learns its camera (R, t, s):  python benchmarks/camera_learning.py [--plot FILE]

The paper's network at a hundredth of its size, `camera.rotation: learned` as in configs/graphormer.yaml, trained for
2,000 steps from nothing. Every 100 steps, on samples of the frozen split: the angle between the learned and the known
rotation of the wrist, the scale's error and the shift's. Prints a table, draws a plot.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console

if TYPE_CHECKING:
    from mesh_graphormer_hand.contracts import HandBatch, HandPrediction

OPTIONS = """{name: mesh_graphormer, backbone: {name: hrnet_w18_small}, head_planes: [8, 16, 32, 64], feature: 256,
coarse: 98, widths: [128, 64, 32], outputs: [128, 64], layers: 1, dropout: 0.0, init: mesh,
camera: {rotation: learned}}"""
OPTIMIZER = "{name: adamw, lr: 1.0e-3, weight_decay: 0.02, schedule: cosine, warmup: 100, clip_grad: 1.0}"
LOSSES = "{rotation: 5, vertices_local: 100, joints_local_l1: 100, joints_l1: 50, joints_2d_l1: 5}"
EVERY, JUDGED = 100, 128  # steps; samples
NAMES = ("rotation, degrees", "scale, %", "shift, mm")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="camera_learning", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="side of the crops (default: 64)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="where to draw the curves")
    return console.run(lambda: run(parser.parse_args(argv)))


def run(arguments: argparse.Namespace) -> int:
    """Print a row every 100 steps."""
    rows = []
    print("| step | " + " | ".join(NAMES) + " |\n|---|---|---|---|")
    for step, errors in train(arguments.steps, arguments.size):
        rows.append((step, *errors))
        print(f"| {step} | " + " | ".join(f"{e:.3g}" for e in errors) + " |", flush=True)
    if arguments.plot:
        draw(rows, arguments.plot)
        print(arguments.plot)
    return 0


def train(steps: int, size: int) -> Iterator[tuple[int, tuple[float, float, float]]]:
    """The step and the median errors of rotation (degrees), scale (%) and shift (mm)."""
    import torch

    from mesh_graphormer_hand import assembly
    from mesh_graphormer_hand import config as configs
    from mesh_graphormer_hand.data.loader import load
    from mesh_graphormer_hand.losses import supervised_losses
    from mesh_graphormer_hand.training.optim import build_optimizer, learning_rate, set_learning_rate

    overrides = [f"model={OPTIONS}", f"train.losses={LOSSES}", f"train.optimizer={OPTIMIZER}"]
    overrides += [f"data.image_size={size}", f"train.steps={steps}"]
    experiment = configs.load("graphormer_lite", overrides)
    hand = assembly.load_hand(experiment)
    torch.manual_seed(0)
    model = assembly.build_model(experiment, hand)
    template, losses = model.template(hand), experiment.train.losses
    optimizer = build_optimizer(model, experiment.train.optimizer)
    judged = assembly.build_tests(experiment, hand)["virtual"].load(list(range(JUDGED)))
    stream = assembly.build_stream(experiment, hand)
    for step, batch in enumerate(load(stream, range(steps), workers=1, device=torch.device("cpu"))):
        if step % EVERY == 0:
            yield step, measured(model, judged)
        set_learning_rate(optimizer, learning_rate(experiment.train.optimizer, step, steps))
        terms = supervised_losses(model.train()(batch.inputs), batch.targets, losses, template)
        optimizer.zero_grad()
        sum(losses[name] * value.mean() for name, value in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), experiment.train.optimizer.clip_grad)
        optimizer.step()
    yield steps, measured(model, judged)


def measured(model, batch: HandBatch) -> tuple[float, float, float]:
    """Median errors of a model on labelled samples."""
    import torch

    with torch.inference_mode():
        return camera_errors(model.eval()(batch.inputs), batch)


def camera_errors(prediction: HandPrediction, batch: HandBatch) -> tuple[float, float, float]:
    """Medians of the angle between learned and known rotation (degrees), of the scale's error (%) and of the shift's
    (mm); the known scale and shift are those of weak perspective that fit the labels."""
    import torch

    from mesh_graphormer_hand.geometry.fitting import fit_weak_perspective
    from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle

    targets = batch.targets
    known = axis_angle_to_matrix(targets.pose[:, 0])
    angle = matrix_to_axis_angle(prediction.rotation.mT @ known).norm(dim=-1)
    uv = 2 * targets.joints_2d / targets.crop_size[:, None, None] - 1
    camera = fit_weak_perspective(targets.joints, uv, torch.ones_like(uv[..., 0]))
    scale = (prediction.camera[:, 0] / camera[:, 0] - 1).abs()
    shift = (prediction.camera[:, 1:] - camera[:, 1:]).norm(dim=-1)
    return math.degrees(angle.median()), 100 * float(scale.median()), 1000 * float(shift.median())


def draw(rows: list[tuple[int, float, float, float]], path: Path) -> None:
    """Three curves over the steps."""
    from matplotlib.figure import Figure

    from mesh_graphormer_hand.files import replacing

    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for k, (axes, name) in enumerate(zip(figure.subplots(1, 3), NAMES, strict=True), start=1):
        axes.plot([row[0] for row in rows], [row[k] for row in rows])
        axes.set(title=f"median error: {name}", xlabel="step", ylim=(0, None))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80)


if __name__ == "__main__":
    sys.exit(main())
