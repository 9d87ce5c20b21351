"""What hand-benchmark times: for each part, tables of cases that do one thing in several ways."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import assembly, paths
from .. import config as configs
from ..contracts import HandBatch, HandInputs, HandPrediction
from ..engine import timing
from ..engine.timing import Case, Timing

if TYPE_CHECKING:
    from ..mano.hand import Hand
    from ..models.base import HandModel

Table = tuple[str, list[Timing], str]  # title, rows, what an item is
BASELINE = "published way"  # models._slow: the same numbers, computed as the published program does
TRAINED_ON = {"graphormer": 4}  # images a training step here; the rest take MANY
MANY = 16
RENDERED = (1, 8, 32)  # images
HELP = "from {}.cli.{} import main; main(['--help'])"
COMMANDS = (
    "train",
    "evaluate",
    "cross_evaluate",
    "score",
    "demo",
    "generate",
    "export",
    "convert",
    "register_hand",
    "benchmark",
)


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


def compare(options: Options, title: str, cases: dict[str, Case], baseline: str | None) -> list[Timing]:
    """Time the cases, and leave a trace of each where one is asked for."""
    if options.trace is not None:
        for name, case in cases.items():
            _trace(options.trace, f"{title} {name}", case)
    return timing.compare(cases, baseline, options.rounds, options.warmup, options.device, options.clock)


def _trace(folder: Path, name: str, case: Case) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    case.call()
    with torch.profiler.profile(record_shapes=True) as profile:
        case.call()
    profile.export_chrome_trace(str(folder / f"{''.join(c if c.isalnum() else '_' for c in name)}.json"))


# ---- forward ----


def forward(options: Options) -> Iterator[Table]:
    """Networks with fresh weights: as published, as they stand, made fast, in half precision, by ONNX Runtime."""
    hand = _hand()
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
            title = f"forward, {name}, batch {batch}"
            yield title, compare(options, title, cases, BASELINE), "image"
        yield f"trunk and rest, {name}, batch 1", _shares(options, model), "image"


def _ways(model: HandModel, options: Options) -> dict[str, Callable[[HandInputs], HandPrediction]]:
    from ..models._fast import optimise
    from ..models._slow import published

    ways = {BASELINE: published(model), "as it stands": model, "optimised": optimise(model)}
    ways["optimised, bfloat16"] = optimise(model, torch.bfloat16)
    if torch.device(options.device).type == "cpu" and options.onnx and (onnx := _onnx(model)) is not None:
        ways["ONNX Runtime"] = onnx
    return ways


def _onnx(model: HandModel) -> Callable[[HandInputs], HandPrediction] | None:
    """The network run by ONNX Runtime, None where that is not installed."""
    import importlib.util
    import tempfile
    import warnings

    from ..engine import portable

    if any(importlib.util.find_spec(name) is None for name in ("onnxruntime", "onnxscript")):
        return None
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program, names = portable.trace(model)
        portable.write_config(model, Path(folder))
        portable.write_onnx(program, names, Path(folder))
        return portable.OnnxModel(folder)  # in memory from here on


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


# ---- train ----


def train(options: Options) -> Iterator[Table]:
    """One optimiser step on virtual hands that lie ready."""
    for name in options.configs:
        experiment = configs.load(name)
        size = TRAINED_ON.get(name, MANY)
        experiment.train.batch_size = size
        hand = _hand()
        batch = assembly.build_stream(experiment, hand)[0].to(options.device)
        cases = {}
        for way, precision in (("float32", None), ("bfloat16", torch.bfloat16)):
            cases[way] = Case(_step(experiment, hand, batch, options.device, precision), size)
        title = f"training step, {name}, batch {size}"
        yield title, compare(options, title, cases, "float32"), "image"


def _step(
    experiment: configs.Experiment, hand: Hand, batch: HandBatch, device: str, precision: torch.dtype | None
) -> Callable[[], object]:
    from ..losses import supervised_losses
    from ..mano.template import hand_template

    torch.manual_seed(0)
    model = assembly.build_model(experiment, hand).to(device).train()
    template = hand_template(hand, model.coarse).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    weights, codec = experiment.train.losses, getattr(model, "codec", None)

    def step() -> None:
        with torch.autocast(torch.device(device).type, precision or torch.bfloat16, enabled=precision is not None):
            prediction = model(batch.inputs)
        prediction = prediction.map(lambda t: t.float() if t.is_floating_point() else t)
        terms = supervised_losses(prediction, batch.targets, weights, template, codec)
        sum(weights[name] * value.float().mean() for name, value in terms.items()).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


# ---- generate, render ----


def generate(options: Options) -> Iterator[Table]:
    """Full virtual samples with all labels, in blocks of 16, each call a new block."""
    hand = _hand()
    for size in (128, 224):
        dataset = assembly.build_dataset("virtual", {}, "train", hand, size)
        blocks = iter(range(10**6))

        def block(dataset: Any = dataset, blocks: Iterator[int] = blocks) -> Any:
            start = next(blocks) * 16
            return dataset.load(list(range(start, start + 16)), options.device)

        title = f"virtual samples, {size} px"
        yield title, compare(options, title, {"16 samples": Case(block, 16)}, None), "image"


def render(options: Options) -> Iterator[Table]:
    """The rasteriser on the hand's 778 vertices, and with images, pixels and faces; PyTorch3D where it is installed."""
    from ..render import raster

    hand = _hand()
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
    from ..geometry.rotations import axis_angle_to_matrix

    turns = axis_angle_to_matrix(torch.randn(images, 3, generator=torch.Generator().manual_seed(0)) * 1.5)
    vertices = (template - template.mean(0)) @ turns.transpose(1, 2) + torch.tensor([0, 0, 0.55])
    cameras = torch.tensor([[480.0, 480, 112, 112]]).repeat(images, 1) * (size / 224)
    return vertices.to(device), cameras.to(device), (size, size)


def _pytorch3d() -> Callable[..., Any] | None:
    from ..geometry.cameras import pytorch3d_renderer

    if pytorch3d_renderer() is None:
        return None
    from ..render import pytorch3d_backend

    return pytorch3d_backend.rasterize


# ---- pipeline, startup ----


def pipeline(options: Options) -> Iterator[Table]:
    """From a photo in memory to hands in its own frame, with the shipped weights, beside the network alone."""
    import numpy as np

    from .. import assembly
    from ..predictor import DEFAULT_WEIGHTS, HandPredictor

    fast = HandPredictor.from_pretrained(device=options.device)
    predictor = HandPredictor(assembly.load_model(assembly.find_model(DEFAULT_WEIGHTS)), fast.hand, options.device)
    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    box = [[200.0, 100.0, 440.0, 380.0]]
    inputs = photos(predictor.model, 1, options.device)
    cases = {
        "network alone": Case(partial(predict_only, predictor.model, inputs)),
        "photo and box to hand": Case(partial(predictor.predict, photo, box)),
        "the same, optimised network": Case(partial(fast.predict, photo, box)),
        f"photo to hands, detector {fast.detector.name}": Case(partial(fast.predict, photo)),
    }
    yield "pipeline, 640 x 480 px", compare(options, "pipeline", cases, "network alone"), "photo"


def startup(options: Options) -> Iterator[Table]:
    """Processes from start to end: an import, every command's --help, a first prediction."""
    package = __package__.partition(".")[0]
    python = partial(_process, [sys.executable])
    yield (
        "start",
        compare(
            replace(options, trace=None, clock="wall"),
            "start",
            {
                "python alone": Case(partial(python, ["-c", "pass"])),
                f"import {package}": Case(partial(python, ["-c", f"import {package}"])),
                **{f"{name} --help": Case(partial(python, ["-c", HELP.format(package, name)])) for name in COMMANDS},
            },
            "python alone",
        ),
        "process",
    )
    photo = paths.CHECKOUT / "docs" / "example.jpg"
    if photo.is_file():
        import tempfile

        with tempfile.TemporaryDirectory() as out:
            command = ["-c", f"from {package}.cli.demo import main; raise SystemExit(main())", str(photo), "--out", out]
            few = replace(options, trace=None, clock="wall", rounds=min(3, options.rounds))
            yield "first prediction", compare(few, "demo", {"demo": Case(partial(python, command))}, None), "process"


def _process(command: Sequence[str], arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(paths.CHECKOUT)}
    )
    if done.returncode:
        raise configs.ConfigError(f"{' '.join(arguments)} failed: {done.stderr.strip().splitlines()[-1:]}")


# ---- shared ----


def _hand() -> Hand:
    from ..mano import hand as hands

    return hands.load("open")


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
    "train": train,
    "generate": generate,
    "render": render,
    "pipeline": pipeline,
    "startup": startup,
}
