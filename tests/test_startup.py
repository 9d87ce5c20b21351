"""What a process loads before it works: nothing at import, no torch for --help, no training for a prediction."""

import os
import subprocess
import sys

import pytest

from benchmarks import __main__ as benchmark
from benchmarks.cases import COMMANDS, SCRIPTS
from helpers.places import ROOT
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import ablate, compare, convert, cross_evaluate, evaluate, export, generate, score, train

# transformers, whose PreTrainedModel every network is, brings accelerate along; graph convolutions torch_geometric
TRAINING = {"trimesh", "networkx", "tensorboard", "matplotlib", "gradio", "onnxscript"}
PREDICT = """
import numpy as np
from mesh_graphormer_hand import HandPredictor
hands = HandPredictor.from_pretrained(detector="whole").predict(np.zeros((96, 96, 3), np.uint8))
assert hands[0].vertices.shape == (778, 3)
"""
HELP = """
import contextlib, io
from {} import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["--help"])
"""


def loaded(program: str) -> set[str]:
    """The modules that a process holds after `program`."""
    command = [sys.executable, "-c", program + "\nimport sys; print(*sys.modules)"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_loads_nothing():
    before, after = loaded(""), loaded("import mesh_graphormer_hand")
    assert {name.partition(".")[0] for name in after - before} == {"mesh_graphormer_hand"}


def test_the_package_gives_its_two_classes():
    import mesh_graphormer_hand
    from mesh_graphormer_hand import HandPredictor, HandResult
    from mesh_graphormer_hand.inference import predictor, result

    assert (HandPredictor, HandResult) == (predictor.HandPredictor, result.HandResult)
    assert {"HandPredictor", "HandResult"} <= set(dir(mesh_graphormer_hand))
    with pytest.raises(AttributeError, match="HandPredicter"):
        mesh_graphormer_hand.HandPredicter  # noqa: B018


def test_prediction_loads_no_transformers():
    """transformers takes seconds to import: ONNX Runtime computes the shipped networks."""
    photo = "numpy.full((96, 96, 3), 128, numpy.uint8)"
    program = f"import numpy; from mesh_graphormer_hand import HandPredictor as P; P.from_pretrained().predict({photo})"
    assert not loaded(program) & {"transformers", "torch._dynamo", "torch_geometric", "matplotlib"}


@pytest.mark.parametrize(
    "command",
    [f"mesh_graphormer_hand.cli.{name}" for name in COMMANDS] + [name.replace("/", ".") for name in SCRIPTS],
)
def test_help_loads_no_torch(command):
    assert not loaded(HELP.format(command)) & {"torch", "numpy", "cv2", "transformers", "matplotlib"}


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (train, ["graphormer_lite", "baselines/hand_seg_net"]),
        (evaluate, [*assembly.available("datasets"), "graphormer_lite"]),
        (cross_evaluate, [*assembly.available("datasets"), "graphormer_lite", "baselines/simple_baseline"]),
        (ablate, [*assembly.available("datasets"), "ablations/network"]),
        (compare, [*assembly.available("datasets"), "comparisons/rgb"]),
        (score, assembly.available("protocols")),
        (export, ["graphormer_lite", "hand_detector"]),
        (convert, ["graphormer,", "graphormer_lite"]),
        (generate, ["virtual_test", "webdataset", "freihand", "coco", "groups"]),
        (benchmark, ["graphormer,", "graphormer_lite"]),
    ],
    ids=lambda value: getattr(value, "__name__", "").rpartition(".")[2],
)
def test_help_lists_what_it_refers_to(module, names, capsys, monkeypatch):
    """A name that can be asked for stands in --help, not behind "..."."""
    monkeypatch.setenv("COLUMNS", "4000")
    with pytest.raises(SystemExit):
        module.main(["--help"])
    said = capsys.readouterr().out
    assert not [name for name in names if name not in said]


@pytest.mark.slow
def test_prediction_loads_no_training():
    assert not loaded(PREDICT) & TRAINING
