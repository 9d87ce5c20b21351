"""Export: ONNX and torch.export give the model's own answers on any batch; the hub's folder loads; errors are told.

The command runs in a process of its own, as a user runs it: the tests' shape checks do not let themselves be traced.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.places import ROOT
from mesh_graphormer_hand import assembly, config
from mesh_graphormer_hand.backbones import hrnet
from mesh_graphormer_hand.cli.export import main
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.inference import onnx_export as exporter
from mesh_graphormer_hand.inference.network import for_prediction, load_network
from mesh_graphormer_hand.inference.onnx import OnnxModel
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.models.base import write_model
from mesh_graphormer_hand.skeleton import JOINT_NAMES

SMALL = {
    "widths": [24, 24, 24],
    "outputs": [24, 24],
    "layers": 1,
    "heads": 2,
    "feature": 16,
    "head_planes": [2, 2, 4, 4],
}
# as published, but small; and with everything that the fast network adds
SETTINGS = {
    "published": {"name": "mesh_graphormer", "backbone": {"name": "hrnet_w18_small"}, "coarse": 98, **SMALL},
    "lite": {**config.load("graphormer_lite").model, **SMALL},
}


def build(setting: str):
    experiment = Experiment(model=SETTINGS[setting])
    experiment.data.image_size = 64
    model = assembly.build_model(experiment, load("open"))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics as after training, so that folding has work to do
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_copy_for_prediction_is_the_model(setting):
    """Every tensor that the model gives, without the trunk's batch norms, and no weight is shared."""
    model = build(setting)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = for_prediction(model)
    norms = [m for m in copy.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert not norms, "a batch norm of the trunk was left"
    assert not any(p.requires_grad for p in copy.parameters()) and any(p.requires_grad for p in model.parameters())
    names = exporter.Tensors(model).names
    assert {"vertices", "camera", "joints_2d"} <= set(names)
    assert exporter.largest_error(model, names, exporter.Tensors(copy), 3) < 1e-4
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("output", [0, 1, -1])
def test_an_export_whose_answers_are_no_numbers_is_refused(output):
    """A NaN in any output, not only in the first one."""
    model = build("published")
    whole = exporter.Tensors(model)

    class Broken(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            values = list(whole(image))
            values[output] = torch.where(values[output] == values[output].max(), torch.nan, values[output])
            return tuple(values)

    assert exporter.check(model, whole.names, whole) == 0
    with pytest.raises(config.ConfigError, match=rf"gives {whole.names[output]} that are not finite"):
        exporter.check(model, whole.names, Broken())


def test_the_copy_for_prediction_of_other_networks():
    """Networks without attention or graphs come out equal, too."""
    experiment = config.load("baselines/simple_baseline")
    experiment.data.image_size = 64
    model = assembly.build_model(experiment, load("open")).eval()
    image = HandInputs(image=torch.rand(1, 3, 64, 64))
    with torch.inference_mode():
        a, b = model(image).heatmaps, for_prediction(model)(image).heatmaps
    assert float((a - b).abs().max()) < 1e-4 * float(a.abs().max())


# The trunk has one module of two branches: exporting takes seconds for each hundred operators.
TINY = hrnet.Variant(8, stem_planes=8, stem_blocks=1, modules=(1, 0, 0), blocks=1)
PROGRAM = f"""
import sys
from mesh_graphormer_hand.backbones import hrnet
from mesh_graphormer_hand.cli.export import main
hrnet.HRNETS["w18_small"] = hrnet.{TINY}
sys.exit(main())
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Iterator[tuple[Path, Path, str]]:
    """A saved model, the folder that the command exported it to, and what the command printed."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hrnet.HRNETS, "w18_small", TINY)
        torch.manual_seed(3)
        write_model(build("lite"), folder / "model")
        command = [sys.executable, "-c", PROGRAM, str(folder / "model"), str(folder / "out")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr
        yield folder / "model", folder / "out", done.stdout


@pytest.mark.slow
def test_exported_networks_agree(exported):
    """ONNX and the program, on batch sizes that tracing has not seen, all outputs, camera included."""
    folder, out, said = exported
    assert said.count("off by") == 2
    model, names = assembly.load_model(folder), exporter.Tensors(assembly.load_model(folder)).names
    onnx, program = OnnxModel(out), exporter.load_program(out)
    assert list(onnx.produces) == names
    for batch in (1, 5):
        assert exporter.largest_error(model, names, onnx, batch) < exporter.EXPORT_TOLERANCE
        assert exporter.largest_error(model, names, program, batch) < exporter.EXPORT_TOLERANCE
    with pytest.raises(config.ConfigError, match="differs"):
        exporter.check(build("lite"), names, onnx)


@pytest.mark.slow
def test_exported_folders_say_what_their_numbers_are(exported):
    """Other programs need the faces, the joints' names, and a batch axis that has a name."""
    onnx, (_, out, _) = pytest.importorskip("onnx"), exported
    told, hand = json.loads((out / "hand.json").read_text()), load("open")
    assert told["fingerprint"] == hand.fingerprint_hex and told["joint_names"] == list(JOINT_NAMES)
    assert (np.array(told["faces"]) == hand.faces).all()
    graph = onnx.load(out / "model.onnx").graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch", value.name


@pytest.mark.slow
def test_predictor_runs_an_exported_network(exported):
    folder, out, _ = exported
    photo = np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    boxes = [[5, 5, 60, 70], [10, 0, 80, 75]]
    slow = HandPredictor(assembly.load_model(folder)).predict(photo, boxes)
    fast = HandPredictor(load_network(out)).predict(photo, boxes)
    for a, b in zip(slow, fast, strict=True):
        assert np.abs(a.vertices - b.vertices).max() < 1e-5 and np.abs(a.joints_2d - b.joints_2d).max() < 1e-2
        assert a.hand == b.hand and a.model == b.model


@pytest.mark.slow
def test_hub_folder_loads(exported):
    folder, out, _ = exported
    text = (out / "README.md").read_text()
    assert text.startswith("---\nlicense: mit\n") and "from_pretrained" in text
    again, model = assembly.load_model(out), assembly.load_model(folder)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_card_says_whose_hand_it_is(tmp_path, monkeypatch):
    from dataclasses import replace

    from mesh_graphormer_hand.inference import export
    from mesh_graphormer_hand.mano import hand as hands

    model = build("published")
    (tmp_path / "training.json").write_text(json.dumps({"step": 7, "metrics": {"pa_mpjpe": 1.5}}))
    assert '"pa_mpjpe": 1.5' in export.card(model, tmp_path)
    monkeypatch.setattr(hands, "find", lambda fingerprint: replace(load("open"), name="mano"))
    assert "license: other" in export.card(model, tmp_path) and "MANO_RIGHT.pkl" in export.card(model, tmp_path)


def test_mistakes_are_told(tmp_path, capsys):
    assert main(["no_such_model", str(tmp_path / "out")]) == 2
    assert "no_such_model" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["graphormer_lite", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err


def test_folders_that_hold_no_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(config.ConfigError, match=r"tools/export\.py"):
        OnnxModel(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no network")
    exporter.write_config(build("published"), tmp_path)
    with pytest.raises(config.ConfigError, match="ONNX Runtime"):
        OnnxModel(tmp_path)
