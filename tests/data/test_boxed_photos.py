"""Label files of photo sets: where hands are, which side they are, and whether all of them are there."""

import json

import numpy as np
import pytest

from helpers import photo_sets
from helpers.photo_sets import BOX, SHAPE
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.data.readers.boxed_photos import FLESH_MARGIN, pictures, read_set

GROWN = np.array(BOX) + FLESH_MARGIN * 40 * np.array([-1, -1, 1, 1])


def test_drawn_boxes_are_complete_and_take_their_side_from_key_points(tmp_path):
    first, second, *_ = read_set(photo_sets.frames(tmp_path))
    np.testing.assert_allclose(first.boxes, [GROWN])
    np.testing.assert_allclose(second.boxes, [GROWN, [60, 5, 75, 20]])
    assert first.complete and second.complete and first.left.tolist() == [False]
    assert second.left.tolist() == [True, False] and second.left_valid.tolist() == [True, False]
    drawn = read_set(tmp_path, "drawn")
    assert drawn[1].boxes[0].tolist() == BOX and drawn[1].left_valid.tolist() == [True, False]


def test_key_points_alone_do_not_say_where_no_hand_is(tmp_path):
    (tmp_path / "a").mkdir()
    for found in (read_set(photo_sets.frames(tmp_path / "a", drawn=False)), read_set(photo_sets.crops(tmp_path / "b"))):
        assert not found[0].complete and found[0].left_valid.all()
        np.testing.assert_allclose(found[0].boxes, [GROWN])


def test_coco(tmp_path):
    one, none = read_set(photo_sets.coco(tmp_path))
    assert one.boxes.tolist() == [BOX] and one.left.tolist() == [True] and one.complete and one.path.is_file()
    assert none.boxes.shape == (0, 4) and none.complete


def test_frames_that_hand_generate_wrote(tmp_path):
    from mesh_graphormer_hand.cli.generate import main

    options = ["--kind", "frames", "--count", "4", "--image-size", "64", "--workers", "0", "--out", str(tmp_path / "f")]
    assert main([*options, "seed=3"]) == 0
    found = read_set(tmp_path / "f")
    assert len(found) == 4 and all(p.path.is_file() for p in found) and sum(len(p.boxes) for p in found) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hands": [{"keypoints_px": [[1, 2]]}]}, "0.png, hand 0: keypoints_px has shape"),
        ({"hands": [], "human_boxes": [[5, 5, 4, 9]]}, "x0 < x1"),
        ({"hands": [], "human_boxes": [[5, 5, 4]]}, "human_boxes has shape"),
        ({"hands": 3}, "list of hands"),
        ({"hands": [{"keypoints_px": photo_sets.points([0.1, 0.2, 0.5, 0.6])}]}, r"0.png, hand 0: .*0\.\.1"),
        ({"hands": [{"keypoints_px": [[0, 0], *photo_sets.points(BOX)[1:]]}]}, r"hand 0: joint 0 .*\(0, 0\).*missing"),
        ({"hands": [{"keypoints_px": photo_sets.points(BOX), "handedness": "Left"}]}, "handedness 'Left' should be"),
        ({"hands": [], "human_boxes": [[0.1, 0.2, 0.5, 0.6]]}, r"human_boxes: the box lies in 0\.\.1"),
        ({"boxes": [BOX]}, "should be a mapping of hands and human_boxes"),
        ([], "should be a mapping of hands"),
    ],
)
def test_a_mistake_is_named(tmp_path, change, message):
    photo_sets.frames(tmp_path, 1)
    (tmp_path / "frames.json").write_text(json.dumps({"whole/0.png": change}))
    with pytest.raises(DataError, match=message):
        read_set(tmp_path)


@pytest.mark.parametrize(
    ("box", "size", "message"),
    [
        ([10, 20, 40, 0], SHAPE[::-1], "a width and a height above 0"),
        ([0.1, 0.2, 0.4, 0.3], SHAPE[::-1], r"bbox: the box lies in 0\.\.1"),
        ([100, 200, 400, 240], SHAPE[::-1], "hand 0: the box .* lies outside the 80 x 60 image"),
        ([10, 20, 400, 240], SHAPE[::-1], "hand 0: the box .* is larger than the 80 x 60 image"),
        ([10, 20, 40, 24], (160, 120), "the labels are of an image of 160 x 120 px, this one has 80 x 60"),
    ],
)
def test_boxes_that_no_hand_in_the_photo_has(tmp_path, box, size, message):
    """Whoever reads the photo is told, before anything is learned from it."""
    path = photo_sets.coco(tmp_path) / "annotations/some_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = box
    content["images"][0] |= {"width": size[0], "height": size[1]}
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_set(tmp_path)[0].read()


def test_key_points_that_fit_no_drawn_box_are_checked_too(tmp_path):
    """The boxes that people drew count, so such key points changed nothing, without a word."""
    path = photo_sets.frames(tmp_path, 1) / "frames.json"
    content = json.loads(path.read_text())
    content["whole/0.png"]["hands"][0]["keypoints_px"] = (10 * np.array(photo_sets.points(BOX))).tolist()
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="hand 1: the box .* lies outside the 80 x 60 image"):
        read_set(tmp_path)[0].read()


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(DataError, match="none of frames.json"):
        read_set(tmp_path)
    with pytest.raises(DataError, match="no picture"):
        pictures(tmp_path)
    (tmp_path / "frames.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        read_set(tmp_path)
    (tmp_path / "frames.json").write_text(json.dumps({"gone.png": {"hands": []}}))
    with pytest.raises(DataError, match="gone.png, which is not there"):
        read_set(tmp_path)
