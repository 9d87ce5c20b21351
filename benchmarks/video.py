"""The part `video` of tools/benchmark.py: a virtual clip from its file to the annotated file, as hand-demo does it."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import demo, demo_video
from mesh_graphormer_hand.inference.predictor import DEFAULT_WEIGHTS

from .cases import Options, Table, compare, export
from .scenes import sequence
from .timing import Case

FRAMES, SIZE = 60, 320  # of the clip, px


def video(options: Options) -> Iterator[Table]:
    """The shipped weights by torch and by ONNX Runtime."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = sequence(folder, FRAMES, SIZE)[0]
        cases = {"torch": _case(options, clip, [])}
        exported = folder / "onnx"
        model = assembly.load_model(assembly.find_model(DEFAULT_WEIGHTS))
        if torch.device(options.device).type == "cpu" and options.onnx and export(model, exported):
            cases["ONNX Runtime"] = _case(options, clip, ["--backend", "onnx", "--weights", str(exported)])
        title = f"video, {FRAMES} frames of {SIZE} x {SIZE} px"
        yield title, compare(options, title, cases, "torch"), "frame"


def _case(options: Options, clip: Path, flags: list[str]) -> Case:
    """hand-demo's work on the clip with its defaults, once everything is loaded."""
    arguments = demo.parser().parse_args([str(clip), "--out", str(clip.parent), "--device", options.device, *flags])
    run = demo.Run(arguments, clip.parent, None, None, None, several=False)
    case = Case(partial(_film, run, clip), FRAMES)
    return replace(case, note=f"hands in {_film(run, clip)} frames")


def _film(run: demo.Run, clip: Path) -> int:
    """Make the annotated video without a word; returns the frames in which hands were seen."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        demo_video.film(run, clip, clip.stem)
    records = json.loads((run.out / f"{clip.stem}_hand.json").read_text(encoding="utf-8"))["frames"]
    return sum(bool(record["hands"]) for record in records)
