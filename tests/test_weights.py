"""Which weights a name means: shipped ones by their bare name, runs by path; every load says what it took."""

import copy
import hashlib
import json
import logging
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState

from helpers import toy_model
from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly, paths
from mesh_graphormer_hand.cli import evaluate, export, train
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.models.base import HandModelConfig


def save(folder: Path) -> Path:
    hand = hands.load("open")
    config = HandModelConfig(name="toy", options={}, image_size=16, hand=hand.fingerprint_hex)
    toy_model.build(config, hand).save_pretrained(folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A working directory with shipped weights `small`, a run of the same name, a folder of it, and a run `mine`."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    for folder in ("shipped/small", "runs/small/model", "small", "runs/mine/model"):
        save(tmp_path / folder)
    return tmp_path


def test_a_shipped_name_means_the_shipped_weights(place, caplog):
    """A run of that name, one Ctrl-C old, took their place without a word."""
    with caplog.at_level(logging.WARNING):
        assert assembly.find_model("small") == place / "shipped" / "small"
    assert "small means the shipped weights; for the others say ./small" in caplog.text
    assert assembly.find_model("runs/small") == Path("runs/small/model")
    assert assembly.find_model("./small") == assembly.find_model("small/") == Path("small")
    assert assembly.find_model(Path("small")) == Path("small"), "a Path is a path"
    assert assembly.find_model("mine") == Path("runs/mine/model"), "no shipped name: the run"
    with pytest.raises(ConfigError, match=r"no model in smal, runs/smal or the shipped weights \(small\), did"):
        assembly.find_model("smal")


def test_loading_says_which_weights(place, caplog):
    fingerprint = hands.load("open").fingerprint_hex
    for name, said in (("small", "small (shipped)"), ("runs/small", "runs/small/model")):
        folder = assembly.find_model(name)
        file = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:8]
        with caplog.at_level(logging.INFO):
            assembly.load_model(folder)
        assert f"weights: {said}, sha256 {file}, hand open ({fingerprint})" in caplog.text


def test_commands_take_and_tell_the_shipped_ones(place, caplog):
    """hand-evaluate, hand-export and train.init."""
    asked = ["small", "--data", "toy", "samples=4", "--workers", "0", "--device", "cpu"]
    assert evaluate.main([*asked, "--out", "answers"]) == 0
    assert "weights: small (shipped), sha256 " in caplog.text
    assert {p.name for p in Path("answers").iterdir()} >= {"evaluation_toy.json", "report.html"}
    assert json.loads(Path("answers/evaluation_toy.json").read_text())["model"].endswith("shipped/small")
    assert not list(Path("runs").glob("*/evaluation*")), "all of it lies where --out says"
    assert evaluate.main(asked) == 0
    assert Path("runs/shipped/small/evaluation_toy.json").is_file(), "apart from the run of that name"
    caplog.clear()
    assert export.main(["small", "hub", "--format", "hub"]) == 0
    assert "weights: small (shipped)" in caplog.text
    caplog.clear()
    raw = copy.deepcopy(CONFIG)
    raw["train"] |= {"steps": 1, "init": "small"}
    raw["data"]["test"] = {}
    Path("tiny.yaml").write_text(yaml.safe_dump(raw))
    assert train.main(["tiny.yaml"]) == 0
    assert "weights: small (shipped)" in caplog.text
