"""Hands off the optical axis:  python benchmarks/off_axis.py [--weights RUN] [--count N] [--photos DIR]

Two figures about the camera's axes (docs/predictor.md, "Whose axes"). Of virtual frames with hands all over the
picture, boxes and K given: the error of the joints from the wrist without any alignment, by the angle between the hand
and the optical axis. Of photos, the example and those that DIR/keypoints.json lists: the camera is turned about its own
centre, which is a homography of the picture, and the answer should turn by as much.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from mesh_graphormer_hand.cli import console

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

    from mesh_graphormer_hand.inference.predictor import HandPredictor

SEED, FRAME_PX = 77, 480
RANGES_DEG = ((0, 90), (0, 10), (10, 20), (20, 30), (30, 90))
TURNS_DEG, CANVAS_PX, FOCAL_PX, PHOTO_PX = (15, 30, 40), 1400, 600.0, 300
EXAMPLE, EXAMPLE_BOX = Path(__file__).resolve().parents[1] / "docs/example.jpg", [60, 40, 430, 450]
Crop = tuple[np.ndarray, np.ndarray, str]  # photo, key points (px), side


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and measure; returns the exit code."""
    parser = argparse.ArgumentParser(prog="off_axis", description=__doc__.splitlines()[0])
    parser.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    parser.add_argument("--count", type=int, default=150, metavar="N", help="virtual frames (default: 150)")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos of one hand, as `folder` has them")
    return console.run(lambda: bench(parser.parse_args(argv)))


def bench(arguments: argparse.Namespace) -> int:
    """Print both figures."""
    from mesh_graphormer_hand.inference.predictor import HandPredictor

    predictor = HandPredictor.from_pretrained(arguments.weights)
    crops = photos(predictor, arguments.photos)
    for degrees in TURNS_DEG:
        angles, errors = zip(*(turned(predictor, crop, degrees) for crop in crops), strict=True)
        print(
            f"camera turned by {degrees} degrees: {len(crops)} answers turn by {np.median(angles):.1f} (median), "
            f"{np.mean(errors):.1f} mm from their own true turn"
        )
    rows = frames(predictor, arguments.count)
    for low, high in RANGES_DEG:
        mine = rows[(rows[:, 0] >= low) & (rows[:, 0] < high), 1]
        if len(mine):
            print(f"{low} to {high} degrees off the axis: {len(mine)} hands, {mine.mean():.1f} mm from the wrist")
    return 0


def frames(predictor: HandPredictor, count: int) -> Float[np.ndarray, "n 2"]:
    """Of each hand in virtual frames: degrees off the axis, and mean error of its joints from the wrist, mm."""
    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.virtual.config import VirtualConfig
    from mesh_graphormer_hand.virtual.frames import VirtualFrames

    generator, rows = VirtualFrames(VirtualConfig(split="test", seed=SEED), hands.load("open")), []
    for index in range(count):
        frame = generator.render([index], FRAME_PX)
        shown = frame.hands[0]
        photo = (frame.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        sides = ["left" if left else "right" for left in shown.is_left.tolist()]
        boxes = shown.boxes.tolist()
        found = predictor.predict(photo, boxes, sides, K=frame.intrinsics[0].numpy()) if boxes else []
        for hand, joints in zip(found, shown.joints.numpy(), strict=True):
            middle = joints.mean(0)
            off = np.degrees(np.arccos(middle[2] / np.linalg.norm(middle)))
            rows.append((off, error(hand.joints, joints)))
    return np.array(rows)


def photos(predictor: HandPredictor, folder: Path | None) -> list[Crop]:
    """The example with the predictor's own key points, and the photos of a folder."""
    from mesh_graphormer_hand.data.images import read_image

    example = read_image(EXAMPLE)
    crops = [(example, predictor.predict(example, [EXAMPLE_BOX], ["right"])[0].joints_2d, "right")]
    labels = json.loads((folder / "keypoints.json").read_text()) if folder else {}
    for name, hands in labels.items():
        if len(hands) == 1:
            points, side = np.array(hands[0]["keypoints_px"], float), hands[0].get("handedness", "right")
            crops.append((read_image(folder / name), points, side))
    return crops


def turned(predictor: HandPredictor, crop: Crop, degrees: float) -> tuple[float, float]:
    """By how much the answer turns about y (degrees) when the camera does, and how far it is from its own turn, mm."""
    photo, points, side = crop
    scale = PHOTO_PX / len(photo)
    corner = (CANVAS_PX - PHOTO_PX) / 2
    place = np.array([[scale, 0, corner], [0, scale, corner], [0, 0, 1]])
    k = np.array([[FOCAL_PX, 0, CANVAS_PX / 2], [0, FOCAL_PX, CANVAS_PX / 2], [0, 0, 1]])
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    views = [k @ rotation @ np.linalg.inv(k) @ place for rotation in (np.eye(3), turn)]
    before, after = (seen(predictor, photo, points, side, k, view) for view in views)
    u, _, vt = np.linalg.svd((before - before.mean(0)).T @ (after - after.mean(0)))
    found = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    angle = np.degrees(np.arcsin(np.clip((found[0, 2] - found[2, 0]) / 2, -1, 1)))
    return float(angle), error(after, before @ turn.T)


def seen(
    predictor: HandPredictor,
    photo: UInt8[np.ndarray, "h w 3"],
    points: Float[np.ndarray, "21 2"],
    side: str,
    k: Float[np.ndarray, "3 3"],
    view: Float[np.ndarray, "3 3"],
) -> Float[np.ndarray, "21 3"]:
    """The predictor's joints (m) on the photo as `view` shows it."""
    import cv2

    image = cv2.warpPerspective(photo, view, (CANVAS_PX, CANVAS_PX))
    there = np.c_[points, np.ones(len(points))] @ view.T
    there = there[:, :2] / there[:, 2:]
    middle, half = (there.max(0) + there.min(0)) / 2, 0.55 * np.ptp(there, axis=0).max()
    box = [*(middle - half), *(middle + half)]
    return predictor.predict(image, [box], [side], K=k)[0].joints.astype(float)


def error(joints: Float[np.ndarray, "21 3"], truth: Float[np.ndarray, "21 3"]) -> float:
    """Mean distance of joints from the wrist, mm, without any alignment."""
    return float(1000 * np.linalg.norm(joints - joints[0] - truth + truth[0], axis=1).mean())


if __name__ == "__main__":
    sys.exit(main())
