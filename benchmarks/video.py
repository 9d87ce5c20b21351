"""The part `video` of tools/benchmark.py: a virtual clip from its file to the annotated file, as hand-demo does it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.inference.media.annotate_video import annotate_video
from mesh_graphormer_hand.inference.media.run import PredictionRun, Settings
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
        cases = {"torch": _case(options, clip, backend="torch")}
        exported = folder / "onnx"
        model = assembly.load_model(assembly.find_model(DEFAULT_WEIGHTS))
        if torch.device(options.device).type == "cpu" and options.onnx and export(model, exported):
            cases["ONNX Runtime"] = _case(options, clip, backend="onnx", weights=str(exported))
        title = f"video, {FRAMES} frames of {SIZE} x {SIZE} px"
        yield title, compare(options, title, cases, "torch"), "frame"


def _case(options: Options, clip: Path, **settings: str) -> Case:
    """hand-demo's work on the clip with its defaults, once everything is loaded."""
    run = PredictionRun(Settings(out=clip.parent, device=options.device, **settings))
    case = Case(partial(_annotate, run, clip), FRAMES)
    return replace(case, note=f"hands in {_annotate(run, clip)} frames")


def _annotate(run: PredictionRun, clip: Path) -> int:
    """Make the annotated video; returns the frames in which hands were seen."""
    annotate_video(run, clip, clip.stem)
    records = json.loads((run.settings.out / f"{clip.stem}_hand.json").read_text(encoding="utf-8"))["frames"]
    return sum(bool(record["hands"]) for record in records)
