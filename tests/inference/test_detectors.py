"""Detectors behind one interface: ours, MediaPipe's process, boxes, the whole photo."""

import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import tiny
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.geometry import boxes as box_maps
from mesh_graphormer_hand.inference.detectors.hand_detector import SIDE_SLOPE_RATIO, HandDetector, fit_in
from mesh_graphormer_hand.inference.detectors.options import NAMES, choose
from mesh_graphormer_hand.inference.result import HandResult, is_small

TINY = {"channels": [4, 6, 8, 8, 8], "blocks": [0, 0, 0, 0, 0], "neck": 8}


@pytest.fixture
def weights(tmp_path):
    tiny.build({"name": "hand_detector", **TINY}).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def told(detector: HandDetector, boxes: list, left: list[bool]) -> HandDetector:
    """The detector with a network that says these boxes (px of its own input), whatever it sees at first, and none at
    the second look."""

    def forward(inputs: HandInputs) -> HandPrediction:
        if max(inputs.image.shape[-2:]) < 64:
            return HandPrediction(box_maps=torch.full((1, box_maps.CHANNELS, 1, 1), -9.0))
        shape = tuple(s // 8 for s in inputs.image.shape[-2:])
        t = detector.codec.encode(
            torch.tensor([boxes]), torch.ones(1, len(boxes), dtype=torch.bool), torch.tensor([left]), shape
        )
        maps = torch.zeros(1, box_maps.CHANNELS, *shape)
        maps[:, box_maps.CENTRE] = torch.logit(t.heat.clamp(0.001, 0.95))
        maps[:, box_maps.SHIFT], maps[:, box_maps.EXTENT] = t.shift.movedim(-1, 1), t.extent.movedim(-1, 1)
        maps[:, box_maps.LEFT] = (t.left - 0.5) * 6
        return HandPrediction(box_maps=maps)

    detector.model.forward = forward
    return detector


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (32, 64), (2000, 2000)])
def test_boxes_come_back_in_pixels_of_the_photo(weights, shape):
    detector = told(HandDetector(weights, size=64), [[8.0, 8, 24, 40]], [True])
    (found,) = detector.detect(np.zeros((*shape, 3), np.uint8))
    scale = max(shape) / 64
    wanted = np.minimum(np.array([8, 8, 24, 40]) * scale, [*shape[::-1], *shape[::-1]])
    np.testing.assert_allclose(found.box, wanted, atol=0.6 * scale)
    assert found.side == "left" and 0.9 < found.score <= 1
    assert found.side_score == pytest.approx(1 / (1 + np.exp(-3 * SIDE_SLOPE_RATIO)), abs=1e-4)


def test_the_surest_first_and_one_box_a_hand(weights):
    detector = told(HandDetector(weights, size=64), [[8.0, 8, 24, 24], [36, 36, 60, 60]], [False, True])
    found = detector.detect(np.zeros((64, 64, 3), np.uint8))
    assert len(found) == 2 and found[0].score >= found[1].score
    assert {d.side for d in found} == {"left", "right"}


def test_it_answers_as_the_network_that_was_trained(weights):
    """With its batch norms folded in, at both sizes, and its scores as the weights were calibrated."""
    import json

    from mesh_graphormer_hand import assembly

    about = json.loads((weights / "config.json").read_text())
    about["options"] |= {"slope": 2.0, "shift": 1.0}
    (weights / "config.json").write_text(json.dumps(about))
    model = assembly.load_model(weights).eval()
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.uniform_(-1, 1)
            norm.weight.uniform_(0.5, 2)
    model.save_pretrained(weights)
    detector = HandDetector(weights, threshold=0.0)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.model.modules())
    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    scores = []
    for size in (85, 42):
        image, _ = fit_in(photo, size)
        maps = model(HandInputs(image=image[None])).box_maps
        _, heat, _ = model.box_codec.decode(maps)
        scores += (2 * torch.logit(heat[0]) + 1).sigmoid().tolist()
    assert detector.detect(photo)[0].score == pytest.approx(max(scores), abs=1e-5)


def test_an_untrained_network_finds_nothing(weights):
    assert HandDetector(weights).detect(np.full((50, 40, 3), 99, np.uint8)) == []
    assert HandDetector(weights, threshold=0.0).detect(np.full((50, 40, 3), 99, np.uint8)) != []


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 3), (64, 64), (70, 33)])
def test_any_photo_fits_in(shape):
    image, scale = fit_in(np.full((*shape, 3), 200, np.uint8), 64)
    assert all(side % 32 == 0 and side >= 32 for side in image.shape[1:]) and max(image.shape[1:]) == 64
    assert scale.isfinite().all() and image[:, 0, 0].tolist() == pytest.approx([200 / 255] * 3)


def test_names():
    assert choose("whole").detect(np.zeros((30, 40, 3), np.uint8))[0].box.tolist() == [0, 0, 40, 30]
    given = choose("boxes", boxes=[[1, 2, 3, 4]], sides=["left"]).detect(np.zeros((9, 9, 3), np.uint8))
    assert given[0].box.tolist() == [1, 2, 3, 4] and given[0].side == "left"
    assert set(NAMES) == {"auto", "ours", "mediapipe", "boxes", "whole"}
    with pytest.raises(ConfigError, match="'mediapip', did you mean 'mediapipe'"):
        choose("mediapip")


def environment(tmp_path, package: str) -> str:
    """A python whose only mediapipe is `package`, a stand-in."""
    (tmp_path / "mediapipe.py").write_text(package)
    path = tmp_path / "python"
    # -I leaves PYTHONPATH out, so the stand-in is put in by hand
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = sys.argv[1:]; import runpy; "
    start += "runpy.run_path(sys.argv[0], run_name='__main__')"
    path.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{start}" "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


STAND_IN = """
from types import SimpleNamespace as N
print("chatter on standard output")
class Hands:
    def __init__(self, **options): pass
    def process(self, photo):
        if photo.max() == 0: return N(multi_hand_landmarks=None, multi_handedness=None)
        points = N(landmark=[N(x=0.25 + 0.5 * (i % 2), y=0.5 + 0.01 * i) for i in range(21)])
        return N(multi_hand_landmarks=[points], multi_handedness=[N(classification=[N(label="Left", score=0.9)])])
solutions = N(hands=N(Hands=Hands))
"""


def test_mediapipe_in_an_environment_of_its_own(tmp_path):
    """Selfie sides are turned round, shares become pixels, chatter does not come between the answers."""
    detector = choose("mediapipe", python=environment(tmp_path, STAND_IN))
    for _ in range(2):
        (found,) = detector.detect(np.full((100, 200, 3), 50, np.uint8))
        assert found.side == "right" and found.score == pytest.approx(0.9)
        np.testing.assert_allclose(found.box, [50 - 8, 50 - 8, 150 + 8, 70 + 8], atol=0.01)
    assert detector.detect(np.zeros((10, 20, 3), np.uint8)) == []
    detector.close()


@pytest.mark.parametrize("package", ["raise ImportError('none here')", "import os; os._exit(3)"])
def test_an_environment_without_mediapipe_is_told(tmp_path, package):
    with pytest.raises(ConfigError, match="mediapipe.*(none here|has ended)"):
        choose("mediapipe", python=environment(tmp_path, package))


class Landmarker:
    """MediaPipe 1.x's own names, as its hand_landmarker.py has them: one right hand where the picture is not black."""

    def __init__(self, options):
        self.options = options

    @classmethod
    def create_from_options(cls, options):
        if Path(options.base_options.model_asset_path).read_bytes() != b"a model":
            raise RuntimeError("Unable to open zip archive.")
        return cls(options)

    def detect(self, image):
        assert image.image_format == "SRGB" and self.options.num_hands == 8
        points = [SimpleNamespace(x=0.25 + 0.5 * (i % 2), y=0.5 + 0.01 * i) for i in range(21)]
        side = [SimpleNamespace(category_name="Right", score=0.8)]
        seen = int(image.data.max() > 0)
        return SimpleNamespace(hand_landmarks=[points] * seen, handedness=[side] * seen)


@pytest.fixture
def present_mediapipe(monkeypatch):
    """A stand-in for mediapipe 1.x in this process."""
    vision = SimpleNamespace(HandLandmarker=Landmarker, HandLandmarkerOptions=SimpleNamespace)
    python = SimpleNamespace(BaseOptions=SimpleNamespace, vision=vision)
    mediapipe = SimpleNamespace(Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB="SRGB"), __version__="1.2.2")
    names = {"": mediapipe, ".tasks": SimpleNamespace(python=python), ".tasks.python": python}
    for name, module in {**names, ".tasks.python.vision": vision}.items():
        monkeypatch.setitem(sys.modules, f"mediapipe{name}", module)
    return mediapipe


@pytest.mark.parametrize(
    ("version", "side"), [("1.2.2", "right"), ("0.10.21", "right"), ("0.10.5rc1", "right"), ("0.10.3", "left")]
)
def test_mediapipe_in_this_environment(present_mediapipe, tmp_path, version, side):
    """Its Tasks name the side of a picture that is not mirrored, from 0.10.5 on."""
    present_mediapipe.__version__ = version
    (tmp_path / "hand_landmarker.task").write_bytes(b"a model")
    detector = choose("mediapipe", model=tmp_path / "hand_landmarker.task")
    (found,) = detector.detect(np.full((100, 200, 3), 50, np.uint8))
    assert found.side == side and found.score == found.side_score == pytest.approx(0.8)
    np.testing.assert_allclose(found.box, [50 - 8, 50 - 8, 150 + 8, 70 + 8], atol=0.01)
    assert detector.detect(np.zeros((10, 20, 3), np.uint8)) == []


def test_a_hand_that_mediapipe_finds_twice_is_one(present_mediapipe, monkeypatch, tmp_path):
    """Two answers in nearly one place, of either side, are one hand: the surer one. Hands beside each other are two."""
    (tmp_path / "hand_landmarker.task").write_bytes(b"a model")
    detector = choose("mediapipe", model=tmp_path / "hand_landmarker.task")
    spots = [(0.1, 0.6, "left"), (0.11, 0.9, "right"), (0.5, 0.7, "left")]
    hands = [
        {"points": [[x + 0.01 * i, 0.3 + 0.02 * i] for i in range(21)], "side": side, "score": score}
        for x, score, side in spots
    ]
    monkeypatch.setattr(detector, "_finder", lambda photo: hands)
    found = detector.detect(np.zeros((200, 200, 3), np.uint8))
    assert [(d.side, round(d.score, 1)) for d in found] == [("right", 0.9), ("left", 0.7)]


def test_a_model_file_that_mediapipe_refuses_is_told(present_mediapipe, tmp_path):
    (tmp_path / "bad.task").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"--detector-model .*bad.task: Unable to open zip archive.*hand_landmarker"):
        choose("mediapipe", model=tmp_path / "bad.task")


def test_mediapipe_that_is_not_installed_is_told(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    (tmp_path / "hand_landmarker.task").write_bytes(b"a model")
    with pytest.raises(ConfigError, match=r"pip install .*\[mediapipe\].* --detector-python"):
        choose("mediapipe", model=tmp_path / "hand_landmarker.task")


def test_the_whole_photo_shows_a_hand_only_if_it_is_large():
    """A person is no hand, however sure the model is of one in the middle."""
    from mesh_graphormer_hand.inference.detectors.auto import LEAST_EXTENT_RATIO, Auto

    detector = Auto.__new__(Auto)
    detector.whole = choose("whole")
    (found,) = detector.fallback(np.zeros((300, 200, 3), np.uint8))
    assert found.least_extent == pytest.approx(200 * LEAST_EXTENT_RATIO) and found.least_presence > 0.5
    joints_2d = np.float32([[90, 100], [100, 160]] * 11)[:21]
    result = HandResult("right", np.float32([0, 0, 200, 300]), np.eye(3, dtype=np.float32), "any", joints_2d=joints_2d)
    assert is_small(result, found.least_extent) and not is_small(result, 59.0)
