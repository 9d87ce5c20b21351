"""The demo's videos and cameras: hands followed, drawn and written while the next frame is predicted."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inference import outputs
from . import console

if TYPE_CHECKING:
    import numpy as np

    from ..inference.result import HandResult
    from .demo import Run

AHEAD = 4  # frames that may wait to be drawn
MOST_TRACKS = 6  # that are named in the line about a video


def film(run: Run, source: Path | int | str, stem: str) -> None:
    """Write NAME_hand.mp4, NAME_hand.json and the frames' own files; print their paths and how fast it went.

    Raises:
        DataError: no video, or one that ends too early; of the latter the files are written all the same.
    """
    import torch

    from ..data.images import DataError
    from ..inference.tracker import HandTracker
    from ..inference.video_io import VideoReader, VideoWriter

    a, frames = run.arguments, run.out / f"{stem}_frames"
    tracker = HandTracker(
        run.predictor,
        every=a.every,
        smooth=not a.no_smoothing,
        one_shape=a.mesh == "mano" and not a.free_shape,
        sides=run.sides,
        K=run.K,
        focal=a.focal,
        bone_length=a.bone_length,
    )
    with VideoReader(source) as footage:
        picture = VideoWriter(run.out / f"{stem}_hand.mp4", footage.fps)
        total = min(filter(None, (footage.count, a.limit)), default=None)
        started, records, size, camera, mano = time.perf_counter(), [], None, None, None
        try:
            # one core for drawing: a second team of OpenMP threads, waiting busily, would halve the frames per second
            with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as drawer:
                waiting: deque[Future] = deque()
                for number, (frame, seconds) in enumerate(console.bar(footage, total, "frame")):
                    if a.limit is not None and number >= a.limit:
                        break
                    hands = tracker(frame, seconds)
                    size, camera = [frame.shape[1], frame.shape[0]], camera or _camera(hands)
                    mano = mano or outputs.whose(hands)
                    records.append({"frame": number, "seconds": round(seconds, 6), "hands": _brief(hands)})
                    waiting.append(drawer.submit(_finish, run, picture, frames, number, frame, hands))
                    while len(waiting) > AHEAD:
                        waiting.popleft().result()
                for job in waiting:
                    job.result()
        except KeyboardInterrupt:
            if not footage.live:
                picture.close(keep=False)
                raise
        except BaseException:
            picture.close(keep=False)
            raise
        picture.close()
    took = time.perf_counter() - started
    truncation_message = "" if a.limit is not None else footage.truncation_message
    about = {**run.about(source), "image_size": size, "fps": footage.fps, "detections": tracker.detections}
    about |= {"complete": not truncation_message, "camera": camera, "mano": mano}
    text = json.dumps({**about, "frames": records}) + "\n"
    outputs.write_all(run.out, f"{stem}_hand", {".json": text.encode()})
    believed = sum(any(hand["believed"] for hand in record["hands"]) for record in records)
    seen = f"{footage.source}: {len(records)} frames, hands in {believed}"
    ran = f"the detector ({run.predictor.detector.name}) ran {tracker.detections} times"
    print(f"{seen}, {len(records) / took:.1f} frames/s, {ran}", file=sys.stderr)
    print(f"{seen}{_say_tracks(records)}; detector: {run.predictor.detector.name}; weights: {run.predictor.weights}")
    print(picture.path)
    print(run.out / f"{stem}_hand.json")
    if run.kinds:
        print(frames)
    if truncation_message:
        raise DataError(truncation_message)


def draw(frame: np.ndarray, hands: list[HandResult]) -> np.ndarray:
    """The frame with every hand's mesh or, of models without one, its mask and skeleton; and how sure each hand is."""
    from ..render import maps, overlay

    meshes = [(h.vertices_cam, h.faces) for h in hands if h.vertices_cam is not None]
    if meshes:
        frame = maps.draw_quickly(frame, meshes, hands[0].intrinsics)
    for hand in hands:
        frame = frame if hand.mask is None or meshes else overlay.draw_mask(frame, hand.mask)
        if not meshes and hand.joints_2d is not None:
            frame = overlay.draw_skeleton(frame, hand.joints_2d)
        side = f"{hand.side}{'?' * hand.side_unsure}"
        frame = overlay.draw_text(frame, f"{outputs.say_confidence(hand)} {side}".strip(), hand.box[:2])
    return frame


def _say_tracks(records: list[dict[str, Any]]) -> str:
    """Each track's side and how sure it was on average, the longest first."""
    from ..inference.result import SURE_SIDE

    tracks: dict[int, list[dict[str, Any]]] = {}
    for hand in (hand for record in records for hand in record["hands"]):
        tracks.setdefault(hand["track"], []).append(hand)
    parts = []
    for number, hands in sorted(tracks.items(), key=lambda item: -len(item[1])):
        sides = Counter(hand["handedness"] for hand in hands)
        sure, side = (_mean(hands, name) for name in ("confidence", "handedness_score"))
        known = "nobody knows how sure" if sure is None else f"{sure:.0%} sure"
        known += "" if side is None else f", side {'unsure: ' * (side < SURE_SIDE)}{side:.0%}"
        parts.append(f"; track {number}: {sides.most_common(1)[0][0]} in {len(hands)} frames ({known})")
    rest = f"; {len(parts) - MOST_TRACKS} tracks more" if len(parts) > MOST_TRACKS else ""
    return "".join(parts[:MOST_TRACKS]) + rest


def _mean(hands: list[dict[str, Any]], name: str) -> float | None:
    known = [hand[name] for hand in hands if hand[name] is not None]
    return sum(known) / len(known) if known else None


def _finish(run: Run, picture: Any, folder: Path, number: int, frame: np.ndarray, hands: list[HandResult]) -> None:
    """Draw and write one frame."""
    picture.add(draw(frame, hands))
    if run.kinds:
        about = {"frame": number, "image_size": [frame.shape[1], frame.shape[0]]}
        outputs.write_all(folder, f"{number:06d}_hand", outputs.encode(run.kinds, frame, hands, about))


def _camera(hands: list[HandResult]) -> dict[str, Any] | None:
    """What all frames have in common of the camera; None where no hand says it."""
    return {"K": _short(hands[0].intrinsics, 3), "K_from": hands[0].intrinsics_from} if hands else None


def _brief(hands: list[HandResult]) -> list[dict[str, Any]]:
    """What the video's one JSON keeps of each hand in a frame; names and units as in a photo's."""
    return [
        {
            "track": h.track,
            "handedness": h.side,
            "handedness_score": h.side_score,
            "handedness_unsure": h.side_unsure,
            "confidence": h.confidence,
            "believed": h.believed,
            "box": _short(h.box, 1),
            "wrist_m": _short(h.translation, 5),
            "joints_m": _short(h.joints, 5),
            "joints_px": _short(h.joints_2d, 2),
            **{name: _short(value, 4) for name, value in outputs.parameters(h).items()},
        }
        for h in hands
    ]


def _short(values: np.ndarray | bool | None, digits: int) -> list | bool | None:
    return values if values is None or isinstance(values, bool) else values.astype(float).round(digits).tolist()
