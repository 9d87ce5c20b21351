"""Videos and cameras: hands are tracked, drawn and written while the next frame is predicted."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outputs
from .run import Answer

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Shaped, UInt8

    from ..result import HandResult
    from ..tracker import HandTracker
    from .run import PredictionRun
    from .video_io import VideoReader, VideoWriter

MAX_WAITING_FRAMES = 4  # that are not yet drawn
MAX_NAMED_TRACKS = 6  # in the line about a video


def annotate_video(run: PredictionRun, source: Path | int | str, stem: str) -> Answer:
    """Write STEM_hand.mp4, STEM_hand.json and the frames' own files.

    Returns the files and how fast it was; `problem` says of a video that ends too early how much of it was read.

    Raises:
        DataError: no video.
    """
    from .video_io import VideoReader, VideoWriter

    s, tracker = run.settings, _make_tracker(run)
    with VideoReader(source) as reader:
        writer, started = VideoWriter(s.out / f"{stem}_hand.mp4", reader.fps), time.perf_counter()
        about, records = _annotate_frames(run, reader, writer, tracker, s.out / f"{stem}_frames")
    took = time.perf_counter() - started
    problem = "" if s.limit is not None else reader.truncation_message
    head = {**run.about(source), "image_size": about["image_size"], "fps": reader.fps, "detections": tracker.detections}
    head |= {"complete": not problem, "camera": about["camera"], "mano": about["mano"]}
    text = json.dumps({**head, "frames": records}) + "\n"
    outputs.write_all(s.out, f"{stem}_hand", {".json": text.encode()})
    believed = sum(any(hand["believed"] for hand in record["hands"]) for record in records)
    seen = f"{reader.source}: {len(records)} frames, hands in {believed}"
    detector = run.predictor.detector.name
    speed = f"{seen}, {len(records) / took:.1f} frames/s, the detector ({detector}) ran {tracker.detections} times"
    summary = f"{seen}{_say_tracks(records)}; detector: {detector}; weights: {run.predictor.weights}"
    files = [writer.path, s.out / f"{stem}_hand.json", *([s.out / f"{stem}_frames"] if s.kinds else [])]
    return Answer(summary, files, speed, problem)


def _make_tracker(run: PredictionRun) -> HandTracker:
    from ..tracker import HandTracker

    s = run.settings
    return HandTracker(
        run.predictor,
        every=s.every,
        smooth=s.smoothing,
        one_shape=s.mesh == "mano" and not s.free_shape,
        sides=run.sides,
        K=s.K,
        focal=s.focal,
        bone_length=s.bone_length,
    )


def _annotate_frames(
    run: PredictionRun, reader: VideoReader, writer: VideoWriter, tracker: HandTracker, folder: Path
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Track all frames and write the video; returns the size, the camera and MANO's hand, and a record each frame.

    Ctrl-C ends a camera's video, and leaves nothing of a file's.
    """
    import torch

    limit = run.settings.limit
    total = min(filter(None, (reader.count, limit)), default=None)
    records, about = [], {"image_size": None, "camera": None, "mano": None}
    try:
        # one core for drawing: a second team of OpenMP threads, waiting busily, would halve the frames per second
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as drawer:
            waiting: deque[Future] = deque()
            for number, (frame, seconds) in enumerate(run.progress(reader, total, "frame")):
                if limit is not None and number >= limit:
                    break
                hands = tracker(frame, seconds)
                about["image_size"] = [frame.shape[1], frame.shape[0]]
                about["camera"] = about["camera"] or _camera(hands)
                about["mano"] = about["mano"] or outputs.whose(hands)
                records.append({"frame": number, "seconds": round(seconds, 6), "hands": _brief(hands)})
                waiting.append(drawer.submit(_write_frame, run, writer, folder, number, frame, hands))
                while len(waiting) > MAX_WAITING_FRAMES:
                    waiting.popleft().result()
            for job in waiting:
                job.result()
    except BaseException as error:
        if not (isinstance(error, KeyboardInterrupt) and reader.live):
            writer.close(keep=False)
            raise
    writer.close()
    return about, records


def draw_hands(frame: UInt8[np.ndarray, "h w 3"], hands: list[HandResult]) -> np.ndarray:
    """The frame with every hand's mesh or, of models without one, its mask and skeleton; and how sure each hand is."""
    from ...render import maps, overlay

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
    from ..result import SURE_SIDE

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
    others = f"; {len(parts) - MAX_NAMED_TRACKS} tracks more" if len(parts) > MAX_NAMED_TRACKS else ""
    return "".join(parts[:MAX_NAMED_TRACKS]) + others


def _mean(hands: list[dict[str, Any]], name: str) -> float | None:
    known = [hand[name] for hand in hands if hand[name] is not None]
    return sum(known) / len(known) if known else None


def _write_frame(
    run: PredictionRun,
    writer: VideoWriter,
    folder: Path,
    number: int,
    frame: UInt8[np.ndarray, "h w 3"],
    hands: list[HandResult],
) -> None:
    """Draw one frame, add it to the video and write its own files."""
    writer.add(draw_hands(frame, hands))
    if kinds := run.settings.kinds:
        about = {"frame": number, "image_size": [frame.shape[1], frame.shape[0]]}
        outputs.write_all(folder, f"{number:06d}_hand", outputs.encode(kinds, frame, hands, about))


def _camera(hands: list[HandResult]) -> dict[str, Any] | None:
    """The camera of all frames; None where there is no hand."""
    return {"K": _short(hands[0].intrinsics, 3), "K_from": hands[0].intrinsics_from} if hands else None


def _brief(hands: list[HandResult]) -> list[dict[str, Any]]:
    """A frame's hands for the video's JSON; names and units are those of a photo's."""
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


def _short(values: Shaped[np.ndarray, "..."] | bool | None, digits: int) -> list | bool | None:
    return values if values is None or isinstance(values, bool) else values.astype(float).round(digits).tolist()
