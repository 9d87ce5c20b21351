"""Hands out of photos and videos:  hand-demo PHOTO|FOLDER|'*.jpg'|VIDEO|CAMERA ... [--out DIR] [--save KINDS]

Of a photo NAME it writes NAME_hand.png (the mesh on the photo, from the side, the skeleton), NAME_hand.obj (the mesh;
numbered where there are several hands) and NAME_hand.json (joints, camera, handedness), and what else --save names. Of
a video NAME_hand.mp4 and NAME_hand.json, and with --save a file of each kind a frame in NAME_frames/. It prints what
was found, how sure that is, by which detector and weights, and the paths. A number is a camera, until Ctrl-C. In a
checkout: python tools/demo.py. See docs/predictor.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import ConfigError
from ..inference import BACKENDS
from ..inference.media import outputs
from ..inference.media.run import Answer, PredictionRun, Settings
from ..inference.media.sources import find_sources, stems
from . import console, detector_args
from .detector_args import BACKEND_HELP

if TYPE_CHECKING:
    import numpy as np


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
    made.add_argument("--backend", choices=BACKENDS, default="auto", help=BACKEND_HELP)
    made.add_argument(
        "--mesh",
        choices=("mano", "regressed"),
        default="mano",
        help="mano: the posed hand nearest to what the model regressed, with its parameters (default); "
        "regressed: the model's own vertices",
    )
    made.add_argument("--serve", action="store_true", help="instead, a page for your browser: see --serve --help")
    made.add_argument("--overwrite", action="store_true", help="also what of several inputs is done already")
    where = made.add_argument_group("finding hands")
    detector_args.add_options(where)
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
    console.refuse_renamed(made, {"--again": "--overwrite"})
    return made


def demo(arguments: argparse.Namespace) -> int:
    """Predict and write with the options of the command line; see the module's docstring."""
    settings = parse_settings(arguments)
    check_out(settings.out)
    sources = find_sources(arguments.input)
    console.log_to_terminal()
    run, several = PredictionRun(settings, console.bar), len(sources) > 1
    if not several:
        run.open(sources[0])
    failed = 0
    for source, stem in console.bar(zip(sources, stems(sources), strict=True), len(sources), "input"):
        try:
            stem = run.own_stem(source, stem)
            if several and not arguments.overwrite and run.is_done(source, stem):
                answer = f"{settings.out / stem}_hand.json; --overwrite redoes it"
                print(f"{source}: done before with the same content, settings and models ({answer})")
            else:
                report(run(source, stem))
        except Exception as error:
            if not several or not console.is_user_error(error):
                raise
            failed += 1
            print(f"error: {console.format_error(error)}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(sources)} could not be used", file=sys.stderr)
    return console.FAILED if failed else 0


def report(answer: Answer) -> None:
    """Print an answer and the paths of its files.

    Raises:
        DataError: the input breaks off; its files are there all the same.
    """
    if answer.speed:
        print(answer.speed, file=sys.stderr)
    print("\n".join([answer.summary, *map(str, answer.files)]))
    if answer.problem:
        from ..data.images import DataError

        raise DataError(answer.problem)


def parse_settings(arguments: argparse.Namespace) -> Settings:
    """The settings of a command line.

    Raises:
        ConfigError: a value that cannot be used.
    """
    a = arguments
    boxes = None if a.box is None else [parse_box(box) for box in a.box]
    if a.every < 1 or (a.limit is not None and a.limit < 1):
        raise ConfigError("--every and --limit are 1 or more")
    if boxes is not None and a.detector not in (None, "boxes"):
        raise ConfigError(f"--box goes with --detector boxes, not with {a.detector}")
    detector = detector_args.parse(a)
    if a.device != "cpu":
        console.check_device(a.device)
    return Settings(
        out=Path(a.out),
        kinds=None if a.save is None else outputs.parse_kinds(a.save),
        weights=a.weights,
        device=a.device,
        backend=a.backend,
        mesh=a.mesh,
        detector=detector,
        boxes=boxes,
        side=a.side,
        K=None if a.K is None else parse_intrinsics(a.K),
        focal=a.focal,
        bone_length=a.bone_length,
        every=a.every,
        limit=a.limit,
        smoothing=not a.no_smoothing,
        free_shape=a.free_shape,
    )


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
