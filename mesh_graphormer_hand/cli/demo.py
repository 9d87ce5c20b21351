"""Hands out of photos and videos:  hand-demo PHOTO|FOLDER|'*.jpg'|VIDEO|CAMERA ... [--out DIR] [--save KINDS]

Of a photo NAME it writes NAME_hand.png (the mesh on the photo, from the side, the skeleton), NAME_hand.obj (the mesh;
numbered where there are several hands) and NAME_hand.json (joints, camera, handedness), and what else --save names. Of
a video NAME_hand.mp4 and NAME_hand.json, and with --save a file of each kind a frame in NAME_frames/. It prints what
was found, how sure that is, by which detector and weights, and the paths. A number is a camera, until Ctrl-C. In a
checkout: python tools/demo.py. See docs/predictor.md.
"""

from __future__ import annotations

import argparse
import glob
import os
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import ConfigError
from ..files import sha256
from ..inference import outputs
from ..inference.outputs import encode_png, write_all
from ..inference.video_addresses import SCHEMES, is_live, is_stream, shown
from . import console, earlier
from . import detector_args as finding

if TYPE_CHECKING:
    import numpy as np

    from ..inference.predictor import HandPredictor
    from ..inference.result import HandResult

__all__ = ["encode_png", "main", "write_all"]

PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".dib")
PHOTOS += (".tif", ".tiff", ".jp2", ".pbm", ".pgm", ".ppm", ".pnm", ".pam", ".sr", ".ras", ".heic", ".heif", ".hif")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".3gp")
Source = Path | int | str  # a photo, a video, a camera, a network camera's address
# options that decide what the files of a photo hold, beside --save, the detector and the models; and those of a video
SETTINGS = ("weights", "backend", "mesh", "box", "side", "threshold", "detector_model", "detector_python")
SETTINGS += ("K", "focal", "bone_length")
VIDEO_SETTINGS = ("every", "limit", "no_smoothing", "free_shape")


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and predict; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    if "--serve" in given:
        from . import serve

        return serve.main(given)
    return console.run(lambda: demo(parser().parse_args(given)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="hand-demo", description=__doc__.splitlines()[0])
    made.add_argument(
        "input", metavar="INPUT", nargs="+", help="photo, folder, pattern, video, number or rtsp:// of a camera"
    )
    made.add_argument("--out", metavar="DIR", default="runs/demo", help="where to write (default: runs/demo)")
    made.add_argument("--save", metavar="KINDS", help=f"all, or some of: {outputs.HELP} (default: picture,json,obj)")
    made.add_argument("--weights", metavar="RUN", help="a run, a saved model or shipped weights (default: the lite)")
    made.add_argument("--device", default="cpu", help="cpu (default), cuda, mps, ...")
    made.add_argument("--backend", choices=("torch", "onnx"), default="torch", help="onnx: what tools/export.py wrote")
    made.add_argument(
        "--mesh",
        choices=("mano", "regressed"),
        default="mano",
        help="mano: the posed hand nearest to what the model regressed, with its parameters (default); "
        "regressed: the model's own vertices",
    )
    made.add_argument("--serve", action="store_true", help="instead, a page for your browser: see --serve --help")
    made.add_argument("--again", action="store_true", help="also what of several inputs is done already")
    where = made.add_argument_group("finding hands")
    finding.add_options(where)
    where.add_argument("--box", metavar="x0,y0,x1,y1", action="append", help="around a hand, px; may be repeated")
    where.add_argument("--side", choices=("left", "right"), help="the person's own hand (default: as detected)")
    camera = made.add_argument_group("the camera (see docs/predictor.md)")
    camera.add_argument("--K", metavar="fx,fy,cx,cy", help="intrinsics, px")
    camera.add_argument(
        "--focal", type=float, metavar="PX", help="focal length, px (default: EXIF, or the longer side)"
    )
    camera.add_argument("--bone-length", type=float, metavar="M", help="middle finger's proximal phalanx, metres")
    video = made.add_argument_group("video")
    video.add_argument("--every", type=int, default=15, metavar="N", help="frames between detections (default: 15)")
    video.add_argument("--limit", type=int, metavar="N", help="stop after so many frames")
    video.add_argument("--no-smoothing", action="store_true", help="frames as they are predicted")
    video.add_argument(
        "--free-shape", action="store_true", help="of mesh mano: a shape for each frame, not for each person"
    )
    return made


def demo(arguments: argparse.Namespace) -> int:
    """Predict and write as the command line says; see the module's docstring."""
    boxes = None if arguments.box is None else [parse_box(box) for box in arguments.box]
    K = None if arguments.K is None else parse_intrinsics(arguments.K)
    kinds = None if arguments.save is None else outputs.parse_kinds(arguments.save)
    if arguments.every < 1 or (arguments.limit is not None and arguments.limit < 1):
        raise ConfigError("--every and --limit are 1 or more")
    if boxes is not None and arguments.detector not in (None, "boxes"):
        raise ConfigError(f"--box goes with --detector boxes, not with {arguments.detector}")
    finding.check(arguments)
    if arguments.device != "cpu":
        console.check_device(arguments.device)
    out = Path(arguments.out)
    check_out(out)
    sources = find_sources(arguments.input)
    console.log_to_terminal()
    run = Run(arguments, out, kinds, boxes, K, len(sources) > 1)
    run.check(sources[0])  # before anything slow, so that a mistake is told at once
    failed = 0
    for source, stem in console.bar(zip(sources, stems(sources), strict=True), len(sources), "input"):
        try:
            run(source, stem)
        except Exception as error:
            if len(sources) == 1 or not console.expected(error):
                raise
            failed += 1
            print(f"error: {console.said(error)}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(sources)} could not be used", file=sys.stderr)
    return console.FAILED if failed else 0


class Run:
    """One call of the demo: what was asked for, and a predictor that is loaded when it is needed."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        out: Path,
        kinds: tuple[str, ...] | None,
        boxes: list[list[float]] | None,
        K: np.ndarray | None,
        several: bool,
    ) -> None:
        self.arguments, self.out, self.kinds, self.boxes, self.K = arguments, out, kinds, boxes, K
        self.several = several
        self.sides = None if arguments.side is None else [arguments.side]
        self._predictor: HandPredictor | None = None
        self._checked: tuple[Source, Any] | None = None
        self._identified: tuple[Source, dict[str, Any]] | None = None

    @property
    def predictor(self) -> HandPredictor:
        """The model and the detector."""
        if self._predictor is None:
            from ..inference.predictor import DEFAULT_DETECTOR, HandPredictor

            a = self.arguments
            sides = None if self.sides is None else self.sides * len(self.boxes or [])
            detector = finding.build(a, self.boxes, sides) or DEFAULT_DETECTOR
            options = {"detector": detector, "backend": a.backend, "mesh": a.mesh}
            self._predictor = HandPredictor.from_pretrained(a.weights, a.device, **options)
        return self._predictor

    def check(self, source: Source) -> None:
        """Open the only input, so that what is wrong with it is told before models are loaded."""
        if self.several:
            return  # each tells its own mistake, and the others go on
        if is_video(source):
            from ..inference.video_io import VideoReader

            VideoReader(source).close()
        else:
            self._checked = source, self._read(source)

    def __call__(self, source: Source, stem: str) -> None:
        """One photo or video; of several, those that were done before with the same settings are left as they are. An
        answer of another input of that name stays: this one's gets a number."""
        if isinstance(source, Path):
            stem = earlier.own_stem(self.out, stem, source)
        if self.several and not self.arguments.again and self._is_done(source, stem):
            answer = earlier.json_of(self.out, stem)
            print(f"{source}: done before with the same content, settings and models ({answer}); --again does it anew")
            return
        if is_video(source):
            from . import demo_video

            demo_video.film(self, source, stem)
        else:
            self.photo(source, stem)

    def photo(self, path: Path, stem: str) -> None:
        """Predict and write."""
        checked = self._checked if self._checked is not None and self._checked[0] == path else None
        photo, exif = checked[1] if checked else self._read(path)
        hands = self.predict(photo, exif)
        about = {**self.about(path), "image_size": [photo.shape[1], photo.shape[0]]}
        written = write_all(self.out, f"{stem}_hand", outputs.encode(self._kinds(path), photo, hands, about))
        print(f"{path}: {self._say(hands)}")
        for file in written:
            print(file)

    def _say(self, hands: list[HandResult]) -> str:
        """What was found, by whom."""
        detector, weights = self.predictor.detector.name, f"weights: {self.predictor.weights}"
        if not hands:
            return f"no hand found (detector: {detector}; {weights}); try another: {finding.others(detector)}"
        return f"{outputs.say(hands)}; detector: {', '.join(sorted({h.detector for h in hands}))}; {weights}"

    def predict(self, photo: np.ndarray, exif: float | None = None) -> list[HandResult]:
        """The hands of a photo with the settings of the command line."""
        from dataclasses import replace

        a = self.arguments
        given = self.K is not None or a.focal is not None
        options = {"K": self.K, "focal": a.focal if given else exif, "bone_length": a.bone_length}
        if self.boxes is not None:
            sides = None if self.sides is None else self.sides * len(self.boxes)
            hands = self.predictor.predict(photo, self.boxes, sides, **options)
        else:
            hands = self.predictor.predict(photo, sides=self.sides, **options)
        return hands if given or exif is None else [replace(hand, intrinsics_from="exif") for hand in hands]

    def about(self, source: Source) -> dict[str, Any]:
        """The head of a JSON file: what was looked at, who found and predicted, and the settings behind the rest."""
        return {
            "video" if is_video(source) else "image": shown(source),
            "input": self._identify(source),
            "model": self.predictor.model.config.name,
            "weights": self.predictor.weights,
            "detector": self.predictor.detector.name,
            "settings": self._settings(source),
        }

    def _kinds(self, source: Source) -> tuple[str, ...]:
        """What to write of a photo, or of each frame."""
        return self.kinds or (() if is_video(source) else outputs.DEFAULT_KINDS)

    def _settings(self, source: Source) -> dict[str, Any]:
        names = SETTINGS + VIDEO_SETTINGS if is_video(source) else SETTINGS
        chosen = {name: getattr(self.arguments, name) for name in names if getattr(self.arguments, name) is not None}
        return {**chosen, **self._models, "save": list(self._kinds(source))}

    @cached_property
    def _models(self) -> dict[str, str]:
        """The detector's name, and what the weights' names stand for: retrained ones are others under the same name."""
        from .. import assembly
        from ..inference.predictor import DEFAULT_DETECTOR, DEFAULT_WEIGHTS

        a = self.arguments
        detector = finding.name(a, self.boxes) or DEFAULT_DETECTOR
        folder = assembly.find_model(a.weights or DEFAULT_WEIGHTS)
        weights = folder / ("model.onnx" if a.backend == "onnx" else "model.safetensors")
        found = {"weights_sha256": weights, "detector_sha256": finding.model_file(a, detector)}
        sums = {name: sha256(file) for name, file in found.items() if file is not None and file.is_file()}
        return {"detector": detector, **sums}

    def _is_done(self, source: Path, stem: str) -> bool:
        """Whether an answer tells of all of this input's content with these settings."""
        answer = earlier.read(earlier.json_of(self.out, stem))
        return answer is not None and earlier.holds(answer, self._identify(source), self._settings(source))

    def _identify(self, source: Source) -> dict[str, Any] | None:
        """What an answer belongs to; None: a camera. Read once an input."""
        if not isinstance(source, Path):
            return None
        if self._identified is None or self._identified[0] != source:
            self._identified = source, earlier.identify(source)
        return self._identified[1]

    @staticmethod
    def _read(path: Path) -> tuple[np.ndarray, float | None]:
        from ..data import headers
        from ..data.images import decode_image, read_bytes

        data = read_bytes(path)
        photo = decode_image(data, path)
        return photo, headers.focal_length(data, photo.shape[1], photo.shape[0])


def check_out(out: Path) -> None:
    """Refuse a folder that cannot be made or written to, before anything slow.

    Raises:
        NotADirectoryError: it, or what it should lie in, is a file.
        PermissionError: no right to write there.
    """
    there = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"--out {out}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"--out {out}: {there} cannot be written to: permission denied")


def find_sources(inputs: list[str]) -> list[Source]:
    """Photos, videos and cameras, as the command line names them: files, folders, patterns, numbers. Of a folder all
    photos and videos but those that this command wrote.

    Raises:
        ConfigError: a folder or pattern without a photo or video, a camera beside other inputs, an address.
    """
    found: list[Source] = []
    for text in inputs:
        path = Path(text)
        if not text:
            raise ConfigError("an input has no name: give a photo, a folder, a pattern, a video or a camera's number")
        if is_stream(text):
            found.append(text)
            continue
        if "://" in text and not path.exists():
            raise ConfigError(
                f"{text}: addresses are not fetched; save the file and give its name (cameras: {', '.join(SCHEMES)})"
            )
        if text.isdecimal() and not path.exists():
            found.append(int(text))
        elif path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOS + VIDEOS and p.is_file())
            inside = [p for p in inside if not _is_ours(p)]
            if not inside:
                raise ConfigError(f"{path} is a folder without a photo or video ({', '.join(PHOTOS + VIDEOS)})")
            found += inside
        elif not path.exists() and glob.has_magic(text):
            matched = sorted(Path(p) for p in glob.glob(text, recursive=True) if Path(p).is_file())
            if not matched:
                raise ConfigError(f"no file matches {text}")
            found += matched
        else:
            found.append(path)
    if len(found) > 1 and any(map(is_live, found)):
        raise ConfigError("a camera stands alone: it is read until Ctrl-C")
    return list(dict.fromkeys(found))


def _is_ours(path: Path) -> bool:
    """Whether it is an answer of this command, as they lie beside the photos where --out is their own folder."""
    answer = re.fullmatch(r"(.+_hand)(_depth|_depth_colour|_normals|_mask)?", path.stem)
    if answer is None or path.suffix not in (".png", ".mp4"):
        return False
    return earlier.read(path.with_name(f"{answer[1]}.json")) is not None


def stems(sources: list[Source]) -> list[str]:
    """A name for each input's files; inputs that share one keep their endings and get a number."""
    names = [s.stem if isinstance(s, Path) else f"camera{s}" if isinstance(s, int) else "camera" for s in sources]
    if len(set(names)) < len(names):
        names = [n if names.count(n) == 1 else Path(s).name for n, s in zip(names, sources, strict=True)]
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return result


def is_video(source: Source) -> bool:
    """Whether an input has frames."""
    return is_live(source) or source.suffix.lower() in VIDEOS


def parse_box(text: str) -> list[float]:
    """Four numbers from "x0,y0,x1,y1".

    Raises:
        ConfigError: anything else.
    """
    return _numbers(text, f"--box {text!r} should be four numbers, x0,y0,x1,y1 in pixels")


def parse_intrinsics(text: str) -> np.ndarray:
    """The matrix of "fx,fy,cx,cy".

    Raises:
        ConfigError: anything else.
    """
    import numpy as np

    fx, fy, cx, cy = _numbers(text, f"--K {text!r} should be four numbers, fx,fy,cx,cy in pixels")
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float32)


def _numbers(text: str, message: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise ConfigError(message)
    return numbers
