"""MediaPipe 0.10.21 timed in an environment of its own: here the asking side, and as a script the answering one.

The script reads one photo (a line with {"shape": [height, width, 3], "clock": "wall" or "cpu"} as JSON, then the RGB
bytes), answers {"hands": how many it finds}, and from then on every line with {"seconds": what looking at it took};
{"error": "..."} ends. Seconds are taken in there, so that no way between processes counts.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORKER = (
    Path(__file__).parents[1] / "mesh_graphormer_hand" / "inference" / "detectors"
)  # of mediapipe_worker, which does the looking


class MediaPipe:
    """A process that predicts one photo again and again; a call does it once and returns the seconds."""

    def __init__(self, python: Path, photo: Any, clock: str = "wall") -> None:
        """`python`: the interpreter; `photo`: RGB uint8 (h, w, 3); `clock`: as in `stopwatch.CLOCKS`.

        Raises:
            ConfigError: it cannot be run, or has no such MediaPipe.
        """
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self._process = subprocess.Popen([str(python), "-I", __file__], **pipes)
        except OSError as error:
            raise _refusal(f"{python} cannot be run: {error.strerror or error}") from None
        self.hands: int = self._ask(json.dumps({"shape": photo.shape, "clock": clock}), photo.tobytes())["hands"]

    def __call__(self) -> float:
        """Seconds of one prediction."""
        return self._ask("")["seconds"]

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            process.kill()
            process.wait()

    def _ask(self, line: str, data: bytes = b"") -> dict[str, Any]:
        try:
            self._process.stdin.write(line.encode() + b"\n" + data)
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise _refusal(f"{self._process.args[0]} has ended: is it a Python with MediaPipe?") from None
        if "error" in answer:
            raise _refusal(f"{self._process.args[0]}: {answer['error']}")
        return answer


def _refusal(text: str) -> Exception:
    from mesh_graphormer_hand.config import ConfigError  # not at the top: the script has no package

    return ConfigError(text)


def main() -> int:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what MediaPipe itself writes must not come between the answers
    head = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read(head["shape"][0] * head["shape"][1] * head["shape"][2])
    now = {"wall": time.perf_counter, "cpu": time.process_time}[head["clock"]]
    try:
        sys.path.insert(0, str(WORKER))
        import numpy as np

        mediapipe_worker = importlib.import_module("mediapipe_worker")  # of the detectors, outside this package

        photo = np.frombuffer(data, np.uint8).reshape(head["shape"])
        find = mediapipe_worker.solution(mediapipe_worker.MEDIAPIPE_MAX_HANDS)
        found = len(find(photo))
    except Exception as error:  # of any class: the other process needs its message
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return 1
    answers.write(json.dumps({"hands": found}) + "\n")
    while sys.stdin.buffer.readline():
        start = now()
        find(photo)
        answers.write(json.dumps({"seconds": now() - start}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
