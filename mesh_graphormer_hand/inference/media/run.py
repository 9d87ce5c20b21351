"""Predictions of photos and videos as files: what is done before is kept, models load when the first input needs them.

run = PredictionRun(Settings(out=Path("runs/demo")))
print(run(Path("photo.jpg"), "photo").summary)       # writes photo_hand.png, .json, .obj
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files import sha256
from ..detectors.options import DetectorOptions, alternatives
from . import answers, outputs
from .sources import Source, is_video
from .video_addresses import display_name

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from ..predictor import HandPredictor
    from ..result import HandResult

Progress = Callable[[Iterable[Any], int | None, str], Iterator[Any]]  # the items under a progress bar: total, unit


@dataclass(frozen=True)
class Settings:
    """What to predict and to write."""

    out: Path
    kinds: tuple[str, ...] | None = None  # of `outputs.FILE_KINDS`; None: the usual ones of a photo, none of each frame
    weights: str | None = None  # None: the shipped ones
    device: str = "cpu"
    backend: str = "auto"
    mesh: str = "mano"
    detector: DetectorOptions = field(default_factory=DetectorOptions)
    boxes: list[list[float]] | None = None  # x0, y0, x1, y1, px
    side: str | None = None
    K: np.ndarray | None = None  # (3, 3), px
    focal: float | None = None  # px
    bone_length: float | None = None  # m
    every: int = 15  # frames between detections
    limit: int | None = None  # frames
    smoothing: bool = True
    free_shape: bool = False  # of mesh "mano": a shape for each frame, not for each track

    def as_mapping(self, video: bool) -> dict[str, Any]:
        """The settings that decide what an answer's files hold, by their names in JSON; unset ones are left out."""
        found = {
            "weights": self.weights,
            "backend": self.backend,
            "mesh": self.mesh,
            "box": self.boxes,
            "side": self.side,
            "threshold": self.detector.threshold,
            "detector_model": self.detector.model,
            "detector_python": self.detector.python,
            "K": None if self.K is None else self.K.tolist(),
            "focal": self.focal,
            "bone_length": self.bone_length,
        }
        if video:
            found |= {"every": self.every, "limit": self.limit}
            found |= {"no_smoothing": not self.smoothing, "free_shape": self.free_shape}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """What was found in an input, in words, and the files that hold it."""

    summary: str
    files: list[Path] = field(default_factory=list)
    speed: str = ""  # of a video
    problem: str = ""  # of a video that breaks off: the files hold what could be read


class PredictionRun:
    """Predicts inputs one by one and writes their files."""

    def __init__(self, settings: Settings, progress: Progress = lambda items, total, unit: iter(items)) -> None:
        self.settings, self.progress = settings, progress
        self.sides = None if settings.side is None else [settings.side]
        self._opened: tuple[Source, Any] | None = None
        self._identified: tuple[Source, dict[str, Any]] | None = None

    @cached_property
    def predictor(self) -> HandPredictor:
        """The model and the detector."""
        from ..predictor import DEFAULT_DETECTOR, HandPredictor

        s = self.settings
        sides = None if self.sides is None else self.sides * len(s.boxes or [])
        detector = s.detector.build(s.boxes, sides, s.device) or DEFAULT_DETECTOR
        options = {"detector": detector, "backend": s.backend, "mesh": s.mesh}
        return HandPredictor.from_pretrained(s.weights, s.device, **options)

    def open(self, source: Source) -> None:
        """Open an input, so that an error of it shows before models are loaded.

        Raises:
            DataError: no photo or video.
        """
        if is_video(source):
            from .video_io import VideoReader

            VideoReader(source).close()
        else:
            self._opened = source, _read(source)

    def own_stem(self, source: Source, stem: str) -> str:
        """`stem`, or with a number where an answer of another input has it already."""
        return answers.own_stem(self.settings.out, stem, source) if isinstance(source, Path) else stem

    def is_done(self, source: Source, stem: str) -> bool:
        """Whether an answer holds all of this input's content with these settings."""
        answer = answers.read(answers.json_of(self.settings.out, stem))
        settings = {**self.settings.as_mapping(is_video(source)), **self._models, "save": list(self._kinds(source))}
        return answer is not None and answers.holds(answer, self._identify(source), settings)

    def __call__(self, source: Source, stem: str) -> Answer:
        """Predict one photo or video and write its files.

        Raises:
            DataError: no photo or video.
        """
        if is_video(source):
            from .annotate_video import annotate_video

            return annotate_video(self, source, stem)
        return self._photo(source, stem)

    def _photo(self, path: Path, stem: str) -> Answer:
        opened = self._opened if self._opened is not None and self._opened[0] == path else None
        photo, exif = opened[1] if opened else _read(path)
        hands = self.predict(photo, exif)
        about = {**self.about(path), "image_size": [photo.shape[1], photo.shape[0]]}
        contents = outputs.encode(self._kinds(path), photo, hands, about)
        return Answer(f"{path}: {self._say(hands)}", outputs.write_all(self.settings.out, f"{stem}_hand", contents))

    def _say(self, hands: list[HandResult]) -> str:
        """What was found, by which detector and weights."""
        detector, weights = self.predictor.detector.name, f"weights: {self.predictor.weights}"
        if not hands:
            return f"no hand found (detector: {detector}; {weights}); try another: {alternatives(detector)}"
        return f"{outputs.say(hands)}; detector: {', '.join(sorted({h.detector for h in hands}))}; {weights}"

    def predict(self, photo: UInt8[np.ndarray, "h w 3"], exif: float | None = None) -> list[HandResult]:
        """The hands of an RGB photo with these settings; `exif`: its focal length by its file, px."""
        s = self.settings
        given = s.K is not None or s.focal is not None
        options = {"K": s.K, "focal": s.focal if given else exif, "bone_length": s.bone_length}
        sides = self.sides if s.boxes is None or self.sides is None else self.sides * len(s.boxes)
        hands = self.predictor.predict(photo, s.boxes, sides, **options)
        return hands if given or exif is None else [replace(hand, intrinsics_from="exif") for hand in hands]

    def about(self, source: Source) -> dict[str, Any]:
        """The head of a JSON file: the input, the model, the detector and the settings."""
        settings = {**self.settings.as_mapping(is_video(source)), **self._models, "save": list(self._kinds(source))}
        return {
            "video" if is_video(source) else "image": display_name(source),
            "input": self._identify(source),
            "model": self.predictor.model.config.name,
            "weights": self.predictor.weights,
            "detector": self.predictor.detector.name,
            "settings": settings,
        }

    def _kinds(self, source: Source) -> tuple[str, ...]:
        """The files of a photo, or of each frame."""
        return self.settings.kinds or (() if is_video(source) else outputs.DEFAULT_KINDS)

    @cached_property
    def _models(self) -> dict[str, str]:
        """The detector's name and sums of the weights' files: retrained weights are others under the same name."""
        from ... import assembly
        from ..predictor import DEFAULT_DETECTOR, DEFAULT_WEIGHTS

        s = self.settings
        detector = s.detector.chosen(s.boxes) or DEFAULT_DETECTOR
        folder = assembly.find_model(s.weights or DEFAULT_WEIGHTS)
        names = ("model.onnx", "model.safetensors") if s.backend == "onnx" else ("model.safetensors", "model.onnx")
        weights = next((folder / name for name in names if (folder / name).is_file()), None)
        found = {"weights_sha256": weights, "detector_sha256": s.detector.model_file(detector)}
        sums = {name: sha256(file) for name, file in found.items() if file is not None and file.is_file()}
        return {"detector": detector, **sums}

    def _identify(self, source: Source) -> dict[str, Any] | None:
        """Which content an answer belongs to; None: a camera. Computed once an input."""
        if not isinstance(source, Path):
            return None
        if self._identified is None or self._identified[0] != source:
            self._identified = source, answers.identify(source)
        return self._identified[1]


def _read(path: Path) -> tuple[np.ndarray, float | None]:
    """A photo and its focal length by EXIF, px."""
    from ...data import headers
    from ...data.images import decode_image, read_bytes

    data = read_bytes(path)
    photo = decode_image(data, path)
    return photo, headers.focal_length(data, photo.shape[1], photo.shape[0])
