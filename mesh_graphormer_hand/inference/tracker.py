"""Hands from frame to frame: the detector runs rarely, crops follow the joints in between, results are smoothed.

    tracker = HandTracker(HandPredictor.from_pretrained())
    for frame, seconds in frames:
        hands = tracker(frame, seconds)          # HandResult, each with its `track`

Between detections a hand's crop encloses its joints of the frame before. A track begins where the model believes in a
hand. It ends when the model does not believe in it for some frames, when its joints leave the frame or change their
size at once, or when two detections in a row miss it and the model is not sure of it. The side of a track is a running
mean of the model's opinion and the last detection's; of a model without a handedness head, the sum of all detections'
opinions and, where the detector cannot tell sides, of predictions as either side. `one_shape` keeps a person's hand the
same: MANO's shape is fitted in a track's first frames, and every later mesh is the posed hand of the mean shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8

from ..config import HAND_OVER_KEYPOINTS
from ..geometry.boxes import box_iou
from ..mano.fit import NOISE
from .detectors.base import Detection, Side, fallback_detections
from .handedness import score, side_log_odds
from .one_euro import OneEuro
from .postprocess import fit_mano_to_result, with_mano_mesh
from .predictor import HandPredictor
from .result import BELIEVED, HandResult, is_believed
from .validation import Photo

FRAMES_BETWEEN_DETECTIONS = 15  # while all hands are followed
FRAMES_BETWEEN_SEARCHES = 3  # while there is no hand, or one was missed
MIN_OVERLAP = 0.25  # of a detection and a track that are one hand
MAX_SIZE_CHANGE = 2.0  # factor from one frame to the next
MAX_MISSES = 2  # detections in a row that miss a hand
MAX_DOUBTED_FRAMES = 3  # in a row in which the model does not believe in a hand
SURE_PRESENCE = 0.8  # from which a hand stays that detections miss
SIDE_DECAY = 0.8  # weight of the running mean of a track's side against the newest frame
MIN_SIZE_PX = 4  # of the joints' box
NO_INTRINSICS = np.diag(np.float32([1e6, 1e6, 1]))  # for predictions of boxes and sides: no crop is off the axis
SHAPE_FIT_FRAMES = 10  # in which a track's shape is fitted
# One Euro filters: cut-off (Hz) at rest, and its slope per m/s (of points), per m/s (of the wrist), per hand size/s
SHAPE_FILTER, WRIST_FILTER, PIXEL_FILTER = (1.5, 6.0), (1.0, 3.0), (2.0, 3.0)


@dataclass
class Track:
    """One hand over time."""

    number: int
    box: Float[np.ndarray, "4"]  # x0, y0, x1, y1 of the next frame's crop, px
    detected_log_odds: float = 0.0  # of a left hand, summed over detections
    last_log_odds: float = 0.0  # of a left hand, by the last detection
    mean_log_odds: float | None = None  # running mean of model and last detection; None: the model has no such head
    missed: int = 0  # detections in a row
    doubted: int = 0  # frames in a row
    presence: float | None = None  # of the last frame
    size: float | None = None  # px, of the joints' box
    unit: float | None = None  # px: the first size, in which speeds in the image are measured
    shapes: list[np.ndarray] = field(default_factory=list)
    filters: dict[str, OneEuro] = field(default_factory=dict)
    seconds: float | None = None  # time of the last result
    score: float | None = None  # of the last detection
    detector: str = ""  # that found it first

    @property
    def left_log_odds(self) -> float:
        """Log-odds of a left hand; infinite where the caller gives the side."""
        given = self.mean_log_odds is None or np.isinf(self.detected_log_odds)
        return self.detected_log_odds if given else self.mean_log_odds

    @property
    def side(self) -> Side:
        """Of the person's own hand."""
        return "left" if self.left_log_odds > 0 else "right"

    def update_opinions(self, result: HandResult) -> None:
        """Take in the model's presence and side of the newest frame."""
        self.presence = result.presence
        self.doubted = 0 if result.believed else self.doubted + 1
        if result.left_odds is not None:
            new, old = result.left_odds + self.last_log_odds, self.mean_log_odds
            self.mean_log_odds = new if old is None else SIDE_DECAY * old + (1 - SIDE_DECAY) * new


class HandTracker:
    """Follows the hands of one video; make a new one for the next."""

    def __init__(
        self,
        predictor: HandPredictor,
        every: int = FRAMES_BETWEEN_DETECTIONS,
        smooth: bool = True,
        one_shape: bool = True,
        sides: Sequence[str] | None = None,
        K: Float[np.ndarray, "3 3"] | None = None,
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
        mesh = "regressed" if self.one_shape else None  # the fit follows, with the track's shape
        results = self.predictor.predict(
            frame, [t.box for t in self.tracks], [t.side for t in self.tracks], mesh=mesh, **self.camera
        )
        shape, kept, hands = frame.shape[:2], [], []
        for track, result in zip(self.tracks, results, strict=True):
            track.update_opinions(result)
            if track.doubted > MAX_DOUBTED_FRAMES:
                self._wait = min(self._wait, FRAMES_BETWEEN_SEARCHES)
                continue
            if not _follow_joints(track, result, shape):
                self._wait = 0  # the detector runs on the next frame
                continue
            kept.append(track)
            sure = None if self.sides else score(track.left_log_odds)
            confidence = track.score if result.confidence is None else result.confidence
            result = replace(result, track=track.number, side_score=sure, confidence=confidence)
            hands.append(self._steady(track, replace(result, detector=track.detector), seconds))
        self.tracks = kept
        return hands

    def _detect(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Run the detector: it confirms or misses known hands, and others begin."""
        found = self.predictor.detector.detect(frame)
        self.detections += 1
        taken: set[int] = set()
        for track in self.tracks:
            overlap = [
                0.0 if i in taken else float(box_iou(_tensor(track.box), _tensor(d.box))) for i, d in enumerate(found)
            ]
            if overlap and max(overlap) >= MIN_OVERLAP:
                best = int(np.argmax(overlap))
                taken.add(best)
                track.missed, track.score = 0, found[best].score
                track.last_log_odds = side_log_odds(found[best].side, found[best].side_score)
                track.detected_log_odds += track.last_log_odds
            elif not any(d.is_proposal for d in found):  # a proposal confirms nothing and misses nothing
                track.missed += 1
        self.tracks = [t for t in self.tracks if t.missed < MAX_MISSES or is_believed(t.presence, SURE_PRESENCE)]
        if not self.sides and not all(d.side for d in found) and all(t.mean_log_odds is None for t in self.tracks):
            self._add_model_sides(frame)
        self._begin(frame, [d for i, d in enumerate(found) if i not in taken and not (d.is_proposal and self.tracks)])
        if not self.tracks:
            self._begin(frame, fallback_detections(self.predictor.detector, frame))
        steady = self.tracks and not any(0 < t.missed < MAX_MISSES for t in self.tracks)
        self._wait = self.every if steady else min(self.every, FRAMES_BETWEEN_SEARCHES)

    def _begin(self, frame: UInt8[np.ndarray, "h w 3"], detections: list[Detection]) -> None:
        """A track for each detection that the model believes in."""
        if self.sides:
            detections = [replace(d, side=self.sides[0]) for d in detections]
        hands = self.predictor.predict_crops(_photo(frame), detections, sides_given=bool(self.sides))
        for detection, hand in zip(detections, hands, strict=True):
            if not is_believed(hand.presence, max(detection.least_presence, BELIEVED)):
                continue
            margin = self.predictor.crop.over("box")
            box = _scaled(hand.box, 1 / margin) if detection.is_proposal else np.asarray(detection.box, np.float32)
            track = Track(self._count, box, score=detection.score)
            track.detector = detection.detector or self.predictor.detector.name
            track.last_log_odds = side_log_odds(detection.side, detection.side_score)
            known = hand.side_score is not None
            inferred = side_log_odds(hand.side, hand.side_score) if known else track.last_log_odds
            track.detected_log_odds = self._given_log_odds() or inferred
            self.tracks.append(track)
            self._count += 1

    def _given_log_odds(self) -> float:
        """Infinite for the side that the caller gives; 0 where there is none."""
        return {"left": np.inf, "right": -np.inf}[self.sides[0]] if self.sides else 0.0

    def _add_model_sides(self, frame: UInt8[np.ndarray, "h w 3"]) -> None:
        """Add the side of every hand as the predictor infers it without a detector's opinion."""
        hands = self.predictor.predict_crops(_photo(frame), [Detection(track.box) for track in self.tracks])
        for track, hand in zip(self.tracks, hands, strict=True):
            track.detected_log_odds += side_log_odds(hand.side, hand.side_score)

    def _steady(self, track: Track, result: HandResult, seconds: float) -> HandResult:
        """The result with one shape, then smoothed."""
        if self.one_shape and result.vertices is not None:
            result = self._with_one_shape(track, result)
        if self.smooth:
            result = _smoothed(track, result, seconds)
        track.seconds = seconds
        return result

    def _with_one_shape(self, track: Track, result: HandResult) -> HandResult:
        """The result with the mean shape of the track."""
        known = None
        if len(track.shapes) >= SHAPE_FIT_FRAMES:
            known = torch.from_numpy(np.mean(track.shapes, 0, dtype=np.float32))[None]
        hand = self.predictor.hand
        fitted = fit_mano_to_result(result, hand, shape=known, steps=1 if known is not None else 2, noise=NOISE)
        if known is None:
            track.shapes.append(fitted.shape[0].numpy())
            known = torch.from_numpy(np.mean(track.shapes, 0, dtype=np.float32))[None]
        return with_mano_mesh(result, hand, fitted.pose, known)


def _follow_joints(track: Track, result: HandResult, shape: tuple[int, int]) -> bool:
    """Move the track's box to the joints; False where they left the frame or jumped in size."""
    if result.joints_2d is None:
        return True  # nothing to follow: the box stays until the next detection
    low, high = result.joints_2d.min(0), result.joints_2d.max(0)
    size, centre = float((high - low).max()), (low + high) / 2
    inside = (centre >= 0).all() and (centre < shape[::-1]).all()
    steady = track.size is None or 1 / MAX_SIZE_CHANGE < size / max(track.size, 1e-6) < MAX_SIZE_CHANGE
    if not (inside and steady and size >= MIN_SIZE_PX):
        return False
    half = size * HAND_OVER_KEYPOINTS / 2
    track.size, track.box = size, np.concatenate([centre - half, centre + half]).astype(np.float32)
    return True


def _smoothed(track: Track, result: HandResult, seconds: float) -> HandResult:
    """The result after the track's filters: points in metres, the wrist, points in px."""
    elapsed = 0.0 if track.seconds is None else seconds - track.seconds
    track.unit = track.unit or track.size or 1.0  # constant: a unit that changes adds jitter
    units = {"vertices": 1.0, "joints": 1.0, "translation": 1.0, "joints_2d": track.unit}
    changed = {}
    for name, unit in units.items():
        value = getattr(result, name)
        if value is None:
            continue
        kind = {"translation": WRIST_FILTER, "joints_2d": PIXEL_FILTER}.get(name, SHAPE_FILTER)
        steady = track.filters.setdefault(name, OneEuro(*kind))
        changed[name] = steady(value / np.float32(unit), elapsed) * np.float32(unit)
    return replace(result, **changed)


def _scaled(box: Float[np.ndarray, "4"], factor: float) -> Float[np.ndarray, "4"]:
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
    return np.concatenate([centre - half, centre + half]).astype(np.float32)


def _photo(frame: UInt8[np.ndarray, "h w 3"]) -> Photo:
    return Photo(frame, NO_INTRINSICS, "assumed")


def _tensor(box: Shaped[np.ndarray, "4"]) -> torch.Tensor:
    return torch.from_numpy(np.asarray(box, np.float32))[None]
