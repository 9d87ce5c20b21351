"""Conversion of other programs' weights: the numbers arrive, the dead ones go, everything else is refused."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from helpers import tiny
from helpers.places import DATA
from mesh_graphormer_hand import assembly, config, paths
from mesh_graphormer_hand.backbones.hrnet import HRNet
from mesh_graphormer_hand.cli.convert import main
from mesh_graphormer_hand.contracts import HandInputs
from mesh_graphormer_hand.inference.convert import our_name
from mesh_graphormer_hand.mano.hand import load

NAMES = json.loads((DATA / "graphormer_names.json").read_text())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return tiny.build(tiny.GRAPHORMER).eval()


@pytest.fixture
def settings(tmp_path) -> list[str]:
    """The command's arguments for that small network."""
    path = tmp_path / "small.yaml"
    OmegaConf.save(OmegaConf.create({"model": tiny.GRAPHORMER, "data": {"image_size": 64}}), path)
    return ["--config", str(path), "--hand", "open"]


def published(model) -> dict[str, torch.Tensor]:
    """The network as the published program would have saved it, dead parameters included."""
    own, state = model.state_dict(), {}
    for name in NAMES:
        ours = our_name(name)
        if ours is None and ".layer.1" not in name and ".layer.2" not in name and ".layer.3" not in name:
            state[name] = torch.zeros(2)
        elif ours in own:
            state[name] = own[ours].T if ours.endswith("graph.conv.lin.weight") else own[ours]
    return state


@pytest.mark.parametrize("form", ["bin", "nested", "safetensors"])
def test_published_network(form, model, settings, tmp_path, capsys):
    state = published(model)
    file = tmp_path / ("file.safetensors" if form == "safetensors" else "file.bin")
    if form == "safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, file)
    else:
        nested = {"state_dict": {f"module.{n}": v for n, v in state.items() if not n.endswith("batches_tracked")}}
        torch.save(nested if form == "nested" else state, file)
    assert main([str(file), str(tmp_path / "out"), *settings]) == 0
    told = capsys.readouterr()
    assert "dropped" in told.out and str(tmp_path / "out" / "model.safetensors") in told.out.splitlines()
    missing = not (paths.MANO_ASSETS / "mano_downsampling.npz").is_file()
    assert ("mano_downsampling.npz is not there" in told.err) == missing
    converted = assembly.load_model(tmp_path / "out")
    images = HandInputs(image=torch.rand(2, 3, 64, 64))
    with torch.inference_mode():
        assert torch.equal(model(images).vertices, converted(images).vertices)


def test_trunk(model, settings, tmp_path, capsys):
    trunk = {**model.backbone.state_dict(), **model.neck.state_dict(), "classifier.weight": torch.zeros(3, 3)}
    torch.save(trunk, tmp_path / "hrnet.pth")
    assert main([str(tmp_path / "hrnet.pth"), str(tmp_path / "out"), *settings]) == 0
    assert "warning" not in capsys.readouterr().err
    converted = assembly.load_model(tmp_path / "out")
    for part in ("backbone", "neck"):
        for name, value in getattr(model, part).state_dict().items():
            assert torch.equal(getattr(converted, part).state_dict()[name], value), name
    start = assembly.build_model(config.load(settings[1]), load("open"))  # what train.init does with it
    assert assembly.warm_start(start, tmp_path / "out", ["backbone"]) == len(model.backbone.state_dict())


def broken(state: dict[str, torch.Tensor], how: str) -> dict:
    name = "upsampling.weight"
    changed = {
        "foreign": {"trans_encoder.0.bert.surprise.weight": torch.zeros(1)},
        "size": {name: torch.zeros(3, 3)},
        "nan": {name: torch.full_like(state[name], torch.nan)},
        "no tensor": {"epoch": 3},
    }
    if how == "missing":
        return {n: v for n, v in state.items() if n != name}
    return state | changed[how]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("foreign", "surprise"),
        ("missing", "lacks: upsample.weight"),
        ("size", "upsample.weight (3, 3) for (778, 195)"),
        ("nan", "finite"),
        ("no tensor", "epoch"),
    ],
)
def test_anything_else_is_refused(how, says, model, settings, tmp_path, capsys):
    torch.save(broken(published(model), how), tmp_path / "file.bin")
    assert main([str(tmp_path / "file.bin"), str(tmp_path / "out"), *settings]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class Runs:
    """Unpickling it would make a folder."""

    def __reduce__(self):
        import os

        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", [pickle.dumps(Runs()), b"", b"PK\x03\x04 cut", pickle.dumps([1, 2])])
def test_files_that_are_no_weights(content, settings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file.bin").write_bytes(content)
    assert main(["file.bin", "out", *settings]) == 2
    assert "file.bin" in capsys.readouterr().err
    assert not Path("ran").exists() and not Path("out").exists()


def test_published_weights_want_their_own_hand(model, settings, tmp_path, capsys):
    """They give MANO's vertices; the open hand's are others."""
    torch.save(published(model), tmp_path / "file.bin")
    if load("auto").name != "open":
        pytest.skip("a MANO hand lies in mano_assets/")
    assert main([str(tmp_path / "file.bin"), str(tmp_path / "out"), *settings[:2]]) == 2
    assert "MANO_RIGHT.pkl" in capsys.readouterr().err


def test_trunk_of_another_width(settings, tmp_path, capsys):
    torch.save(HRNet("w18").state_dict(), tmp_path / "hrnet.pth")
    assert main([str(tmp_path / "hrnet.pth"), str(tmp_path / "out"), *settings]) == 2
    assert "--config" in capsys.readouterr().err
