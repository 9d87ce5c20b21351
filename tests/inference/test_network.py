"""How a network is computed: by the ONNX graph of these very weights where one is ready, else by torch."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch

from helpers import tiny
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.files import sha256
from mesh_graphormer_hand.inference import network, onnx_export
from mesh_graphormer_hand.inference.network import load_network
from mesh_graphormer_hand.inference.onnx import ONNX, WEIGHTS, WEIGHTS_KEY, OnnxModel, cache_folder

pytest.importorskip("onnxruntime")


def write_graph(path: Path, mark: str) -> Path:
    """A graph of one operator, the mean of the image as `presence_logit`, that says it is of the weights `mark`."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    node = make.make_node("ReduceMean", ["image", "axes"], ["presence_logit"], keepdims=0)
    axes = make.make_tensor("axes", onnx.TensorProto.INT64, [3], [1, 2, 3])
    image = make.make_tensor_value_info("image", kind, ["batch", 3, 64, 64])
    answer = make.make_tensor_value_info("presence_logit", kind, ["batch"])
    graph = make.make_graph([node], "mean", [image], [answer], [axes])
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=8)
    model.metadata_props.add(key=WEIGHTS_KEY, value=mark)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.fixture
def saved(tmp_path, monkeypatch) -> Path:
    """A saved model, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny.build({"name": "hand_detector", "channels": [4] * 5, "blocks": [0] * 5, "neck": 4}).save_pretrained(
        tmp_path / "model"
    )
    return tmp_path / "model"


def test_a_graph_beside_the_weights_or_in_the_cache_is_the_default(saved):
    mark = sha256(saved / WEIGHTS)
    assert not isinstance(load_network(saved), OnnxModel), "none is ready"
    cached = write_graph(cache_folder() / mark / ONNX, mark)
    assert cached.parts[-5:] == ("cache", "mesh_graphormer_hand", "onnx", mark, ONNX)
    model = load_network(saved)
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(model(HandInputs(image=image)).presence_logit, image.mean((1, 2, 3)))
    assert model.config.name == "hand_detector" and model.config.image_size == 64
    shutil.move(cached, saved / ONNX)
    assert isinstance(load_network(saved), OnnxModel)
    assert not isinstance(load_network(saved, backend="torch"), OnnxModel)
    assert not isinstance(load_network(saved, device="meta"), OnnxModel), "ONNX Runtime computes on the CPU"
    (saved / WEIGHTS).unlink()
    assert isinstance(load_network(saved), OnnxModel), "an exported folder needs no weights"


def test_old_and_damaged_graphs_are_not_used(saved, caplog):
    write_graph(saved / ONNX, "0" * 64)
    with caplog.at_level(logging.WARNING):
        assert not isinstance(load_network(saved), OnnxModel)
    assert "is of other weights" in caplog.text
    (saved / ONNX).write_bytes(b"no graph")
    with caplog.at_level(logging.WARNING):
        assert not isinstance(load_network(saved), OnnxModel)
    assert "ONNX Runtime can run" in caplog.text


def test_without_onnx_runtime_torch_predicts(saved, monkeypatch):
    write_graph(saved / ONNX, sha256(saved / WEIGHTS))
    monkeypatch.setattr(network.importlib.util, "find_spec", lambda name: None)
    assert not isinstance(load_network(saved), OnnxModel)


def test_onnx_is_exported_once_even_where_the_cache_is_read_only(saved, monkeypatch):
    exports = []

    def export(folder: Path, out: Path) -> Path:
        exports.append(out)
        return write_graph(out / ONNX, sha256(folder / WEIGHTS))

    monkeypatch.setattr(onnx_export, "export_graph", export)
    assert isinstance(load_network(saved, backend="onnx"), OnnxModel)
    assert isinstance(load_network(saved, backend="onnx"), OnnxModel) and len(exports) == 1
    assert isinstance(load_network(saved), OnnxModel), "and the default takes it from now on"
    (saved.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(saved.parent / "file"))
    assert isinstance(load_network(saved, backend="onnx"), OnnxModel)
    assert len(exports) == 2 and cache_folder() not in exports[1].parents


def test_mistakes_are_named(saved):
    with pytest.raises(ConfigError, match="did you mean 'onnx'"):
        load_network(saved, backend="onxx")
    write_graph(saved / ONNX, sha256(saved / WEIGHTS))
    config = json.loads((saved / "config.json").read_text())
    del config["image_size"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="image_size"):
        OnnxModel(saved)


@pytest.mark.parametrize("name", ["graphormer_lite", "hand_detector"])
def test_the_shipped_graph_is_that_of_the_shipped_weights(name):
    """After new weights: python tools/export.py NAME mesh_graphormer_hand/weights/NAME --format onnx."""
    folder = assembly.find_model(name)
    graph, model = load_network(name), assembly.load_model(folder)
    assert isinstance(graph, OnnxModel) and graph.weights_sha256 == sha256(folder / WEIGHTS)
    assert (folder / ONNX).stat().st_size < 20 * 2**20
    assert b'File "' not in (folder / ONNX).read_bytes(), "the exporter wrote traces, with paths of a machine"
    names = onnx_export.Tensors(model).names
    assert (
        list(graph.produces) == names
        and onnx_export.largest_error(model, names, graph, 2) < onnx_export.EXPORT_TOLERANCE
    )
