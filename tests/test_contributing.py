"""The recipes of CONTRIBUTING.md, executed: each block's file is written to a folder that joins the package."""

import importlib
import re
import sys

import pytest
import torch
import yaml

from helpers import tiny
from helpers.places import ROOT
from mesh_graphormer_hand import contracts
from mesh_graphormer_hand.cli import train
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import SEGMENTATION_CLASSES, HandBatch, HandInputs
from mesh_graphormer_hand.data import labels
from mesh_graphormer_hand.data.base import join
from mesh_graphormer_hand.losses import registry
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual import config as virtual
from mesh_graphormer_hand.virtual.generator import VirtualHands

BLOCKS = dict(
    re.findall(r"^```python\n# (\S+)\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """The recipes' files where the package looks for plug-ins; gone afterwards."""
    before = set(sys.modules)
    for name, code in BLOCKS.items():
        if name == "mesh_graphormer_hand/losses/registry.py":
            monkeypatch.setattr(registry, "TERMS", dict(registry.TERMS))
            exec(compile(code, name, "exec"), {"Term": registry.Term, "TERMS": registry.TERMS})
            continue
        if name == "mesh_graphormer_hand/contracts.py":  # lines of a class
            continue
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        package = importlib.import_module(".".join(path.parent.relative_to(tmp_path).parts))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mesh_graphormer_hand"):
            del sys.modules[name]


def test_the_recipes_train_together(plugged, tmp_path, monkeypatch, capsys):
    """The model learns from the data set by the loss, through hand-train."""
    monkeypatch.chdir(tmp_path)
    config = {
        "model": {"name": "mean_colour", "width": 8},
        "data": {"train": {"coloured_squares": {}}, "test": {}, "image_size": 16, "workers": 0},
        "train": {
            "name": "recipe",
            "steps": 3,
            "batch_size": 4,
            "accumulate": 1,
            "precision": "fp32",
            "losses": {"joints_2d_l1": 1.0, "wrist_2d": 1.0},
        },
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    assert train.main(["recipe.yaml"]) == 0
    assert "wrist_2d" in (tmp_path / "runs" / "recipe" / "log.jsonl").read_text()
    assert train.main(["recipe.yaml", "model.widht=4"]) == 2 and "did you mean 'width'" in capsys.readouterr().err


def test_the_backbone_serves_every_network(plugged):
    for options in (tiny.GRAPHORMER, tiny.LITE):
        model = tiny.build(options | {"backbone": {"name": "patches_8"}}).eval()
        with torch.inference_mode():
            assert model(HandInputs(image=torch.rand(1, 3, 64, 64))).vertices.shape == (1, 778, 3)


def test_a_label_is_two_lines(monkeypatch):
    """It has a mask in mixed batches, and turns and mirrors with the others."""
    body = BLOCKS["mesh_graphormer_hand/contracts.py"].replace("\n", "\n    ")
    code = f"@dataclass(frozen=True)\nclass Targets(HandTargets):\n    {body}"
    space = dict(vars(contracts))
    exec(compile(code, "contracts.py", "exec"), space)
    monkeypatch.setattr(labels, "LABELS", contracts.labels_of(space["Targets"]))
    known = space["Targets"](nail_normal=torch.tensor([[0.6, 0.0, 0.8]]), is_left=torch.tensor([False]))
    other = space["Targets"](is_left=torch.tensor([False]))
    batch = join([HandBatch(HandInputs(), t, ["a"]) for t in (known, other)])
    assert batch.targets.nail_normal_valid.tolist() == [True, False]
    mirrored = labels.mirror(batch.targets, 8)["nail_normal"]
    torch.testing.assert_close(mirrored, torch.tensor([[-0.6, 0.0, 0.8], [0.0, 0, 0]]))
    half_turn = torch.diag(torch.tensor([-1.0, -1, 1])).expand(2, 3, 3)
    torch.testing.assert_close(labels.turn(batch.targets, half_turn)["nail_normal"][0], torch.tensor([-0.6, 0, 0.8]))


def test_the_occluder_is_drawn(plugged, monkeypatch):
    """A config that names the ball draws it, held or near the hand, and labels it."""
    monkeypatch.setattr(virtual, "OBJECTS", (*virtual.OBJECTS, "ball"))
    wanted = virtual.VirtualConfig(objects={"ball": 1.0}, held_object=0.0, second_hand=0.0, mesh_faces=2000)
    parts = VirtualHands(wanted, load("open"), ["parts"]).render(range(16), image_size=64).targets.parts
    assert ((parts == SEGMENTATION_CLASSES.index("object")).flatten(1).sum(1) > 10).sum() >= 4


def test_without_its_file_a_recipe_is_unknown():
    with pytest.raises(ConfigError, match="no backbone 'patches_8'"):
        tiny.build(tiny.LITE | {"backbone": {"name": "patches_8"}})
