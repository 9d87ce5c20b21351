"""Google's MediaPipe as a detector, where a user has it. There are two ways:

* version 1.x in this environment (the extra "mediapipe") with its model file `hand_landmarker.task`, which the user
  gets from its makers;
* version 0.10.21, which carries its models but needs numpy < 2, in an environment of its own: `python` names that
  environment's interpreter, which runs `mediapipe_worker.py` as a process; frames and hands go through pipes.

Boxes enclose its 21 keypoints. Sides are the person's own in a photo that is not mirrored: the worker swaps the sides
of the older interface, which was made for selfies.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from ... import paths
from ...config import ConfigError
from ...geometry.boxes import suppress
from . import mediapipe_worker
from .base import Detection

MARGIN = 0.08  # of the keypoints' extent, for the flesh around them
SAME_HAND_BOX_IOU = 0.7  # of two boxes of different hands: MediaPipe sometimes finds one hand twice
WORKER = Path(mediapipe_worker.__file__)


class MediaPipe:
    """MediaPipe in this process, or in a process of another environment."""

    name = "mediapipe"

    def __init__(self, model: str | Path | None = None, python: str | Path | None = None) -> None:
        """`model`: hand_landmarker.task; `python`: interpreter of an environment with mediapipe 0.10.21.

        Raises:
            ConfigError: neither is given, or what is given is not there.
        """
        if python is None and model is None:
            raise ConfigError(
                "the detector mediapipe needs its model file (--detector-model hand_landmarker.task, from MediaPipe's "
                "own pages), or an environment with mediapipe==0.10.21, which carries it (--detector-python "
                "THAT/bin/python; python -m venv THAT && THAT/bin/pip install mediapipe==0.10.21)"
            )
        for flag, path in (("--detector-model", model), ("--detector-python", python)):
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{flag} {path}: no such file")
        self._process: subprocess.Popen | None = None
        if python is None:
            self._finder = _import_here(str(model))
        else:
            self._start([str(python), "-I", str(WORKER), *([str(model)] if model else [])])

    def detect(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[Detection]:
        """The hands that MediaPipe finds, those of the surest side first."""
        found = self.landmarks(photo)
        height, width = photo.shape[:2]
        detections = []
        for hand in found:
            points = np.array(hand["points"], np.float32) * [width, height]
            low, high = points.min(0), points.max(0)
            margin = MARGIN * (high - low).max()
            box = np.concatenate([np.maximum(low - margin, 0), np.minimum(high + margin, [width, height])])
            if (box[2:] - box[:2] >= 1).all():
                score = float(hand["score"])
                detections.append(Detection(box.astype(np.float32), score, hand["side"], max(score, 0.5)))
        boxes = torch.tensor(np.array([d.box for d in detections], np.float32)).reshape(-1, 4)
        return [detections[i] for i in suppress(boxes, torch.tensor([d.score for d in detections]), SAME_HAND_BOX_IOU)]

    def landmarks(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[dict[str, Any]]:
        """The hands as MediaPipe gives them: `points` (21 x 2, fractions of width and height), `world` (21 x 3, m),
        `side`, `score`."""
        photo = np.ascontiguousarray(photo)
        return self._finder(photo) if self._process is None else self._ask(photo)

    def close(self) -> None:
        """End the other process, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait(timeout=10)

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and process.poll() is None:
            process.kill()

    def _start(self, command: list[str]) -> None:
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise ConfigError(f"--detector-python {command[0]} cannot be run: {error.strerror or error}") from None
        self._answer()

    def _ask(self, photo: UInt8[np.ndarray, "h w 3"]) -> list[dict[str, Any]]:
        try:
            self._process.stdin.write(json.dumps(photo.shape[:2]).encode() + b"\n" + photo.tobytes())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ConfigError("the process that runs mediapipe has ended") from None
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            raise ConfigError("the process that runs mediapipe has ended: is mediapipe in that environment?") from None
        if "error" in answer:
            raise ConfigError(f"mediapipe: {answer['error']}")
        return answer["hands"]


def _import_here(model: str) -> mediapipe_worker.Finder:
    try:
        return mediapipe_worker.landmarker(model, mediapipe_worker.MEDIAPIPE_MAX_HANDS)
    except ImportError as error:
        command = paths.install_command("mediapipe")
        raise ConfigError(
            f"the detector mediapipe needs the package ({error}): {command}, or --detector-python"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:
        raise ConfigError(f"--detector-model {model}: {error}; give MediaPipe's own hand_landmarker.task") from None
