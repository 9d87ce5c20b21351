"""How often the predictor infers the right side:  python benchmarks/sides.py [--count 96] [--photos DIR]

On virtual crops of the test split (right hands; a mirrored picture gives the mirrored answer, see
tests/inference/test_predictor.py), whole and by the box of their keypoints, and on the hands of a folder with a
keypoints.json, by their boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console

if TYPE_CHECKING:
    import numpy as np

    from mesh_graphormer_hand.inference.predictor import HandPredictor

SURE = 0.8  # score from which a side counts as sure
SIZE = 192  # px of the crops


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_sides", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    parser.add_argument("--count", type=int, default=96, help="virtual crops (default: 96)")
    parser.add_argument("--photos", type=Path, help="folder of photos and keypoints.json")
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print the shares."""
    import numpy as np

    from mesh_graphormer_hand.inference.predictor import HandPredictor
    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.virtual.config import VirtualConfig
    from mesh_graphormer_hand.virtual.generator import VirtualHands

    console.log_to_terminal()
    predictor = HandPredictor.from_pretrained(arguments.weights, detector="whole")
    made = VirtualHands(VirtualConfig(split="test"), hands.load("open")).render(range(arguments.count), image_size=SIZE)
    pictures = (made.inputs.image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    points = made.targets.joints_2d.numpy()
    tell("virtual crops, whole", [is_right(predictor, p, None, "right") for p in pictures])
    tell("virtual crops, by box", [is_right(predictor, *pair, "right") for pair in zip(pictures, points, strict=True)])
    if arguments.photos:
        known = json.loads((arguments.photos / "keypoints.json").read_text(encoding="utf-8"))
        cases = [(arguments.photos / name, hand) for name, found in known.items() for hand in found]
        answers = [is_right(predictor, path, np.array(h["keypoints_px"]), h["handedness"]) for path, h in cases]
        tell("hands of photos, by box", answers)
    return 0


def is_right(
    predictor: HandPredictor, photo: np.ndarray | Path, points: np.ndarray | None, side: str
) -> tuple[bool, float]:
    """Whether the side of the hand round `points` (None: of the whole photo) is inferred right, and how sure."""
    boxes = None if points is None else [[*points.min(0), *points.max(0)]]
    (hand,) = predictor.predict(photo, boxes=boxes)
    return hand.side == side, hand.side_score


def tell(name: str, answers: list[tuple[bool, float]]) -> None:
    """A line for a group of hands."""
    right, sure = [ok for ok, _ in answers], [ok for ok, score in answers if score > SURE]
    share = f"{sum(sure) / len(sure):.3f} of {len(sure)}" if sure else "none"
    print(f"{name}: right {sum(right) / len(right):.3f} of {len(right)}, with a score above {SURE:g}: {share}")


if __name__ == "__main__":
    sys.exit(main())
