"""tools/ship.py: a run's weights in the box, half as large and as good, with their origin."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from helpers.places import ROOT
from mesh_graphormer_hand import assembly, paths
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.models.base import write_model

TINY = {"name": "hand_seg_net", "convolutions": [1, 1], "channels": [8, 16], "head": [16, 8, 16]}


@pytest.fixture
def ship(monkeypatch, tmp_path):
    source = ROOT / "tools" / "ship.py"
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("ship", source))
    spec.loader.exec_module(module)
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    return module


def write_run(folder: Path, init: str = "", channels: int = 8):
    tiny = TINY | {"channels": [channels, 16]}
    model = assembly.build_model(Experiment(model=tiny), load("open")).eval()
    write_model(model, folder / "model")
    (folder / "step_000007").mkdir()
    state = {"step": 7, "experiment": {"train": {"batch_size": 4, "accumulate": 2, "init": init}}}
    (folder / "step_000007" / "state.json").write_text(json.dumps(state))
    return model


def test_shipped_weights_answer_as_the_runs_own(ship, tmp_path):
    model = write_run(tmp_path / "run")
    assert ship.main([str(tmp_path / "run"), "small"]) == 0
    shipped = assembly.load_model(tmp_path / "weights" / "small")
    photo = HandInputs(image=torch.rand(1, 3, 32, 32))
    assert next(shipped.parameters()).dtype == torch.float32
    torch.testing.assert_close(shipped(photo).mask, model(photo).mask, rtol=1e-2, atol=1e-2)
    weights = tmp_path / "weights" / "small" / "model.safetensors"
    assert weights.stat().st_size < 0.6 * (tmp_path / "run" / "model" / "model.safetensors").stat().st_size
    assert json.loads((tmp_path / "weights" / "small" / "training.json").read_text())["images"] == 28


def test_every_piece_of_training_is_named(ship, tmp_path):
    """A run from a run, shipped; a run from those weights, shipped again."""
    write_run(tmp_path / "first")
    write_run(tmp_path / "second", init=str(tmp_path / "first"))
    assert ship.main([str(tmp_path / "second"), "small"]) == 0
    write_run(tmp_path / "third", init=f"small, {tmp_path / 'first'}")  # which is behind both, and counts once
    assert ship.main([str(tmp_path / "third"), "small"]) == 0
    found = json.loads((tmp_path / "weights" / "small" / "training.json").read_text())
    assert [p["experiment"]["train"]["init"] for p in found["pieces"]] == ["", "first", "small, first"]
    assert found["images"] == 3 * 28


def test_no_folder_of_the_machine_is_shipped(ship, tmp_path):
    write_run(tmp_path / "run")
    state = tmp_path / "run" / "step_000007" / "state.json"
    content = json.loads(state.read_text())
    content["experiment"]["data"] = {"train": {"folder": {"root": str(tmp_path / "photos"), "sets": {"a": 1}}}}
    state.write_text(json.dumps(content))
    assert ship.main([str(tmp_path / "run"), "small"]) == 0
    text = (tmp_path / "weights" / "small" / "training.json").read_text()
    assert str(tmp_path) not in text and '"root": "photos"' in text


def test_the_mean_of_two_runs(ship, tmp_path):
    """Weights lie half way, the pieces of both are named once, networks that differ are refused."""
    models = write_run(tmp_path / "first"), write_run(tmp_path / "second", init=str(tmp_path / "first"))
    assert ship.main([str(tmp_path / "second"), "both", "--with", str(tmp_path / "first")]) == 0
    shipped = assembly.load_model(tmp_path / "weights" / "both").state_dict()
    for name, value in shipped.items():
        wanted = sum(m.state_dict()[name].double() for m in models) / 2
        torch.testing.assert_close(value.double(), wanted, rtol=2e-3, atol=1e-3)
    found = json.loads((tmp_path / "weights" / "both" / "training.json").read_text())
    assert [p["experiment"]["train"]["init"] for p in found["pieces"]] == ["", "first"]
    write_run(tmp_path / "wide", channels=16)
    assert ship.main([str(tmp_path / "wide"), "none", "--with", str(tmp_path / "first")]) == 2


def test_a_folder_that_is_no_run_is_refused(ship, tmp_path, capsys):
    assert ship.main([str(tmp_path)]) == 2
    write_run(tmp_path / "run")
    (tmp_path / "run" / "step_000007" / "state.json").unlink()
    assert ship.main([str(tmp_path / "run")]) == 2
    assert "no checkpoint" in capsys.readouterr().err
