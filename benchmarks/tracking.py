"""A virtual video with known truth through the whole chain:  python benchmarks/tracking.py [--frames 300] [--out DIR]

Renders one hand in motion (kept in DIR for the next time), follows it with and without smoothing, and prints PA-MPJPE,
acceleration error (mm per frame squared, of joints relative to the wrist and of the wrist), both against the truth, and
frames per second from the file to the annotated file.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli import console, demo

if TYPE_CHECKING:
    import numpy as np

    from mesh_graphormer_hand.inference.tracker import HandTracker

MM = 1000.0


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench_video", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", type=int, default=320, help="px, side of the video")
    parser.add_argument("--index", type=int, default=3, help="of the virtual sequence")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_video"))
    parser.add_argument("--weights")
    parser.add_argument("--detector", default="ours")
    parser.add_argument("--every", type=int, default=15)
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print a table; see the module."""
    from benchmarks.scenes import sequence
    from mesh_graphormer_hand.inference.predictor import HandPredictor
    from mesh_graphormer_hand.inference.tracker import HandTracker

    console.log_to_terminal()
    video, truth = sequence(arguments.out, arguments.frames, arguments.size, arguments.index)
    predictor = HandPredictor.from_pretrained(arguments.weights, detector=arguments.detector)
    rows = {}
    for name, options in {
        "each frame alone": {"smooth": False, "one_shape": False},
        "one shape": {"smooth": False},
        "one shape, smoothed": {},
    }.items():
        tracker = HandTracker(predictor, every=arguments.every, K=truth["K"], **options)
        rows[name] = score(follow(tracker, video), truth)
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{key} {value:8.2f}   " for key, value in row.items()))
    started = time.perf_counter()
    flags = ["--out", str(arguments.out), "--detector", arguments.detector, "--every", str(arguments.every)]
    demo.main([str(video), *flags, *(["--weights", arguments.weights] if arguments.weights else [])])
    print(f"hand-demo, with its start: {len(truth['joints']) / (time.perf_counter() - started):.1f} frames/s")
    return 0


def follow(tracker: HandTracker, video: Path) -> list:
    """The first hand of every frame, None where there is none."""
    from mesh_graphormer_hand.inference.media.video_io import VideoReader

    with VideoReader(video) as footage:
        found = [tracker(frame, seconds) for frame, seconds in footage]
    return [f[0] if f else None for f in found]


def score(found: list, truth: dict[str, np.ndarray]) -> dict[str, float]:
    """Errors of the frames with a hand; accelerations where three in a row have one."""
    import numpy as np
    import torch

    from mesh_graphormer_hand.geometry.alignment import procrustes

    seen = np.array([h is not None for h in found])
    blank = np.full((21, 3), np.nan)
    joints = np.stack([blank if h is None else h.joints for h in found])
    wrist = np.stack([blank[0] if h is None or h.translation is None else h.translation for h in found])
    pixels = np.stack([blank[:, :2] if h is None else h.joints_2d for h in found])
    aligned = procrustes(torch.from_numpy(joints[seen]).float(), torch.from_numpy(truth["joints"][seen]).float())
    return {
        "frames": float(seen.sum()),
        "PA-MPJPE mm": MM * float(np.linalg.norm(aligned.numpy() - truth["joints"][seen], axis=-1).mean()),
        "MPJPE mm": MM * float(np.nanmean(np.linalg.norm(joints - truth["joints"], axis=-1))),
        "wrist mm": MM * float(np.nanmean(np.linalg.norm(wrist - truth["wrist"], axis=-1))),
        "2D px": float(np.nanmean(np.linalg.norm(pixels - truth["joints_2d"], axis=-1))),
        "accel mm": MM * acceleration_error(joints, truth["joints"]),
        "wrist accel mm": MM * acceleration_error(wrist[:, None], truth["wrist"][:, None]),
        "2D accel px": acceleration_error(pixels, truth["joints_2d"]),
    }


def acceleration_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of the second differences, per frame squared."""
    import numpy as np

    a, b = (v[2:] - 2 * v[1:-1] + v[:-2] for v in (found, wanted))
    return float(np.nanmean(np.linalg.norm(a - b, axis=-1)))


if __name__ == "__main__":
    sys.exit(main())
