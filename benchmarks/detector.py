"""How well detectors find hands:  python benchmarks/detector.py [RECIPE key=value ...] [--detector NAME ...]

A table of recall, precision and average precision at IoU 0.5, by the hands' size: on virtual frames of the test split,
on the held-out photos of a recipe's `data.test.hand_frames` (`data.test.hand_frames.root=FOLDER` says where the photo
sets are), false boxes on its held-out backgrounds, and the `full_*` pictures of a folder with a keypoints.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.cli import console
from mesh_graphormer_hand.inference.detectors.options import NAMES

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mesh_graphormer_hand.data.readers.boxed_photos import BoxedPhoto
    from mesh_graphormer_hand.inference.detectors.base import Detection, Detector
    from mesh_graphormer_hand.metrics.detection import Frame

    Hands = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes (px), left ones, whether the side is known
    Shown = tuple[np.ndarray, Hands, bool]  # a photo, its hands, whether they are all there

SIZES = (0, 32, 64, 128, 256)  # px of the photo: edges of the groups of hands, the last one open
ANY = 0.02  # score from which on detections enter the average precision
HEAD = "| detector | pictures | hands px | hands | recall | precision | AP | side right | false a picture | ms |"


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_detector", description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="*", metavar="RECIPE | key=value", help="a recipe with data.test.hand_frames")
    parser.add_argument("--count", type=int, default=500, help="virtual frames (default: 500)")
    parser.add_argument("--size", type=int, default=384, help="px, side of the virtual frames")
    parser.add_argument("--photos", type=Path, help="folder of full_*.jpg and keypoints.json")
    parser.add_argument("--detector", nargs="+", choices=NAMES, default=["ours"])
    parser.add_argument("--model", help="the weights of ours, or mediapipe's model file")
    parser.add_argument("--python", help="of mediapipe")
    parser.add_argument("--threshold", type=float, help="of ours")
    parser.add_argument("--believed", metavar="WEIGHTS", help="count of ours what this network takes for a hand, too")
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="of the virtual frames")
    parser.add_argument("--calibrate", action="store_true", help="fit slope and shift of the scores to all pictures")
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print the table; see the module."""
    from mesh_graphormer_hand.metrics.detection import calibration

    photos = held_out(arguments.recipe) | ({"full_*": full_pictures(arguments.photos)} if arguments.photos else {})
    rendered = list(virtual(arguments.count, arguments.size, arguments.split))
    print(f"{HEAD}\n|{'---|' * HEAD.count(' |')}")
    for name in arguments.detector:
        (detector, threshold), seen = build(name, arguments), []
        groups = {f"{arguments.count} virtual": rendered} if rendered else {}
        for group, shown in {**groups, **{name: of_files(own) for name, own in photos.items()}}.items():
            frames, seconds = run(detector, shown)
            for line in lines(frames, threshold):
                print(f"| {name} | {group} | {line} | {1000 * seconds / max(len(frames), 1):.1f} |", flush=True)
            seen += frames
        if arguments.calibrate:
            print("model: {{slope: {:.3f}, shift: {:.3f}}}".format(*calibration(seen)), "on the scores as they are")
    return 0


def build(name: str, arguments: argparse.Namespace) -> tuple[Detector, float]:
    """The detector with threshold 0, and its own threshold."""
    from mesh_graphormer_hand.inference.detectors.options import choose

    if name != "ours":
        return choose(name, model=arguments.model, python=arguments.python), 0.0
    own = choose(name, model=arguments.model, threshold=arguments.threshold)
    if arguments.believed:
        return Believed(own, arguments.believed), own.threshold
    return choose(name, model=arguments.model, threshold=ANY), own.threshold


class Believed:
    """A detector without the boxes in which a network sees no hand, as the predictor leaves them out."""

    def __init__(self, detector: Detector, weights: str) -> None:
        from mesh_graphormer_hand.inference.predictor import HandPredictor

        self.name, self.predictor = detector.name, HandPredictor.from_pretrained(weights, detector=detector)

    def detect(self, photo: np.ndarray) -> list[Detection]:
        """See `Detector`; the sides are the predictor's."""
        found = self.predictor.predict(photo)
        return [replace(hand.detection, side=hand.side, side_score=hand.side_score) for hand in found]


def run(detector: Detector, shown: Iterable[Shown]) -> tuple[list[Frame], float]:
    """What it finds in every picture, and the seconds that it took."""
    import numpy as np
    import torch

    from mesh_graphormer_hand.metrics.detection import compare

    frames, seconds = [], 0.0
    for photo, (boxes, left, known), complete in shown:
        started = time.perf_counter()
        found = detector.detect(photo)
        seconds += time.perf_counter() - started
        own = torch.from_numpy(np.array([d.box for d in found], np.float64)).reshape(-1, 4)
        scores = torch.tensor([1.0 if d.score is None else d.score for d in found])
        sides = [None if d.side is None else d.side == "left" for d in found]
        frames.append(compare(own, scores, sides, boxes.double(), left, known, complete))
    return frames, seconds


def lines(frames: list[Frame], threshold: float) -> Iterator[str]:
    """The figures of all hands, then of each size that there is."""
    from mesh_graphormer_hand.metrics.detection import figures

    ranges = [(0, float("inf")), *zip(SIZES, (*SIZES[1:], float("inf")), strict=True)]
    for low, high in ranges:
        f = figures(frames, threshold, float(low), float(high))
        if (low, high) != ranges[0] and not f.hands:
            continue
        name = "all" if (low, high) == ranges[0] else f"{low}-" + (f"{high}" if high < float("inf") else "")
        shares = (f.recall, f.precision, f.average_precision, f.side_right)
        yield " | ".join([name, str(f.hands), *(_text(s) for s in shares), f"{f.false_per_frame:.3f}"])


def _text(share: float) -> str:
    return "-" if share != share else f"{share:.3f}"


def virtual(count: int, size: int, split: str) -> Iterator[Shown]:
    """Frames of the generator's test or validation split."""
    import numpy as np
    import torch

    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.virtual.config import VirtualConfig
    from mesh_graphormer_hand.virtual.frames import VirtualFrames

    frames = VirtualFrames(VirtualConfig(split=split), hands.load("open"))
    for index in range(count):
        made = frames.render([index], size)
        photo = (made.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        left = made.hands[0].is_left
        yield photo, (made.hands[0].boxes, left, torch.ones_like(left)), True


def held_out(recipe: list[str]) -> dict[str, list[BoxedPhoto]]:
    """The held-out photos of a recipe by their set's name, or nothing without a recipe."""
    from mesh_graphormer_hand.data.datasets.hand_frames import Config, HandFrames, check

    names = [word for word in recipe if "=" not in word]
    if not recipe:
        return {}
    if len(names) != 1:
        raise configs.ConfigError("give one recipe, such as configs/weights/hand_detector.yaml, before key=value")
    experiment: dict[str, Any] = configs.read(names[0], [word for word in recipe if "=" in word])
    where = "data.test.hand_frames"
    options = experiment.get("data", {}).get("test", {}).get("hand_frames")
    if options is None:
        raise configs.ConfigError(f"{names[0]} has no {where}: nothing is held out")
    parsed = configs.parse(Config, {**options, "boxes": "drawn"}, where=where)
    check(parsed)
    return HandFrames(parsed, "test", 0).held


def full_pictures(folder: Path) -> list[BoxedPhoto]:
    """The pictures `full_*` of a folder, by its keypoints.json."""
    from mesh_graphormer_hand.data.readers.boxed_photos import read_set

    return [photo for photo in read_set(folder) if photo.path.name.startswith("full_")]


def of_files(photos: list[BoxedPhoto]) -> Iterator[Shown]:
    """Photos read."""
    import torch

    for p in photos:
        hands = tuple(torch.from_numpy(v) for v in (p.boxes, p.left, p.left_valid))
        yield p.read(), hands, p.complete


if __name__ == "__main__":
    sys.exit(main())
