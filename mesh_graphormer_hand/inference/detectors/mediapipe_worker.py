"""Runs MediaPipe without this package, as a module or as a script in an environment of its own.

    python mediapipe_worker.py [hand_landmarker.task]

It reads frames from standard input (a line with [height, width] as JSON, then the RGB bytes) and writes a line of JSON
for each: {"hands": [{"points": [[x, y] * 21], "world": [[x, y, z] * 21], "side": "left" or "right", "score": s}]}.
Points are fractions of the image's width and height; world points are metres from the hand's middle, camera axes, null
where the version has none; sides are the person's own in an image that is not mirrored. Once the model is loaded, and
before the first frame, it writes a first line without hands; after an error it writes {"error": "..."} and ends.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any

MEDIAPIPE_MAX_HANDS = 8
MIN_PALM_SCORE = 0.4
# The old interface gives sides as of a mirrored (selfie) image; so does the new one before this version
UNMIRRORED_SINCE = (0, 10, 5)

Finder = Callable[[Any], list[dict]]


def landmarker(model: str, max_hands: int) -> Finder:
    """MediaPipe's present interface (Tasks), with a model file of its own."""
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.HandLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=model),
        num_hands=max_hands,
        min_hand_detection_confidence=MIN_PALM_SCORE,
    )
    finder = vision.HandLandmarker.create_from_options(options)
    mirrored = _version(mediapipe.__version__) < UNMIRRORED_SINCE

    def find(photo: Any) -> list[dict]:
        result = finder.detect(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=photo))
        worlds = getattr(result, "hand_world_landmarks", None)
        return [
            _hand(points, world, side[0].category_name, side[0].score, mirrored)
            for points, world, side in _joined(result.hand_landmarks, worlds, result.handedness)
        ]

    return find


def solution(max_hands: int) -> Finder:
    """The interface of 0.10.21 and before, which carries its models."""
    import mediapipe

    finder = mediapipe.solutions.hands.Hands(
        static_image_mode=True, max_num_hands=max_hands, model_complexity=1, min_detection_confidence=MIN_PALM_SCORE
    )

    def find(photo: Any) -> list[dict]:
        result = finder.process(photo)
        worlds = getattr(result, "multi_hand_world_landmarks", None)
        worlds = worlds and [world.landmark for world in worlds]
        found = _joined(result.multi_hand_landmarks or (), worlds, result.multi_handedness or ())
        return [
            _hand(points.landmark, world, side.classification[0].label, side.classification[0].score, True)
            for points, world, side in found
        ]

    return find


def _joined(points: Any, worlds: Any, sides: Any) -> Any:
    """Each hand's points, world points (None where the version has none) and side."""
    return zip(points, worlds or [None] * len(points), sides)  # noqa: B905


def _hand(points: Any, world: Any, label: str, score: float, mirrored: bool) -> dict:
    side = {"Left": "right", "Right": "left"}[label] if mirrored else label.lower()
    metres = world and [[p.x, p.y, p.z] for p in world]
    return {"points": [[p.x, p.y] for p in points], "world": metres, "side": side, "score": float(score)}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def main(model: str | None = None) -> int:
    """Answer frames until standard input ends; returns the exit code."""
    import numpy as np

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what MediaPipe itself prints must not mix with the answers
    try:
        find = landmarker(model, MEDIAPIPE_MAX_HANDS) if model else solution(MEDIAPIPE_MAX_HANDS)
    except Exception as error:  # of any class: the other process needs its message
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return 1
    answers.write(json.dumps({"hands": []}) + "\n")
    while line := sys.stdin.buffer.readline():
        height, width = json.loads(line)
        photo = np.frombuffer(sys.stdin.buffer.read(height * width * 3), np.uint8).reshape(height, width, 3)
        answers.write(json.dumps({"hands": find(photo)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
