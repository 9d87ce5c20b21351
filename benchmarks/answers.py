"""How well whole photos are answered:  python benchmarks/answers.py DIR [--files GLOB] [--weights RUN]

Each file of DIR that keypoints.json names goes through the predictor as a user's photo does, detector included. A hand
with labels is compared with the answer whose joints are nearest. Prints PCK@0.1 and 0.2 of the keypoints' box over all
joints with labels (without an answer they are wrong), the hands without an answer, and the sides that are right.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and print one line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_answers", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="photos and keypoints.json")
    parser.add_argument("--files", default="*", metavar="GLOB", help="of them, such as crop_*")
    parser.add_argument("--weights", help="a run, a saved model or shipped weights (default: the lite)")
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """See the module."""
    import numpy as np

    from mesh_graphormer_hand.inference.predictor import HandPredictor

    predictor = HandPredictor.from_pretrained(arguments.weights)
    labels = json.loads((arguments.folder / "keypoints.json").read_text(encoding="utf-8"))
    errors, sides, unanswered = [], [], 0
    for file in sorted(name for name in labels if Path(name).match(arguments.files)):
        answers = [h for h in predictor.predict(arguments.folder / file) if h.joints_2d is not None]
        for label in labels[file]:
            points = np.asarray(label["keypoints_px"], float)
            known = np.isfinite(points).all(-1)
            apart = [np.linalg.norm(h.joints_2d - points, axis=-1)[known] for h in answers]
            nearest = min(range(len(apart)), key=lambda i: apart[i].mean(), default=None)
            size = np.ptp(points[known], axis=0).max()
            errors.append(np.full(known.sum(), np.inf) if nearest is None else apart[nearest] / size)
            unanswered += nearest is None
            if nearest is not None and "handedness" in label:
                sides.append(answers[nearest].side == label["handedness"])
    error = np.concatenate(errors)
    shares = ", ".join(f"PCK@{r} {(error < r).mean():.3f}" for r in (0.1, 0.2))
    print(f"{len(errors)} hands, {unanswered} without an answer: {shares}; sides right: {sum(sides)} of {len(sides)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
