"""Broken files of official data sets: each named with file and index; told to skip, listed; never dropped silently."""

import json
import logging
import pickle
import re
import shutil

import numpy as np
import pytest

from helpers import toy_train
from helpers.dataset_fixtures import OPEN, OPTIONS, WRITERS
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import evaluate as cli
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.models.base import HandModelConfig


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Data set -> the folder of its fixture, not to be changed."""
    made = {}

    def get(name: str):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            WRITERS[name](made[name])
        return made[name]

    return get


@pytest.fixture
def copy(clean, tmp_path):
    """The folder of a fixture that may be spoilt."""
    return lambda name: shutil.copytree(clean(name), tmp_path / name)


def build(name: str, root, split: str = "test", **options):
    return assembly.build_dataset(name, {"root": str(root), **OPTIONS.get(name, {}), **options}, split, OPEN, 32)


def edit(path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def halve(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def setting(path: str, *place, value):
    """A change of one number of a JSON file."""

    def change(content) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return lambda root: edit(root / path, change)


INTERHAND = "annotations/test/InterHand2.6M_test_"
# name -> data set, how it is spoilt, what has to be said, index of the sample that is left out
SAMPLES = {
    "image missing": (
        "freihand",
        lambda r: (r / "evaluation/rgb/00000001.jpg").unlink(),
        "sample 1: .*00000001.jpg: no such file .*evaluation label 1",
    ),
    "jpeg cut": (
        "freihand",
        lambda r: halve(r / "evaluation/rgb/00000001.jpg"),
        "sample 1: .*00000001.jpg is an image that was cut short .*evaluation label 1",
    ),
    "nan": ("freihand", setting("evaluation_xyz.json", 1, 3, 0, value=float("nan")), "label 1: joint 3 .* is NaN"),
    "behind": ("freihand", setting("evaluation_xyz.json", 1, 5, 2, value=-0.4), "label 1: joint 5 lies behind .*-0.4"),
    "outside": ("freihand", setting("evaluation_K.json", 1, 0, 2, value=5000.0), "label 1: the hand lies outside"),
    "focal": ("freihand", setting("evaluation_K.json", 1, 0, 0, value=-1.0), "label 1: .*(focal|outside)"),
    "mesh nan": ("freihand", setting("evaluation_verts.json", 1, 9, 1, value=float("inf")), "label 1: vertices"),
    "interhand image": (
        "interhand26m",
        lambda r: (r / "images/test/Capture0/0000_neutral/cam400026/image8.jpg").unlink(),
        "sample 1: .*image8.jpg: no such file .*annotation 501 .left hand",
    ),
    "interhand moment": (
        "interhand26m",
        lambda r: edit(r / f"{INTERHAND}joint_3d.json", lambda c: c["0"].pop("8")),
        "annotation 501 .*moment is not in InterHand2.6M_test_joint_3d.json",
    ),
    "interhand camera": (
        "interhand26m",
        lambda r: edit(r / f"{INTERHAND}data.json", lambda c: c["images"][1].update(camera="400027")),
        "annotation 501 .*camera is not in",
    ),
    "interhand nan": (
        "interhand26m",
        lambda r: edit(
            r / f"{INTERHAND}joint_3d.json", lambda c: c["0"]["8"]["world_coord"][30].__setitem__(0, float("nan"))
        ),
        "annotation 501 .*joint .* is NaN",
    ),
    "rhd mask": (
        "rhd",
        lambda r: halve(r / "evaluation/mask/00001.png"),
        "sample 1: .*mask/00001.png is an image that was cut short",
    ),
    "ho3d meta": (
        "ho3d",
        lambda r: halve(r / "evaluation/ABF10/meta/0001.pkl"),
        "sample 1: .*meta/0001.pkl: cut short",
    ),
    "ho3d code": (
        "ho3d",
        lambda r: (r / "evaluation/ABF10/meta/0001.pkl").write_bytes(pickle.dumps(print)),
        "sample 1: .*0001.pkl: refused.*executed",
    ),
    "dexycb labels": (
        "dexycb",
        lambda r: halve(next(r.glob("*03/*/8*/labels_000001.npz"))),
        "sample 1: .*labels_000001.npz is damaged or cut short",
    ),
    "panoptic json": (
        "panoptic",
        lambda r: halve(r / "hand_labels/manual_test/ex2_2.flv_000040_l.json"),
        "sample 1: .*ex2_2.flv_000040_l.json was cut short",
    ),
    "hint box": (
        "hint",
        setting("TEST_newdays_img/vid1_frame000001_r.json", 0, "bbox", value=[[9, 9, 3, 3]]),
        "sample 1: .*vid1_frame000001_r.json: the hand's box .* is empty",
    ),
}


@pytest.mark.parametrize("what", SAMPLES)
def test_a_broken_sample(copy, what):
    """An error with file and index by default; told to skip, it alone is missing, and listed with the same words."""
    name, spoil, message = SAMPLES[what]
    root = copy(name)
    spoil(root)
    if what not in ("ho3d meta", "ho3d code"):  # metas are read with the index, whose sources are the lists
        shutil.rmtree(root / ".mesh_graphormer_hand", ignore_errors=True)
    dataset = build(name, root)
    with pytest.raises(ConfigError, match=message) as error:
        dataset.load(list(range(len(dataset))))
    assert str(root) in str(error.value) and "on_broken=skip" in str(error.value)
    dataset = build(name, root, on_broken="skip")
    batch = dataset.load(list(range(len(dataset))))
    assert len(batch) == len(dataset) - len(batch.left_out) - len(batch.no_hand) and len(batch.left_out) == 1
    assert re.search(message, batch.left_out[0])
    assert not len(dataset.load([1])) and dataset.load([1]).left_out


FILES = {
    "json cut": ("freihand", lambda r: halve(r / "evaluation_xyz.json"), "evaluation_xyz.json was cut short"),
    "count": (
        "freihand",
        lambda r: edit(r / "evaluation_verts.json", list.pop),
        "evaluation_verts.json has 1 entries, evaluation_K.json has 2",
    ),
    "joints": (
        "freihand",
        lambda r: edit(r / "evaluation_xyz.json", lambda c: c[1].pop()),
        r"evaluation_xyz.json, label 1 has shape \[20, 3\]",
    ),
    "no file": ("freihand", lambda r: (r / "evaluation_K.json").unlink(), "no evaluation_K.json: split=train"),
    "interhand cut": ("interhand26m", lambda r: halve(r / f"{INTERHAND}data.json"), "test_data.json was cut short"),
    "interhand joints": (
        "interhand26m",
        lambda r: edit(r / f"{INTERHAND}joint_3d.json", lambda c: c["0"]["8"]["world_coord"].pop()),
        r"capture 0, frame 8: world_coord has shape \[41, 3\]",
    ),
    "interhand image id": (
        "interhand26m",
        lambda r: edit(r / f"{INTERHAND}data.json", lambda c: c["annotations"][1].update(image_id=7)),
        "annotation 501 belongs to image 7",
    ),
    "interhand key": (
        "interhand26m",
        lambda r: edit(r / f"{INTERHAND}data.json", lambda c: c["annotations"][1].pop("hand_type")),
        "annotation near id 500 lacks or garbles 'hand_type'",
    ),
    "rhd cut": ("rhd", lambda r: halve(r / "evaluation/anno_evaluation.pickle"), "anno_evaluation.pickle: cut short"),
    "rhd code": (
        "rhd",
        lambda r: (r / "evaluation/anno_evaluation.pickle").write_bytes(pickle.dumps({0: shutil.rmtree})),
        "refused. The pickle asks for shutil.rmtree.*nothing of it was executed",
    ),
    "ho3d count": (
        "ho3d",
        lambda r: edit(r / "evaluation_xyz.json", list.pop),
        "evaluation_xyz.json has 3 entries, evaluation.txt has 4",
    ),
    "onehand count": (
        "onehand10k",
        lambda r: halve(r / "Test/label_joint.txt"),
        "label_joint.txt, line 2: .* values, 46 expected",
    ),
    "dexycb count": ("dexycb", lambda r: shutil.rmtree(next(r.glob("*03/*"))), "has 4 sequences, not 5"),
    "coco own": (
        "coco_wholebody",
        lambda r: edit(r / "annotations/coco_wholebody_val_v1.0.json", lambda c: c.update(annotations=[])),
        "holds no valid hand",
    ),
    "halpe short": (
        "halpe",
        lambda r: edit(r / "halpe_val_v1.json", lambda c: c["annotations"][1].update(keypoints=[1] * 51)),
        "annotation 2: keypoints: 51 numbers",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_label_file(copy, what):
    """Found when the set is opened, named with file and place; no index of it is left behind."""
    name, spoil, message = FILES[what]
    root = copy(name)
    spoil(root)
    for _ in range(2):
        with pytest.raises(ConfigError, match=message) as error:
            build(name, root)
    assert str(root) in str(error.value)


def test_training_replaces_what_is_broken(copy, caplog):
    root = copy("rhd")
    (root / "training/color/00001.png").unlink()
    with caplog.at_level(logging.WARNING):
        batch = build("rhd", root, "train", on_broken="skip").load([0, 1, 2])
    assert len(batch) == 3 and "training/00001#left" not in batch.keys
    assert "replaced a broken sample" in caplog.text and "00001.png: no such file" in caplog.text
    for number in (0, 2):
        (root / f"training/color/{number:05d}.png").unlink()
    with pytest.raises(ConfigError, match="100 samples in a row are broken"):
        build("rhd", root, "train", on_broken="skip").load([0])


def test_frames_without_a_hand_are_left_out_by_rule(clean):
    """DexYCB says -1 where no hand is: no mistake of the files, but told."""
    dataset = build("dexycb", clean("dexycb"))
    batch = dataset.load([0, 1, 2])
    assert len(batch) == 2 and not batch.left_out and batch.no_hand[0].endswith(": no hand is labelled in this frame")
    assert len(build("dexycb", clean("dexycb"), "train").load([0, 1, 2])) == 3


def test_a_hand_that_only_other_cameras_see(copy):
    """DexYCB labels it outside the picture: the official scores ask for an answer, training passes it by."""
    root = copy("dexycb")
    for path in sorted(root.glob("*/*/*/labels_000000.npz")):
        with np.load(path) as content:
            labels = dict(content)
        x, _, z = labels["joint_3d"][0].T
        focal = np.polyfit(x / z, labels["joint_2d"][0, :, 0], 1)[0]
        labels["joint_3d"] = labels["joint_3d"] + np.float32([9, 0, 0])
        labels["joint_2d"] = labels["joint_2d"] + np.stack([9 * focal / z, 0 * z], -1).astype(np.float32)
        labels["pose_m"] = labels["pose_m"] + 9 * (np.arange(51) == 48).astype(np.float32)
        np.savez_compressed(path, **labels)
    batch = build("dexycb", root).load([0, 1])
    assert len(batch) == 2 and not batch.left_out and not batch.no_hand
    assert batch.targets.joints_valid[0].all() and batch.inputs.image[0].std() == 0
    batch = build("dexycb", root, "train").load([0, 1])
    assert len(batch) == 2 and batch.no_hand[0].endswith(": the hand is outside the picture")
    labels["joint_2d"] = -labels["joint_2d"]  # also there 2D and 3D belong together
    np.savez_compressed(path, **labels)
    with pytest.raises(DataError, match="K shows the 3D joints .* px from the 2D joints"):
        build("dexycb", root).load([0, 1])


def test_options_are_checked(clean, tmp_path):
    root = clean("rhd")
    for options, message in (
        ({"on_broken": "ignore"}, "on_broken 'ignore'"),
        ({"split_by": "sampel"}, "split_by 'sampel', did you mean 'sample'"),
        ({"hands": "domnant"}, "hands 'domnant', did you mean 'dominant'"),
        ({"shares": [1.0]}, "three numbers"),
        ({"split_by": "sequence"}, "cannot be split by sequence: try sample"),
    ):
        with pytest.raises(ConfigError, match=message):
            build("rhd", root, **options)
    with pytest.raises(ConfigError, match="`root` is missing"):
        build("rhd", "")
    with pytest.raises(ConfigError, match="there is no folder"):
        build("rhd", tmp_path / "nowhere")


def test_the_command_stops_or_counts(copy, tmp_path, monkeypatch, capsys):
    """hand-evaluate ends with one line and exit code 2; with --skip-broken it scores the rest and lists the missing."""
    from helpers import toy_model

    monkeypatch.setattr(assembly, "available", toy_train.with_toys(assembly.available))
    config = HandModelConfig(name="toy", options={}, image_size=16, hand=OPEN.fingerprint_hex)
    toy_model.build(config, OPEN).save_pretrained(tmp_path / "toy")
    root, out = copy("freihand"), tmp_path / "out.json"
    (root / "evaluation/rgb/00000001.jpg").unlink()
    arguments = [str(tmp_path / "toy"), "mano=open", "--data", "freihand", "--root", str(root), "--workers", "0"]
    arguments += ["--json", str(out)]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "00000001.jpg: no such file" in error and "Traceback" not in error
    assert cli.main([*arguments, "--skip-broken"]) == 0
    assert "00000001.jpg: no such file" in capsys.readouterr().out
    assert "00000001.jpg" in out.read_text() and np.isfinite(
        json.loads(out.read_text())["test"]["freihand"]["model"]["mpjpe"]
    )
