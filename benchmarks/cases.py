"""The parts of tools/benchmark.py: tables of cases that do one thing in several ways (also: `train`, `video`)."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mesh_graphormer_hand import assembly, paths
from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.virtual.generator import BLOCK, faces_for

from . import timing
from .media_pipe import MediaPipe
from .scenes import load_hand, photo
from .timing import Case, Timing

if TYPE_CHECKING:
    from mesh_graphormer_hand.mano.hand import Hand
    from mesh_graphormer_hand.models.base import HandModel

Table = tuple[str, list[Timing], str]  # title, rows, what an item is
BASELINE = "published way"  # models.reference: the same numbers, computed as the published program does
RENDERED = (1, 8, 32)  # images
HELP = "from {}.cli.{} import main; main(['--help'])"
DEMO = "from {}.cli.demo import main; raise SystemExit(main())"
COMMANDS = (
    "train",
    "ablate",
    "evaluate",
    "cross_evaluate",
    "score",
    "demo",
    "generate",
    "export",
    "convert",
    "register_hand",
)
SCRIPTS = (
    "tools/ship",
    "benchmarks/__main__",
    "benchmarks/detector",
    "benchmarks/mesh",
    "benchmarks/sides",
    "benchmarks/tracking",
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """The command line's."""

    configs: list[str]
    batches: list[int]
    rounds: int = 7
    warmup: int = 1
    device: str = "cpu"
    trace: Path | None = None
    clock: str = "wall"
    onnx: bool = True  # also by ONNX Runtime, where it is installed
    compile: bool = False  # training also with torch.compile
    mediapipe: Path | None = None  # interpreter of an environment that has it


def compare(options: Options, title: str, cases: dict[str, Case], baseline: str | None) -> list[Timing]:
    """Time the cases, and leave a trace of each where one is asked for."""
    if options.trace is not None:
        for name, case in cases.items():
            _trace(options.trace, f"{title} {name}", case)
    return timing.compare(cases, baseline, options.rounds, options.warmup, options.device, options.clock)


def left_out(what: str, remedy: object) -> None:
    """Say that something is not measured, and what it takes."""
    logger.warning("%s is left out: %s", what, remedy)


def _trace(folder: Path, name: str, case: Case) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    case.call()
    with torch.profiler.profile(record_shapes=True) as profile:
        case.call()
    profile.export_chrome_trace(str(folder / f"{''.join(c if c.isalnum() else '_' for c in name)}.json"))


# ---- forward ----


def forward(options: Options) -> Iterator[Table]:
    """Networks with fresh weights: as published, as they stand, made fast, in half precision, by ONNX Runtime."""
    hand = load_hand()
    for name in options.configs:
        model = _model(name, hand, options.device)
        ways = _ways(model, options)
        for batch in options.batches:
            inputs = photos(model, batch, options.device)
            truth = _answer(model, inputs)
            cases = {}
            for way, predict in ways.items():
                call = partial(predict_only, predict, inputs)
                cases[way] = Case(call, batch, note=_distance(truth, call()))
            if name == "graphormer_lite" and batch == 1:
                cases |= _mediapipe(options)
            title = f"forward, {name}, batch {batch}"
            yield title, compare(options, title, cases, BASELINE), "image"
        yield f"trunk and rest, {name}, batch 1", _shares(options, model), "image"


def _ways(model: HandModel, options: Options) -> dict[str, Callable[[HandInputs], HandPrediction]]:
    from mesh_graphormer_hand.inference.network import for_prediction

    from .reference import published

    folded = for_prediction(model)
    ways = {BASELINE: published(model), "as it stands": model, "torch": folded, "torch, bfloat16": _autocast(folded)}
    if torch.device(options.device).type == "cpu" and options.onnx:
        from mesh_graphormer_hand.inference.onnx import OnnxModel

        with tempfile.TemporaryDirectory() as folder:
            if export(model, Path(folder)):
                ways["ONNX Runtime"] = OnnxModel(folder)  # in memory from here on
    return ways


def _autocast(model: HandModel) -> Callable[[HandInputs], HandPrediction]:
    """The model with convolutions and products in bfloat16, worth it where `training.precision` chooses it."""

    def predict(inputs: HandInputs) -> HandPrediction:
        with torch.autocast(inputs.image.device.type, torch.bfloat16):
            return model(inputs)

    return predict


def export(model: HandModel, folder: Path) -> bool:
    """Write the network for ONNX Runtime; where that is not installed, say so and return False."""
    import importlib.util
    import warnings

    from mesh_graphormer_hand.inference import onnx_export as exporter
    from mesh_graphormer_hand.inference.onnx import needs

    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnxscript")):
        left_out("ONNX Runtime", needs())
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program, names = exporter.trace(model)
        exporter.write_config(model, folder)
        exporter.write_onnx(program, names, folder)
    return True


def _mediapipe(options: Options) -> dict[str, Case]:
    """MediaPipe's palm detector and landmarks on a photo, where there is an interpreter that has it."""
    if options.mediapipe is None:
        left_out("MediaPipe", "--mediapipe names the Python of an environment with mediapipe==0.10.21")
        return {}
    try:
        process = MediaPipe(options.mediapipe, photo(), options.clock)
    except configs.ConfigError as error:
        left_out("MediaPipe", error)
        return {}
    note = f"of 640 x 480 px, hands found: {process.hands}"
    return {"MediaPipe, photo to 21 points": Case(process, note=note, tells=True)}


def _shares(options: Options, model: HandModel) -> list[Timing]:
    image = model.normalise(photos(model, 1, options.device).image)

    @torch.inference_mode()
    def trunk() -> Any:
        return model.backbone(image)

    @torch.inference_mode()
    def whole() -> Any:
        return model.regress(image)

    if not hasattr(model, "regress"):
        return compare(options, "trunk", {"trunk": Case(trunk)}, None)
    return compare(options, "trunk", {"trunk and encoders": Case(whole), "trunk": Case(trunk)}, "trunk and encoders")


# ---- generate, render ----


def generate(options: Options) -> Iterator[Table]:
    """Full virtual samples with all labels, each call new ones: by pixels, samples a call, faces of the drawn hand."""
    hand, faces = load_hand(), faces_for(224)
    cases = {f"{size} px": _samples(options, hand, size=size) for size in (112, 224, 448)}
    yield f"virtual samples by pixels, {BLOCK} a call", compare(options, "samples", cases, "224 px"), "image"
    cases = {f"{count} a call": _samples(options, hand, count) for count in (1, BLOCK, 4 * BLOCK)}
    yield "virtual samples by batch, 224 px", compare(options, "samples", cases, f"{BLOCK} a call"), "image"
    cases = {f"{count} faces": _samples(options, hand, faces=count) for count in (faces // 2, faces, 2 * faces)}
    yield "virtual samples by faces, 224 px", compare(options, "samples", cases, f"{faces} faces"), "image"


def _samples(options: Options, hand: Hand, count: int = BLOCK, size: int = 224, faces: int = 0) -> Case:
    """`count` samples a call, of blocks that were not drawn before; the same for every case."""
    dataset = assembly.build_dataset("virtual", {"mesh_faces": faces}, "train", hand, size)
    starts = itertools.count(0, -(-count // BLOCK) * BLOCK)

    def load() -> object:
        start = next(starts)
        return dataset.load(list(range(start, start + count)), options.device)

    return Case(load, count)


def render(options: Options) -> Iterator[Table]:
    """The rasteriser on the hand's 778 vertices, and with images, pixels and faces; PyTorch3D where it is installed."""
    from mesh_graphormer_hand.render.rasterizer import raster

    hand = load_hand()
    template, faces = torch.from_numpy(hand.v_template), torch.from_numpy(hand.faces)
    other = _pytorch3d()
    for images in RENDERED:
        scene = _scene(template, images, 224, options.device)
        cases = {"ours": Case(partial(raster.rasterize, scene[0], faces.to(options.device), *scene[1:]), images)}
        if other is not None:
            cases["PyTorch3D"] = Case(partial(other, scene[0], faces.to(options.device), *scene[1:]), images)
        title = f"rasterise 778 vertices at 224 px, {images} images"
        yield title, compare(options, title, cases, "PyTorch3D" if other is not None else None), "image"
    cases = {}
    for size in (112, 224, 448):
        scene = _scene(template, 8, size, options.device)
        cases[f"{size} px"] = Case(partial(raster.rasterize, scene[0], faces.to(options.device), *scene[1:]), 8)
    yield "rasterise by pixels, 8 images", compare(options, "pixels", cases, "224 px"), "image"
    cases, points = {}, template
    for _ in range(2):
        scene = _scene(points, 8, 224, options.device)
        cases[f"{len(faces)} faces"] = Case(
            partial(raster.rasterize, scene[0], faces.to(options.device), *scene[1:]), 8
        )
        points, faces = _finer(points, faces)
    yield "rasterise by faces, 8 images", compare(options, "faces", cases, next(iter(cases))), "image"


def _finer(points: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every face in four."""
    import trimesh

    finer = trimesh.remesh.subdivide(points.numpy(), faces.numpy())
    return torch.from_numpy(finer[0]).float(), torch.from_numpy(finer[1])


def _scene(
    template: torch.Tensor, images: int, size: int, device: str
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Hands turned at random before a camera that they fill."""
    from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix

    turns = axis_angle_to_matrix(torch.randn(images, 3, generator=torch.Generator().manual_seed(0)) * 1.5)
    vertices = (template - template.mean(0)) @ turns.transpose(1, 2) + torch.tensor([0, 0, 0.55])
    cameras = torch.tensor([[480.0, 480, 112, 112]]).repeat(images, 1) * (size / 224)
    return vertices.to(device), cameras.to(device), (size, size)


def _pytorch3d() -> Callable[..., Any] | None:
    from mesh_graphormer_hand.geometry.cameras import pytorch3d_renderer

    if pytorch3d_renderer() is None:
        left_out("PyTorch3D", "environment.yml brings it")
        return None
    from mesh_graphormer_hand.render import pytorch3d_backend

    return pytorch3d_backend.rasterize


# ---- pipeline, startup ----


def pipeline(options: Options) -> Iterator[Table]:
    """From a photo in memory to hands in its own frame, with the shipped weights, beside the network alone."""
    from mesh_graphormer_hand.inference.predictor import DEFAULT_WEIGHTS, HandPredictor

    default = HandPredictor.from_pretrained(device=options.device)
    model = assembly.load_model(assembly.find_model(DEFAULT_WEIGHTS)).to(options.device)
    by_torch = HandPredictor.from_pretrained(device=options.device, backend="torch")
    seen, box = photo(), [[200.0, 100.0, 440.0, 380.0]]
    inputs = photos(model, 1, options.device)
    cases = {
        "network alone": Case(partial(predict_only, default.model, inputs)),
        "network alone, as it stands": Case(partial(predict_only, model, inputs)),
        "network alone, torch": Case(partial(predict_only, by_torch.model, inputs)),
        "photo and box to hand": Case(partial(default.predict, seen, box)),
        "the same, torch": Case(partial(by_torch.predict, seen, box)),
        f"photo to hands, detector {default.detector.name}": Case(partial(default.predict, seen)),
        **_mediapipe(options),
    }
    yield "pipeline, 640 x 480 px", compare(options, "pipeline", cases, "network alone"), "photo"


def startup(options: Options) -> Iterator[Table]:
    """Processes from start to end: an import, every command's --help, a first prediction."""
    package = __package__.partition(".")[0]
    python = partial(_process, [sys.executable])
    scripts = [file for name in SCRIPTS if (file := paths.CHECKOUT / f"{name}.py").is_file()]
    yield (
        "start",
        compare(
            replace(options, trace=None, clock="wall"),
            "start",
            {
                "python alone": Case(partial(python, ["-c", "pass"])),
                f"import {package}": Case(partial(python, ["-c", f"import {package}"])),
                **{f"{name} --help": Case(partial(python, ["-c", HELP.format(package, name)])) for name in COMMANDS},
                **{
                    f"{file.parent.name}/{file.stem} --help": Case(partial(python, [str(file), "--help"]))
                    for file in scripts
                },
            },
            "python alone",
        ),
        "process",
    )
    example = paths.CHECKOUT / "docs" / "example.jpg"
    if example.is_file():
        with tempfile.TemporaryDirectory() as out:
            command = ["-c", DEMO.format(package), str(example), "--out", out]
            few = replace(options, trace=None, clock="wall", rounds=min(3, options.rounds))
            yield "first prediction", compare(few, "demo", {"demo": Case(partial(python, command))}, None), "process"


def _process(command: Sequence[str], arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(paths.CHECKOUT)}
    )
    if done.returncode:
        raise configs.ConfigError(f"{' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")


# ---- shared ----


def _model(name: str, hand: Hand, device: str) -> HandModel:
    torch.manual_seed(0)
    return assembly.build_model(configs.load(name), hand).to(device).eval()


def photos(model: HandModel, batch: int, device: str) -> HandInputs:
    """Crops of noise of the model's own size."""
    size = model.config.image_size
    return HandInputs(image=torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device))


@torch.inference_mode()
def predict_only(predict: Callable[[HandInputs], HandPrediction], inputs: HandInputs) -> HandPrediction:
    """A prediction that nobody will train on."""
    return predict(inputs)


def _answer(model: HandModel, inputs: HandInputs) -> HandPrediction:
    return predict_only(model, inputs)


def _distance(truth: HandPrediction, found: HandPrediction) -> str:
    """How far answers are apart, of the truth's largest number, for the field that counts most."""
    for name in ("vertices", "joints", "heatmaps", "mask"):
        a, b = getattr(truth, name), getattr(found, name)
        if a is not None and b is not None:
            return f"{name} within {float((a.float() - b.float()).abs().max() / a.abs().max()):.1e}"
    return ""


RUNNERS: dict[str, Callable[[Options], Iterator[Table]]] = {
    "forward": forward,
    "generate": generate,
    "render": render,
    "pipeline": pipeline,
    "startup": startup,
}
