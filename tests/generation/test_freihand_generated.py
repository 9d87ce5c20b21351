"""What hand-generate writes in FreiHAND's layout, read by `freihand`, is what was rendered; mixtures train on both.

docs/evaluation.md has the same with 500 samples, and with the published network.
"""

import json

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand import assembly, config
from mesh_graphormer_hand.cli import evaluate, generate, train
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.data.axes import look_along_crops
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.virtual import config as virtual
from mesh_graphormer_hand.virtual.generator import VirtualHands

COUNT, SIZE = 5, 48


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder, and the samples as they were rendered."""
    out = tmp_path_factory.mktemp("generated") / "set"
    common = ["--count", str(COUNT), "--image-size", str(SIZE), "--workers", "0", "--hand", "open"]
    assert generate.main(["virtual", "--out", str(out), *common, "--layout", "freihand"]) == 0
    rendered = VirtualHands(virtual.read("virtual.yaml"), hands.load("open")).render(range(COUNT), image_size=SIZE)
    return out, rendered


def test_labels_come_back(written):
    """Within 1e-6 m; the hand is the manifest's, without being told; images as far as JPEG allows."""
    root, truth = written[0], look_along_crops(written[1])
    hand = hands.load("open")
    dataset = assembly.build_dataset("freihand", {"root": str(root), "depth": True}, "train", hand, SIZE)
    batch = dataset.load(list(range(COUNT)))
    assert dataset.hand == hand.fingerprint and len(dataset) == COUNT
    t, wanted = batch.targets, truth.targets
    for name in ("joints", "vertices", "root"):
        assert_close(getattr(t, name), getattr(wanted, name), atol=2e-6, rtol=0)
    for name, tolerance in (("joints_2d", 1e-3), ("pose", 1e-5), ("shape", 1e-6)):
        assert_close(getattr(t, name), getattr(wanted, name), atol=tolerance, rtol=0)
    assert_close(batch.inputs.intrinsics, truth.inputs.intrinsics, atol=1e-4, rtol=0)
    for name in ("joints_valid", "vertices_valid", "mano_valid", "joints_visible", "hand", "is_left"):
        assert torch.equal(getattr(t, name), getattr(wanted, name)), name
    assert (t.mask != wanted.mask).float().mean() < 0.01  # masks are JPEGs there
    assert_close(t.depth, wanted.depth, atol=6e-5, rtol=0)
    assert (batch.inputs.image - truth.inputs.image).abs().mean() < 0.03


def test_a_mixture_trains_on_both(written):
    """`data.train` with weights: each batch holds both in their shares, with one hand."""
    raw = {
        "model": {"name": "mesh_graphormer"},
        "hand": "open",
        "data": {
            "image_size": SIZE,
            "train": {"virtual": {"weight": 0.7}, "freihand": {"weight": 0.3, "root": str(written[0])}},
            "augment": {"rotation_off": 0.0},
        },
        "train": {"batch_size": 10},
    }
    batch = assembly.build_stream(config.parse(Experiment, raw), hands.load("open"))[0]
    read = [key.startswith("training/") for key in batch.keys]
    assert sum(read) == 3 and len(batch) == 10
    assert batch.targets.vertices_valid.all() and len(set(batch.targets.hand.tolist())) == 1
    joints = batch.targets.joints + batch.targets.root[:, None]
    uvw = joints @ batch.inputs.intrinsics.transpose(1, 2)
    assert_close(uvw[..., :2] / uvw[..., 2:], batch.targets.joints_2d, atol=0.05, rtol=0)


def test_commands_from_files_to_a_trained_and_scored_network(written, tmp_path, capsys, caplog):
    """As in docs/evaluation.md: the config's virtual hands and the files train together; a third of a folder scores."""
    root = str(written[0])
    settings = ["train.steps=2", "train.batch_size=4", "train.precision=fp32", f"train.output={tmp_path}"]
    settings += ["data.image_size=64", "data.workers=0", "data.test.virtual.count=2", "train.losses.normal=0"]
    settings += ["train.accumulate=1", "train.pictures=0"]  # neither measured nor drawn
    assert train.main(["graphormer_lite", f"data.train.freihand.root={root}", *settings]) == 0
    run = str(tmp_path / "graphormer_lite")
    assert evaluate.main([run, "--data", "freihand", "--root", root, "--workers", "0"]) == 0
    assert "generated, with no evaluation part: its training part is read" in caplog.text
    assert evaluate.main([run, "--data", "freihand", "--root", root, "--workers", "0", "split=test"]) == 2
    assert "training_K.json and no evaluation_K.json: split=train reads it" in capsys.readouterr().err
    options = ["split_by=sample", "shares=[0.4, 0.2, 0.4]", "--workers", "0"]
    assert evaluate.main([run, "--data", "freihand", "--root", root, *options]) == 0
    scores = json.loads((tmp_path / "graphormer_lite" / "evaluation_freihand.json").read_text())
    assert scores["test"]["freihand"]["model"]["pa_mpjpe"] > 0


def test_scores_are_those_of_the_samples_on_the_fly(tmp_path, capsys):
    """But for JPEG, which docs/evaluation.md measures on 500 samples; these are 16, whose mean error moves more."""
    files, common = tmp_path / "set", ["graphormer_lite", "--workers", "0", "--device", "cpu"]
    made = ["--count", "16", "--image-size", "128", "--layout", "freihand", "--workers", "0", "--hand", "open"]
    assert generate.main(["virtual_test", "--out", str(files), *made]) == 0
    assert evaluate.main([*common, "--data", "freihand", "--root", str(files), "--json", str(tmp_path / "a.json")]) == 0
    assert evaluate.main([*common, "--data", "virtual", "count=16", "--json", str(tmp_path / "b.json")]) == 0
    read, rendered = (json.loads((tmp_path / f"{n}.json").read_text())["test"] for n in "ab")
    for name, wanted in rendered["virtual"]["model"].items():
        if name in ("pa_mpjpe", "pa_mpvpe"):
            assert abs(read["freihand"]["model"][name] - wanted) < 0.4, name  # mm
