"""Recall and precision of a detector:  python tools/bench_detector.py [--count 500] [--photos DIR] [--detector NAME]

On virtual frames of the test split (of the generator's own mix of sizes), and on the `full_*` pictures of a folder with
a keypoints.json, whose boxes stand round key points. A detection is right if it overlaps a hand that no better one has
taken by an IoU of at least 0.5; what share of the right ones has the right side is told, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console, finding

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mesh_graphormer_hand.detectors.base import Detector

OVERLAP = 0.5
SIZES = (0.0, 0.1, 0.2, 0.4, 2.0)  # of the frame's longer side, edges of the groups of hands
FLESH = 0.08  # of the key points' extent, round them


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_detector", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="virtual frames (default: 500)")
    parser.add_argument("--size", type=int, default=384, help="px, side of the frames")
    parser.add_argument("--photos", type=Path, help="folder of full_*.jpg and keypoints.json")
    parser.add_argument("--detector", choices=finding.NAMES, default="ours")
    parser.add_argument("--model", help="the detector's weights or model file")
    parser.add_argument("--python", help="of mediapipe")
    parser.add_argument("--threshold", type=float)
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print the figures; see the module."""
    import numpy as np

    from mesh_graphormer_hand.detectors.choose import choose
    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.virtual.config import VirtualConfig
    from mesh_graphormer_hand.virtual.frames import VirtualFrames

    detector = choose(arguments.detector, model=arguments.model, python=arguments.python, threshold=arguments.threshold)
    frames = VirtualFrames(VirtualConfig(split="test"), hands.load("open"))
    tally = Tally(detector)
    for index in range(arguments.count):
        made = frames.render([index], arguments.size)
        photo = (made.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        tally.add(photo, made.hands[0].boxes, made.hands[0].is_left)
    if arguments.count:
        print(f"{arguments.count} virtual frames: {tally.report()}")
    if arguments.photos:
        print(f"photos: {of_photos(detector, arguments.photos).report()}")
    return 0


def of_photos(detector: Detector, folder: Path) -> Tally:
    """The counts over the pictures `full_*` of a folder, by its keypoints.json."""
    import torch

    from mesh_graphormer_hand.data.images import read_image

    known = json.loads((folder / "keypoints.json").read_text(encoding="utf-8"))
    tally = Tally(detector)
    for name in sorted(n for n in known if n.startswith("full_")):
        points = [torch.tensor(h["keypoints_px"]) for h in known[name]]
        boxes = torch.stack([torch.cat([p.amin(0), p.amax(0)]) for p in points])
        grow = FLESH * (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True) * torch.tensor([-1.0, -1, 1, 1])
        left = torch.tensor([h["handedness"] == "left" for h in known[name]])
        tally.add(read_image(folder / name), boxes + grow, left)
    return tally


class Tally:
    """Counts over frames."""

    def __init__(self, detector: Detector) -> None:
        self.detector, self.seconds, self.frames = detector, 0.0, 0
        self.found = self.sided = 0
        self.hits: list[tuple[float, bool]] = []  # size of a hand, and whether it was found
        self.right = 0

    def add(self, photo: np.ndarray, boxes: torch.Tensor, left: torch.Tensor) -> None:
        """One frame and its hands."""
        import numpy as np
        import torch

        from mesh_graphormer_hand.geometry.boxes import match

        started = time.perf_counter()
        detections = self.detector.detect(photo)
        self.seconds += time.perf_counter() - started
        self.frames += 1
        found = torch.from_numpy(np.stack([d.box for d in detections])) if detections else torch.zeros(0, 4)
        pairs = match(found, boxes.float(), OVERLAP)
        taken = {w for _, w in pairs}
        self.found += len(found)
        self.right += len(pairs)
        self.sided += sum((detections[f].side == "left") == bool(left[w]) for f, w in pairs)
        sizes = (boxes[:, 2:] - boxes[:, :2]).amax(1) / max(photo.shape) if len(boxes) else []
        self.hits += [(float(size), i in taken) for i, size in enumerate(sizes)]

    def report(self) -> str:
        """The figures in a line."""
        parts = [
            f"{len(self.hits)} hands, {self.found} found",
            f"recall {self.right / max(len(self.hits), 1):.3f}",
            f"precision {self.right / max(self.found, 1):.3f}",
            f"side right {self.sided / max(self.right, 1):.3f}",
            f"{1000 * self.seconds / max(self.frames, 1):.1f} ms a frame",
        ]
        for low, high in zip(SIZES[:-1], SIZES[1:], strict=True):
            group = [hit for size, hit in self.hits if low <= size < high]
            if group:
                parts.append(f"recall of sizes {low:g}-{high:g}: {sum(group) / len(group):.3f} of {len(group)}")
        return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
