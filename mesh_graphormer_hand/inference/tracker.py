"""Hands from frame to frame: the detector runs rarely, boxes follow the joints in between, results are smoothed.

    tracker = HandTracker(HandPredictor.from_pretrained())
    for frame, seconds in frames:
        hands = tracker(frame, seconds)          # HandResult, each with its `track`

Between detections a hand's crop stands round its joints of the frame before. A track begins where the model believes
in a hand, and ends when it does so no more for some frames, when its joints leave the frame or change their size at
once, or when two detections in a row do not find it and the model is not sure of it. The side of a track is a running
mean of what the model sees and what the last detection said or, of a model without a handedness head, what all its
detections say together and, where they cannot tell, looks of the model at both sides. `one_shape`
keeps a person's hand one hand: MANO's shape is fitted while a track is young, the mean is kept, and every later mesh is
the posed hand of that shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ..geometry.boxes import box_iou
from ..mano.fit import NOISE
from .detectors.base import Detection, Side, otherwise
from .handedness import score, vote
from .predictor import BOX_SCALE, JOINTS_SCALE, HandPredictor, HandResult, explain, posed
from .result import BELIEVED, is_believed

EVERY = 15  # frames between detections while all hands are followed
SOON = 3  # frames between detections while there is none, or one was missed
SAME = 0.25  # overlap of a detection and a track from which they are one hand
JUMP = 2.0  # change of a hand's size in one frame that is no hand's
PATIENCE = 2  # detections in a row that may miss a hand
DOUBTED_FRAMES = 3  # in a row in which the model may not believe in a hand
SURE_PRESENCE = 0.8  # from which a hand stays that detections miss
KEPT_SIDE = 0.8  # of what a track's frames have said of its side, how much the next one leaves
NO_CAMERA = np.diag(np.float32([1e6, 1e6, 1]))  # where only boxes and sides are asked for: nothing is off its axis
YOUNG = 10  # frames in which a track's shape is fitted
# cut-off (Hz) at rest, and its slope per m/s (of points of the hand), per m/s (of the wrist), per hand size/s (of px)
SHAPE_FILTER, PLACE_FILTER, PIXEL_FILTER = (1.5, 6.0), (1.0, 3.0), (2.0, 3.0)


@dataclass
class Track:
    """One hand over time."""

    number: int
    box: Float[np.ndarray, "4"]  # px, of the next frame's crop
    votes: float = 0.0  # sum of what detections say of the side: log-odds of a left hand
    last_vote: float = 0.0  # of the last detection
    seen: float | None = None  # the same, running mean of what the model sees and `last_vote`; None: it has no head
    missed: int = 0  # detections in a row
    doubted: int = 0  # frames in a row
    presence: float | None = None  # of the last frame
    size: float | None = None  # px, of the joints' box
    unit: float | None = None  # px: its first size, in which speeds in the picture are measured
    shapes: list[np.ndarray] = field(default_factory=list)
    filters: dict[str, object] = field(default_factory=dict)
    seconds: float | None = None  # time of the last result
    score: float | None = None  # of the last detection
    detector: str = ""  # which found it first

    @property
    def left(self) -> float:
        """Log-odds of a left hand; infinite where the caller says it."""
        return self.votes if self.seen is None or np.isinf(self.votes) else self.seen

    @property
    def side(self) -> Side:
        """Of the person's own hand."""
        return "left" if self.left > 0 else "right"

    def hear(self, result: HandResult) -> None:
        """What the model says of the newest frame."""
        self.presence = result.presence
        self.doubted = 0 if result.believed else self.doubted + 1
        if result.left_odds is not None:
            says = result.left_odds + self.last_vote
            self.seen = says if self.seen is None else KEPT_SIDE * self.seen + (1 - KEPT_SIDE) * says


class HandTracker:
    """Follows the hands of one video; make a new one for the next."""

    def __init__(
        self,
        predictor: HandPredictor,
        every: int = EVERY,
        smooth: bool = True,
        one_shape: bool = True,
        sides: Sequence[str] | None = None,
        K: np.ndarray | None = None,
        focal: float | None = None,
        bone_length: float | None = None,
    ) -> None:
        """`every`: frames between detections, 1: no tracking; `one_shape`: posed hands of one shape a track, whatever
        the predictor's `mesh` is; `sides`: one for all hands; the rest as in `predict`."""
        self.predictor, self.every = predictor, max(every, 1)
        self.smooth, self.one_shape = smooth, one_shape
        self.sides, self.camera = sides, {"K": K, "focal": focal, "bone_length": bone_length}
        self.tracks: list[Track] = []
        self.detections = 0  # how often the detector ran
        self._wait, self._count = 0, 0

    def __call__(self, frame: UInt8[np.ndarray, "h w 3"], seconds: float) -> list[HandResult]:
        """The hands of the next frame, taken at `seconds`; the oldest track first."""
        if self._wait <= 0:
            self._detect(frame)
        self._wait -= 1
        if not self.tracks:
            return []
        mesh = "regressed" if self.one_shape else None  # which is fitted here, with its track's shape
        results = self.predictor.predict(
            frame, [t.box for t in self.tracks], [t.side for t in self.tracks], mesh=mesh, **self.camera
        )
        shape, kept, hands = frame.shape[:2], [], []
        for track, result in zip(self.tracks, results, strict=True):
            track.hear(result)
            if track.doubted > DOUBTED_FRAMES:
                self._wait = min(self._wait, SOON)
                continue
            if not _follow(track, result, shape):
                self._wait = 0  # look for it in the next frame
                continue
            kept.append(track)
            sure = None if self.sides else score(track.left)
            confidence = track.score if result.confidence is None else result.confidence
            result = replace(result, track=track.number, side_score=sure, confidence=confidence)
            hands.append(self._finish(track, replace(result, detector=track.detector), seconds))
        self.tracks = kept
        return hands

    def _detect(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Look for hands anew: known ones are confirmed or missed, others begin."""
        found = self.predictor.detector.detect(frame)
        self.detections += 1
        taken: set[int] = set()
        for track in self.tracks:
            overlap = [
                0.0 if i in taken else float(box_iou(_tensor(track.box), _tensor(d.box))) for i, d in enumerate(found)
            ]
            if overlap and max(overlap) >= SAME:
                best = int(np.argmax(overlap))
                taken.add(best)
                track.missed, track.score = 0, found[best].score
                track.last_vote = vote(found[best].side, found[best].side_score)
                track.votes += track.last_vote
            elif not any(d.rough for d in found):  # the whole picture confirms nothing and misses nothing
                track.missed += 1
        self.tracks = [t for t in self.tracks if t.missed < PATIENCE or is_believed(t.presence, SURE_PRESENCE)]
        if not self.sides and not all(d.side for d in found) and all(t.seen is None for t in self.tracks):
            self._ask_the_model(frame)
        self._begin(frame, [d for i, d in enumerate(found) if i not in taken and not (d.rough and self.tracks)])
        if not self.tracks:
            self._begin(frame, otherwise(self.predictor.detector, frame))
        steady = self.tracks and not any(0 < t.missed < PATIENCE for t in self.tracks)
        self._wait = self.every if steady else min(self.every, SOON)

    def _begin(self, frame: UInt8[np.ndarray, "h w 3"], detections: list[Detection]) -> None:
        """A track for each detection that the model believes in."""
        if self.sides:
            detections = [replace(d, side=self.sides[0]) for d in detections]
        hands = self.predictor.look(frame, detections, NO_CAMERA, told=bool(self.sides))
        for detection, hand in zip(detections, hands, strict=True):
            if not is_believed(hand.presence, max(detection.least_presence, BELIEVED)):
                continue
            box = _scaled(hand.box, 1 / BOX_SCALE) if detection.rough else np.asarray(detection.box, np.float32)
            track = Track(self._count, box, score=detection.score)
            track.detector = detection.detector or self.predictor.detector.name
            track.last_vote = vote(detection.side, detection.side_score)
            seen = track.last_vote if hand.side_score is None else vote(hand.side, hand.side_score)
            track.votes = self._told() or seen
            self.tracks.append(track)
            self._count += 1

    def _told(self) -> float:
        """The caller's vote for the side, which no other can outweigh; 0 where there is none."""
        return {"left": np.inf, "right": -np.inf}[self.sides[0]] if self.sides else 0.0

    def _ask_the_model(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """A vote on the side of every hand, of a predictor that looks at it both ways."""
        hands = self.predictor.look(frame, [Detection(track.box) for track in self.tracks], NO_CAMERA)
        for track, hand in zip(self.tracks, hands, strict=True):
            track.votes += vote(hand.side, hand.side_score)

    def _finish(self, track: Track, result: HandResult, seconds: float) -> HandResult:
        """One shape, then smoothing."""
        if self.one_shape and result.vertices is not None:
            result = self._with_one_shape(track, result)
        if self.smooth:
            result = _smoothed(track, result, seconds)
        track.seconds = seconds
        return result

    def _with_one_shape(self, track: Track, result: HandResult) -> HandResult:
        """The result with the mean shape of the track."""
        known = None
        if len(track.shapes) >= YOUNG:
            known = torch.from_numpy(np.mean(track.shapes, 0, dtype=np.float32))[None]
        hand = self.predictor.hand
        fitted = explain(result, hand, shape=known, steps=1 if known is not None else 2, noise=NOISE)
        if known is None:
            track.shapes.append(fitted.shape[0].numpy())
            known = torch.from_numpy(np.mean(track.shapes, 0, dtype=np.float32))[None]
        return posed(result, hand, fitted.pose, known)


def _follow(track: Track, result: HandResult, shape: tuple[int, int]) -> bool:
    """Move the track's box to the joints; False where they make no sense."""
    if result.joints_2d is None:
        return True  # nothing to follow: the box stays until the next detection
    low, high = result.joints_2d.min(0), result.joints_2d.max(0)
    size, centre = float((high - low).max()), (low + high) / 2
    inside = (centre >= 0).all() and (centre < shape[::-1]).all()
    steady = track.size is None or 1 / JUMP < size / max(track.size, 1e-6) < JUMP
    if not (inside and steady and size >= 4):
        return False
    half = size * JOINTS_SCALE / BOX_SCALE / 2
    track.size, track.box = size, np.concatenate([centre - half, centre + half]).astype(np.float32)
    return True


def _smoothed(track: Track, result: HandResult, seconds: float) -> HandResult:
    """The result after the track's filters, its picture and its places in metres alike."""
    from .one_euro import OneEuro

    elapsed = 0.0 if track.seconds is None else seconds - track.seconds
    track.unit = track.unit or track.size or 1.0  # kept: a unit that changes would itself be jitter
    units = {"vertices": 1.0, "joints": 1.0, "translation": 1.0, "joints_2d": track.unit}
    changed = {}
    for name, unit in units.items():
        value = getattr(result, name)
        if value is None:
            continue
        kind = {"translation": PLACE_FILTER, "joints_2d": PIXEL_FILTER}.get(name, SHAPE_FILTER)
        steady = track.filters.setdefault(name, OneEuro(*kind))
        changed[name] = steady(value / np.float32(unit), elapsed) * np.float32(unit)
    return replace(result, **changed)


def _scaled(box: Float[np.ndarray, "4"], factor: float) -> Float[np.ndarray, "4"]:
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def _tensor(box: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(box, np.float32))[None]
