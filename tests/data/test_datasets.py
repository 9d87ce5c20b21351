"""Readers of public data sets over miniature copies of their files, written by tests/helpers/dataset_fixtures.py."""

import json
import pickle
import shutil
from importlib import import_module

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from helpers import toy_train
from helpers.dataset_fixtures import OPEN, OPTIONS, WRITERS, Truth, write_interhand26m
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import evaluate as cli
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.axes import photo_cameras
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.data.readers.fits import UNKNOWN_MANO
from mesh_graphormer_hand.data.stream import Stream
from mesh_graphormer_hand.evaluation import report
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.geometry.crops import apply_affine
from mesh_graphormer_hand.models.base import HandModelConfig

SIZE = 96
NAMES = sorted(WRITERS)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Data set -> its folder and the truth about it; written when first asked for."""
    made: dict[str, tuple] = {}

    def get(name: str) -> tuple:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            made[name] = root, WRITERS[name](root)
        return made[name]

    return get


def build(name: str, root, split: str = "test", size: int = SIZE, **options):
    return assembly.build_dataset(name, {"root": str(root), **OPTIONS.get(name, {}), **options}, split, OPEN, size)


def everything(dataset):
    return dataset.load(list(range(len(dataset))))


def test_every_reader_has_a_fixture():
    readers = {
        name for name, path in assembly.available("datasets").items() if "ReaderConfig" in vars(import_module(path))
    }
    assert readers == set(NAMES)


def check_sample(batch, row: int, truth: Truth) -> None:
    """All labels of a sample against the truth, in the photo's and the camera's own frame."""
    targets, axes = batch.targets, photo_cameras(batch)[1][row]
    assert bool(targets.is_left[row]) == truth.is_left
    assert targets.joints_2d_valid[row].tolist() == truth.known.tolist()
    back = apply_affine(targets.joints_2d[row], batch.image_from_crop[row])
    wanted = torch.from_numpy(truth.points).float()
    assert_close(back[truth.known], wanted[truth.known], atol=0.05, rtol=0)
    points = targets.joints_2d[row][truth.known]
    grid = (points / batch.inputs.image.shape[-1] * 2 - 1)[None, None]
    seen = torch.nn.functional.grid_sample(batch.inputs.image[row, None, :1], grid, align_corners=False)[0, 0, 0]
    assert seen.min() > 0.2 and seen.mean() > 0.25  # a dot lies under every label
    if not truth.has_3d:
        assert not targets.joints_valid[row].any() and not batch.inputs.intrinsics_valid[row]
        return
    joints = targets.joints[row] + targets.root[row]
    assert targets.joints_valid[row].tolist() == truth.known.tolist()
    known = torch.from_numpy(truth.known)
    assert_close((joints @ axes.T)[known], torch.from_numpy(truth.joints).float()[known], atol=2e-5, rtol=0)
    projected = perspective_project(joints, batch.inputs.intrinsics[row])
    assert_close(projected[known], targets.joints_2d[row][known], atol=0.5, rtol=0)
    palm = float(torch.linalg.vector_norm(targets.joints[row, 9]))
    assert 0.05 < palm < 0.13  # wrist to middle MCP: metres, and these two joints
    if truth.has_mesh:
        assert targets.vertices_valid[row] and targets.hand[row] == OPEN.fingerprint
        vertices = (targets.vertices[row] + targets.root[row]) @ axes.T
        assert_close(vertices, torch.from_numpy(truth.vertices).float(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_are_true(sets, name, split):
    """Projected 3D lies on the 2D labels, these on the picture's dots; left hands mirror back; crops invert."""
    root, truths = sets(name)
    dataset = build(name, root, split)
    batch = everything(dataset)
    assert len(batch) and (len(set(batch.keys)) == len(batch) or batch.no_hand)
    for row, key in enumerate(batch.keys):
        check_sample(batch, row, truths[key])
    if batch.targets.mask is not None and batch.targets.mask_valid.any():
        assert 0.005 < batch.targets.mask[batch.targets.mask_valid].float().mean() < 0.95
    again = pickle.loads(pickle.dumps(dataset)).load([len(dataset) - 1, 0])
    for row, key in enumerate(again.keys):
        assert torch.equal(again.inputs.image[row], batch.inputs.image[batch.keys.index(key)])
    assert len(pickle.dumps(dataset)) < 3_000_000  # a hand at most: the labels stay on the disk


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step(sets, name):
    """Batches mix with themselves and train a linear network; gradients are finite and not all zero."""
    dataset = build(name, sets(name)[0], "train", size=16)
    batch = Stream([dataset], batch_size=4)[0]
    assert len(batch) == 4
    model = torch.nn.Linear(3 * 16 * 16, 21 * 5)
    answer = model(batch.inputs.image.flatten(1)).unflatten(1, (21, 5))
    t = batch.targets
    loss = ((answer[..., :3] - t.joints).abs() * t.joints_valid[..., None]).sum()
    loss = loss + ((answer[..., 3:] - t.joints_2d / 16).abs() * t.joints_2d_valid[..., None]).sum()
    loss.backward()
    assert loss.isfinite() and model.weight.grad.isfinite().all() and model.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by", ["sample", "sequence"])
def test_splits_do_not_leak(sets, name, by):
    """Train, val and test are disjoint, together everything, the same twice, and move with the seed."""
    root, _ = sets(name)
    try:
        parts = [build(name, root, split, split_by=by) for split in ("train", "val", "test")]
    except ConfigError as error:
        assert "cannot be split by sequence" in str(error) or "no hand is left" in str(error)
        return
    keys = [[p.annotation(i).key for i in range(len(p)) if _has_hand(p, i)] for p in parts]
    assert sum(map(len, keys)) == len(set().union(*keys))
    if name == "freihand":
        unique = [{int(k[-8:]) % 3 for k in part} for part in keys]
        assert not (unique[0] & unique[1] or unique[0] & unique[2] or unique[1] & unique[2])
        assert len(keys[0]) == 4 * len(unique[0]) and len(keys[2]) == len(unique[2])


def _has_hand(dataset, index: int) -> bool:
    try:
        dataset.annotation(index)
    except DataError as error:
        return "no hand is labelled" not in str(error)
    return True


def test_splits_keep_groups_and_shares():
    from mesh_graphormer_hand.data.readers.file_dataset import ReaderConfig
    from mesh_graphormer_hand.data.readers.splits import split_groups

    groups = np.repeat(np.arange(400), 5)
    config = ReaderConfig()
    parts = [split_groups(groups, config, p) for p in ("train", "val", "test")]
    assert (sum(p.astype(int) for p in parts) == 1).all()
    assert [round(p.mean(), 2) for p in parts] == [0.7, 0.15, 0.15]
    assert all(len(set(groups[a]) & set(groups[b])) == 0 for a, b in ((parts[0], parts[1]), (parts[1], parts[2])))
    other = split_groups(groups, ReaderConfig(split_seed=1), "train")
    assert (other != parts[0]).any() and (split_groups(groups, config, "train") == parts[0]).all()


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder of a saved toy model."""
    from helpers import toy_model

    folder = tmp_path_factory.mktemp("toy")
    config = HandModelConfig(name="toy", options={}, image_size=16, hand=OPEN.fingerprint_hex)
    toy_model.build(config, OPEN).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_evaluated_by_the_command(sets, name, toy, tmp_path, monkeypatch, capsys):
    """hand-evaluate RUN --data NAME --root DIR: numbers for what both sides know."""
    monkeypatch.setattr(assembly, "available", toy_train.with_toys(assembly.available))
    if name != "freihand":  # pictures take seconds and are the same for all
        monkeypatch.setattr(report, "worst", lambda *_: [])
        monkeypatch.setattr(report, "write", lambda out, _: out)
    root, truths = sets(name)
    options = [f"{k}={v}" for k, v in OPTIONS.get(name, {}).items()]
    out = tmp_path / "scores.json"
    arguments = [str(toy), *options, "--data", name, "--root", str(root), "--json", str(out), "--workers", "0"]
    arguments += ["--two-hands"] if name == "interhand26m" else []
    assert cli.main(arguments) == 0, capsys.readouterr().err
    scores = json.loads(out.read_text())["test"][name]
    if next(iter(truths.values())).has_3d:
        assert scores["mean_pose"]["mpjpe"] > 5
    said = capsys.readouterr().out
    assert name in said
    if name == "interhand26m":
        assert (tmp_path / "scores" / "two_hands_truth.npz").is_file()
        assert "official scores (interhand26m), model, 3 samples" in said
        assert "no scores of two hands: model gives no mesh" in said, "the toy has none"


def test_freihand_versions_and_hands(sets):
    """All four versions in training by default, any of them by name; MANO that is not here is named so."""
    root, _ = sets("freihand")
    assert len(build("freihand", root, "train")) == 12
    some = build("freihand", root, "train", versions=["auto"])
    assert [some.annotation(i).key[-2:] for i in range(3)] == ["09", "10", "11"]
    unknown = build("freihand", root, mano="none")
    targets = everything(unknown).targets
    assert unknown.hand == UNKNOWN_MANO and targets.vertices_valid.all() and not targets.mano_valid.any()
    assert (targets.hand == UNKNOWN_MANO).all() and UNKNOWN_MANO not in (0, OPEN.fingerprint)
    with pytest.raises(ConfigError, match="versions 'homm', did you mean 'hom'"):
        build("freihand", root, "train", versions=["homm"])
    with pytest.raises(ConfigError, match="no official split 'val', only train and test; split_by=sample"):
        build("freihand", root, "val")


def test_parameters_make_the_labelled_mesh(sets):
    """Pose and shape of every set with fits, through the right hand's layer, give its vertices."""
    from helpers.dataset_fixtures import layer

    for name in ("freihand", "interhand26m", "dexycb"):
        targets = everything(build(name, sets(name)[0])).targets
        assert targets.mano_valid.all()
        pose = targets.pose.double().flatten(1)
        vertices, joints = layer()(pose, targets.shape.double())
        assert_close(vertices - joints[:, :1], targets.vertices.double(), atol=2e-5, rtol=0)


def test_interhand_choices(sets, tmp_path):
    root, _ = sets("interhand26m")
    assert len(build("interhand26m", root)) == 4  # right, left, and both
    single = build("interhand26m", root, hand_types=["right", "left"])
    assert len(single) == 2
    assert len(build("interhand26m", root, sides=["left"])) == 2
    (tmp_path / "ids.txt").write_text("502\n")
    both = build("interhand26m", root, ids=str(tmp_path / "ids.txt"))
    assert [both.annotation(i).key.rpartition("#")[2] for i in range(2)] == ["502_right", "502_left"]
    boxes = everything(build("interhand26m", root, crop="annotation", ids=str(tmp_path / "ids.txt")))
    assert_close(boxes.image_from_crop[0, 0, 0], -boxes.image_from_crop[1, 0, 0])  # one square, mirrored for the left
    fits = everything(build("interhand26m", root, labels="mano"))
    assert fits.targets.joints_valid.all() and (fits.targets.hand == OPEN.fingerprint).all()
    with pytest.raises(ConfigError, match="labels=mano needs the fits"):
        build("interhand26m", root, labels="mano", mano="none")
    write_interhand26m(tmp_path, fits=False)
    assert everything(build("interhand26m", tmp_path)).targets.vertices is None


def test_rhd_hands(sets):
    root, truths = sets("rhd")
    dominant = [build("rhd", root).annotation(i).key for i in range(3)]
    assert [k.rpartition("#")[2] for k in dominant] == ["right", "left", "right"]
    both = everything(build("rhd", root, hands="all", depth=True, scale=1.25))
    assert len(both) == 6
    for row, key in enumerate(both.keys):
        check_sample(both, row, truths[key])
    assert both.targets.depth_valid.all() and abs(both.targets.depth[2:4].max() - 0.6) < 0.05  # along the crops' rays
    seen = everything(build("rhd", root, hands="visible", only_visible=True))
    assert (~seen.targets.joints_2d_valid).sum() == 3  # one hidden joint of every left hand


def test_the_index_is_made_once(sets, tmp_path, monkeypatch):
    """A second start reads no JSON; a changed file is read again; a folder for indexes may be named."""
    from mesh_graphormer_hand.data.datasets import interhand26m

    root = tmp_path / "copy"
    shutil.copytree(sets("interhand26m")[0], root)
    cache = tmp_path / "cache"
    shutil.rmtree(root / ".mesh_graphormer_hand", ignore_errors=True)
    before = build("interhand26m", root, cache=str(cache))
    assert not (root / ".mesh_graphormer_hand").exists() and any(cache.rglob("index.json"))
    with monkeypatch.context() as patch:
        patch.setattr(interhand26m, "json_items", None)
        assert len(build("interhand26m", root, cache=str(cache))) == len(before)
    path = root / "annotations" / "test" / "InterHand2.6M_test_data.json"
    content = json.loads(path.read_text())
    content["annotations"].pop()
    path.write_text(json.dumps(content))
    assert len(build("interhand26m", root, cache=str(cache))) == 2
