"""The predictor's frames: a stub finds two dots in the crop, and everything must land on them in the photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mesh_graphormer_hand import assembly, predictor
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.models.base import HandModelConfig
from mesh_graphormer_hand.predictor import HandPredictor
from two_dots import METRES, MIDDLE, TwoDots, photo

RED, GREEN = (130.0, 90.0), (210.0, 150.0)
K = np.array([[400.0, 0, 150], [0, 400, 100], [0, 0, 1]], np.float32)


@pytest.fixture
def image():
    return photo(RED, GREEN, height=240, width=400, sigma=8)


@pytest.fixture
def stub():
    return HandPredictor(TwoDots())


def project(points: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    uvw = points @ intrinsics.T
    return uvw[:, :2] / uvw[:, 2:]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("boxes", [None, [[110, 70, 240, 170]]])
def test_everything_lands_on_the_dots(stub, image, side, boxes):
    """A mirror forgotten, a crop not undone or half a pixel lost: each moves the answer off the dots."""
    (hand,) = stub.predict(image, boxes=boxes, sides=[side])
    assert hand.side == side
    np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)
    np.testing.assert_allclose(hand.joints_2d[MIDDLE], GREEN, atol=0.7)
    direction = np.subtract(GREEN, RED)
    direction /= np.linalg.norm(direction)
    np.testing.assert_allclose(hand.joints[MIDDLE, :2] - hand.joints[0, :2], METRES * direction, atol=2e-3)
    scale, x, y = hand.camera
    np.testing.assert_allclose(hand.joints[:, :2] * scale + [x, y], hand.joints_2d, atol=0.05)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("intrinsics", [None, K])
def test_translation_puts_the_wrist_on_its_pixel_at_its_size(stub, image, side, intrinsics):
    (hand,) = stub.predict(image, boxes=[[110, 70, 240, 170]], sides=[side], K=intrinsics)
    if intrinsics is None:
        assert hand.intrinsics[0, 0] == 400 and hand.intrinsics[:2, 2].tolist() == [200, 120]
    in_plane = hand.joints * [1, 1, 0] + hand.translation  # at the wrist's depth the two cameras agree exactly
    np.testing.assert_allclose(project(in_plane, hand.intrinsics), hand.joints_2d, atol=0.05)
    np.testing.assert_allclose(hand.vertices_cam, hand.vertices + hand.translation, atol=1e-6)


def test_mask_lies_on_the_red_dot(stub, image):
    for side in ("right", "left"):
        (hand,) = stub.predict(image, sides=[side])
        assert hand.mask.shape == (240, 400) and hand.mask.dtype == bool
        rows, columns = np.nonzero(hand.mask)
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], RED, atol=0.7)
        assert abs(hand.mask.sum() - (image[..., 0] > 127).sum()) < 0.15 * hand.mask.sum()


def test_second_look_only_where_no_box_is_given(stub, image):
    (hand,) = stub.predict(image)
    assert stub.model.looks == 2
    assert hand.box[2] - hand.box[0] < 240  # closer than the whole photo
    assert (hand.joints_2d > hand.box[:2]).all() and (hand.joints_2d < hand.box[2:]).all()
    stub.predict(image, boxes=[[110, 70, 240, 170]])
    assert stub.model.looks == 3


def test_second_look_needs_a_sane_answer():
    first = torch.tensor([100.0, 100.0, 200.0])
    hand = torch.rand(21, 2) * 60 + 70
    assert predictor._second_look(hand, first) is not None
    for wrong in (hand * 0 + 100, hand + 500, hand * 9 - 800):
        assert predictor._second_look(wrong, first) is None


def test_left_hand_is_the_mirror_image_of_the_right(stub, image):
    (right,) = stub.predict(image)
    (left,) = stub.predict(np.ascontiguousarray(image[:, ::-1]), sides=["left"])
    np.testing.assert_allclose(left.vertices, right.vertices * [-1, 1, 1], atol=1e-4)
    np.testing.assert_allclose(left.joints_2d, [400, 0] + right.joints_2d * [-1, 1], atol=0.05)
    np.testing.assert_array_equal(left.faces, right.faces[:, ::-1])
    assert left.hand == right.hand == hands.load("open").fingerprint_hex


def test_several_boxes_at_once(stub, image):
    boxes = [[110, 70, 240, 170], [100, 60, 250, 180]]
    both = stub.predict(image, boxes=boxes, sides=["right", "left"])
    assert [h.side for h in both] == ["right", "left"]
    for hand in both:
        np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)
        assert hand.confidence == pytest.approx(0.75)
    assert stub.predict(image, boxes=[]) == []


def test_reads_files(stub, image, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    (hand,) = stub.predict(tmp_path / "a.png")
    np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((5, 5), np.uint8)}, r"RGB uint8 array.*uint8 \(5, 5\)"),
        ({"image": np.zeros((5, 5, 3), np.float32)}, "this is float32"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, "no pixels"),
        ({"boxes": [[1, 2, 3]]}, "x0, y0, x1, y1"),
        ({"boxes": [[9, 2, 3, 5]]}, "x0 < x1"),
        ({"boxes": [[1, 2, float("nan"), 5]]}, "x0, y0, x1, y1"),
        ({"boxes": [[500, 2, 600, 50]]}, "outside the photo, which is 400 x 240"),
        ({"sides": ["both"]}, "sides should be"),
        ({"sides": ["left", "left"]}, "each of 1 boxes"),
        ({"K": np.zeros((3, 3))}, "K should be"),
    ],
)
def test_bad_arguments_are_named(stub, image, arguments, message):
    with pytest.raises(DataError, match=message):
        stub.predict(**{"image": image, **arguments})


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 300, 3), (3000, 2, 3)])
def test_odd_shapes_do_not_break(stub, shape):
    (hand,) = stub.predict(np.full(shape, 128, np.uint8))
    assert hand.joints_2d.shape == (21, 2)


def test_answers_that_are_not_finite_are_told(stub, image):
    class Broken(TwoDots):
        def forward(self, inputs):
            prediction = super().forward(inputs)
            return replace(prediction, vertices=prediction.vertices * float("nan"))

    with pytest.raises(ConfigError, match="two_dots gives vertices that are not finite"):
        HandPredictor(Broken()).predict(image)


def test_camera_behind_the_photo_gives_no_translation():
    assert predictor.perspective_translation(np.array([-3.0, 1, 1], np.float32), K) is None


def test_from_pretrained_finds_models_by_folder_run_and_name(tmp_path, monkeypatch):
    hand = hands.load("open")
    options = {"convolutions": [1, 1], "channels": [4, 4], "head": [4, 4, 4]}
    config = HandModelConfig(name="hand_seg_net", options=options, image_size=64, hand=hand.fingerprint_hex)
    model = assembly.plugin("models", "hand_seg_net").build(config, hand)
    model.save_pretrained(tmp_path / "runs" / "mine" / "model")
    monkeypatch.chdir(tmp_path)
    for path in ("mine", "runs/mine", tmp_path / "runs" / "mine" / "model"):
        (result,) = HandPredictor.from_pretrained(path).predict(np.zeros((30, 50, 3), np.uint8))
        assert result.mask.shape == (30, 50) and result.joints is None and result.vertices is None
    with pytest.raises(ConfigError, match="no model in yours"):
        HandPredictor.from_pretrained("yours")
