"""The predictor's frames: a stub finds two dots in the crop, and everything must land on them in the photo."""

import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from helpers.two_dots import METRES, MIDDLE, Finder, TwoDots, photo
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError, CropSpec
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.geometry import metric
from mesh_graphormer_hand.inference import predictor as predictor_module
from mesh_graphormer_hand.inference.crops import square_around_joints
from mesh_graphormer_hand.inference.detectors.base import Detection
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.models.base import HandModelConfig
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

RED, GREEN = (130.0, 90.0), (210.0, 150.0)
K = np.array([[400.0, 0, 150], [0, 400, 100], [0, 0, 1]], np.float32)


@pytest.fixture
def image():
    return photo(RED, GREEN, height=240, width=400, sigma=8)


@pytest.fixture
def stub():
    return HandPredictor(TwoDots())


def jpeg_with_focal_length(image: np.ndarray, millimetres: int) -> bytes:
    """A JPEG whose EXIF holds FocalLengthIn35mmFilm, as phones write it (big-endian, in the second directory)."""
    entry = struct.pack(">HHIHH", 0xA405, 3, 1, millimetres, 0)
    pointer = struct.pack(">HHII", 0x8769, 4, 1, 8 + 2 + 12 + 4)
    tiff = b"MM\x00*" + struct.pack(">IH", 8, 1) + pointer + bytes(4) + struct.pack(">H", 1) + entry + bytes(4)
    segment = b"Exif\x00\x00" + tiff
    data = cv2.imencode(".jpg", image[..., ::-1])[1].tobytes()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


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
    own = hand.joints @ hand.camera_from_crop  # in the crop's axes
    np.testing.assert_allclose(own[MIDDLE, :2] - own[0, :2], METRES * direction, atol=2e-3)
    scale, x, y = hand.camera
    np.testing.assert_allclose(own[:, :2] * scale + [x, y], hand.joints_2d, atol=0.05)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("intrinsics", [None, K])
def test_translation_puts_the_hand_on_its_pixels_at_its_size(stub, image, side, intrinsics):
    (hand,) = stub.predict(image, boxes=[[110, 70, 240, 170]], sides=[side], K=intrinsics)
    if intrinsics is None:
        assert hand.intrinsics[0, 0] == 400 and hand.intrinsics[:2, 2].tolist() == [200, 120]
        assert hand.intrinsics_from == "assumed"
    pixels = project(hand.joints_cam, hand.intrinsics)
    np.testing.assert_allclose(pixels.mean(0), hand.joints_2d.mean(0), atol=0.1)
    spread = [np.linalg.norm(p - p.mean(0)) for p in (pixels, hand.joints_2d)]
    assert spread[0] == pytest.approx(spread[1], rel=1e-3)
    assert np.abs(pixels - hand.joints_2d).max() < 3  # the hand's relief is all that weak perspective leaves out
    np.testing.assert_allclose(hand.vertices_cam, hand.vertices + hand.translation, atol=1e-6)


def test_a_known_bone_length_sets_size_and_distance(stub, image):
    (hand,) = stub.predict(image)
    (twice,) = stub.predict(image, bone_length=2 * metric.reference_length(hand.joints))
    for name in ("joints", "vertices", "translation"):
        np.testing.assert_allclose(getattr(twice, name), 2 * getattr(hand, name), rtol=1e-4)
    np.testing.assert_allclose(twice.joints_2d, hand.joints_2d)
    scale, x, y = twice.camera
    own = twice.joints @ twice.camera_from_crop
    np.testing.assert_allclose(own[:, :2] * scale + [x, y], hand.joints_2d, atol=0.05)


def test_focal_length_from_the_caller_or_the_file(stub, image, tmp_path):
    (hand,) = stub.predict(image, focal=800.0)
    assert hand.intrinsics[0, 0] == 800 and hand.intrinsics_from == "given"
    (tmp_path / "a.jpg").write_bytes(jpeg_with_focal_length(image, 26))
    (hand,) = stub.predict(tmp_path / "a.jpg")
    assert hand.intrinsics_from == "exif"
    assert hand.intrinsics[0, 0] == pytest.approx(26 / np.hypot(36, 24) * np.hypot(400, 240), rel=1e-4)


def test_mask_lies_on_the_red_dot(stub, image):
    for side in ("right", "left"):
        (hand,) = stub.predict(image, sides=[side])
        assert hand.mask.shape == (240, 400) and hand.mask.dtype == bool
        rows, columns = np.nonzero(hand.mask)
        np.testing.assert_allclose([columns.mean() + 0.5, rows.mean() + 0.5], RED, atol=0.7)
        assert abs(hand.mask.sum() - (image[..., 0] > 127).sum()) < 0.15 * hand.mask.sum()


def test_the_side_is_the_one_that_the_model_is_surer_of():
    """With the shipped weights: most right hands are called right, and a mirrored photo is the mirrored answer."""
    seen = HandPredictor.from_pretrained(detector="whole")
    crops = VirtualHands(VirtualConfig(split="test"), hands.load("open")).render(range(16), image_size=192)
    right = 0
    for image in crops.inputs.image:
        picture = np.ascontiguousarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
        (hand,), (mirrored,) = seen.predict(picture), seen.predict(np.ascontiguousarray(picture[:, ::-1]))
        right += hand.side == "right"
        assert {hand.side, mirrored.side} == {"right", "left"}
        assert all(0.5 <= score <= 1 for score in (hand.side_score, mirrored.side_score))
        if max(hand.side_score, mirrored.side_score) < 0.95:  # else one sure look was enough, and is not the other's
            assert mirrored.side_score == pytest.approx(hand.side_score, abs=0.02)
        np.testing.assert_allclose(mirrored.joints * [-1, 1, 1], hand.joints, atol=2e-3)
        assert seen.predict(picture, sides=["left"])[0].side_score is None
    assert right >= 12


def test_a_second_crop_only_where_no_box_is_given(stub, image):
    (hand,) = stub.predict(image)
    assert stub.model.looks == 2
    assert hand.box[2] - hand.box[0] < 240  # closer than the whole photo
    assert (hand.joints_2d > hand.box[:2]).all() and (hand.joints_2d < hand.box[2:]).all()
    stub.predict(image, boxes=[[110, 70, 240, 170]])
    assert stub.model.looks == 3


def test_a_second_crop_needs_plausible_joints():
    first = torch.tensor([100.0, 100.0, 200.0])
    hand = torch.rand(21, 2) * 60 + 70
    assert square_around_joints(hand, first, CropSpec()) is not None
    for wrong in (hand * 0 + 100, hand + 500, hand * 9 - 800):
        assert square_around_joints(wrong, first, CropSpec()) is None


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


@pytest.mark.parametrize("kind", ["grey", "one channel", "alpha", "16 bit"])
def test_arrays_of_other_kinds_are_photos_too(stub, image, kind):
    grey = image.max(-1)
    arrays = {
        "grey": grey, "one channel": grey[..., None], "alpha": np.dstack([image, grey]),
        "16 bit": image.astype(np.uint16) * 257,
    }  # fmt: skip
    (hand,) = stub.predict(arrays[kind], boxes=[[110, 70, 240, 170]])
    if kind in ("alpha", "16 bit"):
        np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)


def test_no_hand_is_an_empty_list(image):
    assert HandPredictor(TwoDots(), detector=Finder()).predict(image) == []


def test_detections_become_hands_with_their_scores(image, monkeypatch):
    monkeypatch.setattr(predictor_module, "without_duplicates", list)  # both boxes hold the picture's only hand
    box = np.float32([110, 70, 240, 170])
    found = [Detection(box, 0.9, "left", 0.8), Detection(box + 5, 0.4, None)]
    predictor = HandPredictor(TwoDots(), detector=Finder(*found))
    first, second = predictor.predict(image)
    assert (first.side, first.side_score, first.detector) == ("left", 0.8, "finder")
    assert first.detection is found[0] and second.side == "right" and second.side_score is None
    for hand in (first, second):
        np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)
    assert predictor.model.looks == 1  # both at once
    both = predictor.predict(image, sides=["right"])
    assert [h.side for h in both] == ["right", "right"] and both[0].side_score is None


def test_a_hand_that_two_boxes_hold_is_given_once(image):
    box = np.float32([110, 70, 240, 170])
    found = [Detection(box + 5, 0.4), Detection(box, 0.9)]
    (hand,) = HandPredictor(TwoDots(), detector=Finder(*found)).predict(image)
    each = [HandPredictor(TwoDots(), detector=Finder(one)).predict(image)[0].confidence for one in found]
    assert hand.confidence == max(each), "the surer one"
    assert len(HandPredictor(TwoDots()).predict(image, [box, box])) == 2, "the caller's boxes are hands"


def test_many_hands_are_predicted_in_batches(image):
    box = np.float32([110, 70, 240, 170])
    hands = HandPredictor(TwoDots()).predict(image, [box] * 70)
    assert len(hands) == 70
    np.testing.assert_allclose(hands[69].joints_2d[0], RED, atol=0.7)


def test_a_camera_that_shrinks_the_hand_to_a_dot_is_repaired(stub, image):
    """A pose that is turned round makes a least-squares scale hit its floor: heat maps say how large the hand is."""

    class Turned(TwoDots):
        def forward(self, inputs):
            prediction = super().forward(inputs)
            places = prediction.joints_2d / inputs.image.shape[-1] * 24 - 0.5
            cells = torch.stack(torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="xy"), -1)
            away = (places[:, :, None, None] - cells).square().sum(-1)
            dot = torch.tensor([[1.0, 0, 0]]).expand_as(prediction.camera)
            return replace(prediction, heatmaps=-away / 2, camera=dot, joints_2d=prediction.joints_2d * 0 + 48)

    (hand,) = HandPredictor(Turned()).predict(image, boxes=[[110, 70, 240, 170]])
    np.testing.assert_allclose(hand.joints_2d[0], RED, atol=3)
    np.testing.assert_allclose(hand.joints_2d[MIDDLE], GREEN, atol=3)
    (right,) = stub.predict(image, boxes=[[110, 70, 240, 170]])
    assert hand.translation[2] == pytest.approx(right.translation[2], rel=0.05)


def test_reads_files(stub, image, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    (hand,) = stub.predict(tmp_path / "a.png")
    np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": np.zeros((5, 5, 2), np.uint8)}, r"1, 3 or 4\), this is uint8 \(5, 5, 2\)"),
        ({"image": np.full((5, 5, 3), np.nan)}, "this is float64"),
        ({"image": np.zeros((5, 5, 3), np.float32)}, "this is float32"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, "no pixels"),
        ({"boxes": [[1, 2, 3]]}, "x0, y0, x1, y1"),
        ({"boxes": [[9, 2, 3, 5]]}, "x0 < x1"),
        ({"boxes": [[1, 2, float("nan"), 5]]}, "x0, y0, x1, y1"),
        ({"boxes": [[500, 2, 600, 50]]}, "outside the photo, which is 400 x 240"),
        ({"sides": ["both"]}, "sides should be"),
        ({"sides": ["left", "left"]}, "each of 1 hands"),
        ({"K": np.zeros((3, 3))}, "K should be"),
        ({"K": K, "boxes": [[1, 2, 30, 40]], "sides": ["left", "left"]}, "each of 1 boxes"),
        ({"focal": -3.0}, "focal should be a positive number"),
        ({"bone_length": float("nan")}, "bone_length should be a positive number"),
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
    assert metric.perspective_translation(np.array([-3.0, 1, 1], np.float32), K) is None


def test_from_pretrained_finds_models_by_folder_run_and_name(tmp_path, monkeypatch):
    hand = hands.load("open")
    options = {"convolutions": [1, 1], "channels": [4, 4], "head": [4, 4, 4]}
    config = HandModelConfig(name="hand_seg_net", options=options, image_size=64, hand=hand.fingerprint_hex)
    model = assembly.plugin("models", "hand_seg_net").build(config, hand)
    model.save_pretrained(tmp_path / "runs" / "mine" / "model")
    monkeypatch.chdir(tmp_path)
    for path in ("mine", "runs/mine", tmp_path / "runs" / "mine" / "model"):
        (result,) = HandPredictor.from_pretrained(path, detector="whole").predict(np.zeros((30, 50, 3), np.uint8))
        assert result.mask.shape == (30, 50) and result.joints is None and result.vertices is None
    with pytest.raises(ConfigError, match="no model in yours"):
        HandPredictor.from_pretrained("yours")
