"""What the posed hand nearest to a regressed mesh costs and changes:  python benchmarks/mesh.py [--weights RUN]

Scores the frozen virtual test split's first samples with the meshes as the model regressed them and with those that
`hand-demo --mesh mano` shows, and prints the time that the fit of one hand takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console

if TYPE_CHECKING:
    from mesh_graphormer_hand.contracts import HandPrediction
    from mesh_graphormer_hand.mano.hand import Hand

BATCH, SHOWN = 16, ("pa_mpjpe", "pa_mpvpe", "mpjpe", "mpvpe")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_mesh", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    parser.add_argument("--count", type=int, default=256)
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print both scores and the time."""
    import torch

    from mesh_graphormer_hand import assembly
    from mesh_graphormer_hand.inference.predictor import DEFAULT_WEIGHTS
    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.metrics.measures import per_sample

    console.log_to_terminal()
    model = assembly.load_model(assembly.find_model(arguments.weights or DEFAULT_WEIGHTS))
    hand = hands.find(model.config.hand)
    dataset = assembly.build_dataset("virtual", {}, "test", hand, model.config.image_size)
    scores, times = {"regressed": [], "mano": []}, []
    for start in console.bar(range(0, arguments.count, BATCH), arguments.count // BATCH, "batch"):
        with torch.inference_mode():
            batch = dataset.load(list(range(start, min(start + BATCH, arguments.count))), "cpu")
            prediction = model(batch.inputs)
            scores["regressed"].append(per_sample(prediction, batch.targets))
            scores["mano"].append(per_sample(smooth(prediction, hand), batch.targets))
            began = time.perf_counter()
            smooth(prediction[:1], hand)
            times.append(time.perf_counter() - began)
    for name, measured in scores.items():
        means = {key: torch.cat([m[key] for m in measured]).mean() for key in SHOWN}
        print(f"{name:10}", *(f"{key} {float(value):.2f} mm  " for key, value in means.items()))
    print(f"one hand's fit takes {1e3 * statistics.median(times):.0f} ms (median of {len(times)})")
    return 0


def smooth(prediction: HandPrediction, hand: Hand) -> HandPrediction:
    """The prediction with the mesh and the joints of the posed hands nearest to its meshes."""
    from mesh_graphormer_hand.inference.postprocess import FIT_NOISE_M
    from mesh_graphormer_hand.mano.fit import fit_mano, posed_mesh

    fitted = fit_mano(hand, prediction.vertices, noise=FIT_NOISE_M)
    vertices, joints = posed_mesh(hand, fitted.pose, fitted.shape)
    return replace(prediction, vertices=vertices, joints=joints)


if __name__ == "__main__":
    sys.exit(main())
