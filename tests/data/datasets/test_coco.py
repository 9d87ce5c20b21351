"""Hands of one's own in COCO's format: read as annotation programs write them, and told apart from other files."""

import json

import cv2
import numpy as np
import pytest
from torch.testing import assert_close

from helpers.dataset_fixtures import OPEN
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.datasets.coco import named_order
from mesh_graphormer_hand.geometry.crops import apply_affine
from mesh_graphormer_hand.skeleton import JOINT_NAMES, PERMUTATIONS

SIZE = 32


def points(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([60, 40], [140, 110], (21, 2))


def annotation(number: int, **more) -> dict:
    keypoints = np.concatenate([points(number), np.full((21, 1), 2)], 1)
    keypoints[4] = 0  # not labelled
    keypoints[5, 2] = 1  # hidden
    box = [*points(number).min(0), *np.ptp(points(number), axis=0)]
    about = {"id": number, "image_id": 7, "category_id": 1, "bbox": box, "keypoints": keypoints.reshape(-1).tolist()}
    return {**about, **more}


def write(root, annotations, image=None, categories=None, name="annotations/train.json"):
    (root / "annotations").mkdir(exist_ok=True)
    (root / "images").mkdir(exist_ok=True)
    cv2.imwrite(str(root / "images/a.png"), np.zeros((150, 200, 3), np.uint8))
    kinds = categories or [{"id": 1, "name": "hand", "keypoints": [str(i) for i in range(21)], "skeleton": []}]
    picture = {"id": 7, "file_name": "a.png", "width": 200, "height": 150, **(image or {})}
    content = {"images": [picture], "annotations": annotations, "categories": kinds}
    (root / name).write_text(json.dumps(content))
    return root


def load(root, split: str = "train", name: str = "coco", **options):
    dataset = assembly.build_dataset(name, {"root": str(root), **options}, split, OPEN, SIZE)
    return dataset.load(list(range(len(dataset))))


def test_hands_are_read_as_they_are(tmp_path):
    """One category `hand`, 21 keypoints with visibility, no 3D, no camera."""
    write(tmp_path, [annotation(1), annotation(2, handedness="left"), annotation(3, iscrowd=1)])
    batch = load(tmp_path)
    assert batch.keys == ["a.png#1", "a.png#2"] and batch.targets.is_left.tolist() == [False, True]
    assert batch.targets.joints_2d_valid.sum(1).tolist() == [20, 20] and not batch.targets.joints_2d_valid[0, 4]
    assert batch.targets.joints_visible[0].tolist() == [j not in (4, 5) for j in range(21)]
    assert not batch.targets.joints_valid.any() and not batch.inputs.intrinsics_valid.any()
    back = apply_affine(batch.targets.joints_2d, batch.image_from_crop).numpy()
    known = batch.targets.joints_2d_valid.numpy()
    np.testing.assert_allclose(back[0][known[0]], points(1)[known[0]], atol=1e-3)
    boxes = load(tmp_path, box="label", side="left")
    assert boxes.targets.is_left.tolist() == [True, True]
    (sides,) = load(tmp_path, sides=["left"]).targets.is_left.tolist()
    assert sides


def test_camera_and_order_of_the_file(tmp_path):
    """`K` of an image reaches the crop; names of keypoints say their order, `order` says otherwise."""
    K = [[300.0, 0, 100], [0, 300, 75], [0, 0, 1]]
    names = [JOINT_NAMES[PERMUTATIONS["rhd"].index(i)] for i in range(21)]
    kinds = [{"id": 1, "name": "left_hand", "keypoints": names}]
    batch = load(write(tmp_path, [annotation(1)], {"K": K}, kinds))
    assert batch.inputs.intrinsics_valid.all() and batch.targets.is_left.all()
    plain = load(tmp_path, order="canonical")
    order = list(PERMUTATIONS["rhd"])
    assert_close(batch.targets.joints_2d[0], plain.targets.joints_2d[0][order])


def test_names_of_joints():
    assert named_order(list(JOINT_NAMES)) == list(range(21))
    others = ["wrist"] + [f"{f}{i}" for f in ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky") for i in
                          (4, 3, 2, 1)]  # fmt: skip
    assert named_order(others) == list(PERMUTATIONS["rhd"])
    assert named_order([str(i) for i in range(21)]) is None and named_order(["wrist"] * 21) is None


def test_files_of_the_splits(tmp_path):
    write(tmp_path, [annotation(1)], name="annotations/hands_train.json")
    assert len(load(tmp_path, "test")) == 1, "one file serves all"
    write(tmp_path, [annotation(1), annotation(2)], name="annotations/hands_val.json")
    assert len(load(tmp_path, "train")) == 1 and len(load(tmp_path, "test")) == 2
    write(tmp_path, [annotation(1)], name="annotations/more_train.json")
    with pytest.raises(ConfigError, match="hands_train.json, more_train.json for train: name one with labels=FILE"):
        load(tmp_path, "train")
    assert len(load(tmp_path, "train", labels="more_train.json")) == 1


CASES = {
    "another size": (
        {},
        {"width": 400, "height": 300},
        "labels are of an image of 400 x 300 px, this one has 200 x 150",
    ),
    "turned": ({}, {"width": 150, "height": 200}, r"150 x 200 px, this one has 200 x 150 \(turned by its EXIF\?\)"),
    "shares": ({"keypoints": [0.5, 0.25, 2] * 21}, {}, "2D joints lie in 0..1"),
    "zero": ({"keypoints": [0, 0, 2, *np.tile([90, 90, 2], 20).tolist()]}, {}, r"joint 0 of the 2D joints is \(0, 0\)"),
    "transposed": ({}, {"K": [[300, 0, 0], [0, 300, 0], [100, 75, 1]]}, "K is transposed"),
    "normalised": ({}, {"K": [[1.5, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]}, "K is normalised"),
    "K of another size": ({}, {"K": [[600, 0, 200], [0, 600, 150], [0, 0, 1]]}, "middle of an image 2 times as large"),
    "short": ({"keypoints": [1] * 60}, {}, r"annotation 1: keypoints has shape \[60\]"),
    "person": ({"keypoints": [1] * 51}, {}, "annotation 1 has keypoints of a whole person"),
    "side": ({"handedness": "both"}, {}, "handedness 'both' should be"),
    "no image": ({"image_id": 9}, {}, "annotation 1 belongs to image 9"),
}


@pytest.mark.parametrize("what", CASES)
def test_what_cannot_be_true_is_named(tmp_path, what):
    more, image, message = CASES[what]
    write(tmp_path, [annotation(1, **more)], image)
    with pytest.raises(ConfigError, match=message) as error:
        load(tmp_path)
    assert "train.json, annotation 1" in str(error.value) or "train.json: annotation 1" in str(error.value)


def test_other_readers_name_it(tmp_path):
    """`folder` said: unknown key 'id'; `coco_wholebody` only that there is no hand."""
    write(tmp_path, [annotation(1)], name="keypoints.json")
    with pytest.raises(ConfigError, match="keypoints.json is in COCO's format: read it with --data coco labels=keypoi"):
        load(tmp_path, name="folder")
    write(tmp_path, [annotation(1)], name="annotations/coco_wholebody_train_v1.0.json")
    with pytest.raises(ConfigError, match="holds no valid hand.*coco"):
        load(tmp_path, name="coco_wholebody")


def test_names_that_are_half_understood_are_refused(tmp_path):
    kinds = [{"id": 1, "name": "hand", "keypoints": [*JOINT_NAMES[:20], "x"]}]
    write(tmp_path, [annotation(1)], categories=kinds)
    with pytest.raises(ConfigError, match="category 1: the keypoint 'x' is not understood.*order="):
        load(tmp_path)
    assert len(load(tmp_path, order="canonical")) == 1
    write(tmp_path, [annotation(1, category_id=3)])
    with pytest.raises(ConfigError, match="annotation 1 has category 3, which is not there"):
        load(tmp_path)
