"""Videos: reading and writing, the filter, boxes that follow hands, one shape, the demo's video from end to end."""

import json

import cv2
import numpy as np
import pytest

from mesh_graphormer_hand.cli import demo
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.detectors.base import Detection
from mesh_graphormer_hand.predictor import HandPredictor
from mesh_graphormer_hand.video.files import Film, Footage
from mesh_graphormer_hand.video.one_euro import OneEuro
from mesh_graphormer_hand.video.tracker import HandTracker
from two_dots import TwoDots, photo

SIZE = (240, 320)


def dots(frame: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the hand is in a frame: it moves to the right."""
    return (80.0 + 3 * frame, 100.0), (140.0 + 3 * frame, 140.0)


def frames(count: int) -> list[np.ndarray]:
    return [photo(*dots(i), *SIZE, 7) for i in range(count)]


class Finder:
    """Finds the moving hand, and counts how often it is asked."""

    name = "finder"

    def __init__(self, side="left", score=0.9, sure=0.9):
        self.asked, self.answer = 0, (score, side, sure)

    def detect(self, frame):
        self.asked += 1
        rows, columns = np.nonzero(frame.max(-1) > 60)
        if not len(rows):
            return []
        box = np.float32([columns.min() - 15, rows.min() - 15, columns.max() + 15, rows.max() + 15])
        return [Detection(box, *self.answer)]


def tracker(finder=None, **options) -> HandTracker:
    predictor = HandPredictor(TwoDots(64), detector=finder or Finder())
    return HandTracker(predictor, **{"one_shape": False, **options})


def test_the_detector_runs_rarely_and_the_box_follows():
    finder = Finder()
    follow = tracker(finder, every=8, smooth=False)
    for i, frame in enumerate(frames(20)):
        (hand,) = follow(frame, i / 30)
        np.testing.assert_allclose(hand.joints_2d[0], dots(i)[0], atol=1.5)
        assert hand.track == 0 and hand.side == "left" and hand.confidence == 0.75 and hand.detector == "finder"
    assert finder.asked == follow.detections == 3


def test_a_hand_that_leaves_ends_and_a_new_one_begins():
    follow = tracker(every=6)
    empty = np.zeros((*SIZE, 3), np.uint8)
    shown = [*frames(4), *[empty] * 16, *frames(4)]
    tracks = [[h.track for h in follow(frame, i / 30)] for i, frame in enumerate(shown)]
    assert tracks[0] == [0] and tracks[-1] == [1] and [] in tracks


def test_the_side_is_what_detections_say_together():
    """One wrong frame must not mirror the hand."""

    class Unsure(Finder):
        def detect(self, frame):
            self.answer = (0.9, "right", 0.6) if self.asked == 1 else (0.9, "left", 0.9)
            return super().detect(frame)

    follow = tracker(Unsure(), every=1)
    sides = [follow(frame, i / 30)[0].side for i, frame in enumerate(frames(4))]
    assert sides == ["left"] * 4
    told = tracker(Finder("left"), sides=["right"])
    assert told(frames(1)[0], 0.0)[0].side == "right"


def test_smoothing_takes_jitter_and_keeps_the_hand():
    random = np.random.default_rng(0)

    class Jitters(TwoDots):
        def forward(self, inputs):
            prediction = super().forward(inputs)
            noise = prediction.vertices.new_tensor(random.normal(0, 0.003, (1, 1, 3)))
            places = prediction.joints_2d + prediction.joints_2d.new_tensor(random.normal(0, 0.7, (1, 21, 2)))
            values = {"vertices": prediction.vertices + noise, "joints": prediction.joints + noise}
            return type(prediction)(**{**vars(prediction), **values, "joints_2d": places})

    still = [frames(1)[0]] * 40
    found = {}
    for smooth in (False, True):
        predictor = HandPredictor(Jitters(64), detector=Finder())
        follow = HandTracker(predictor, smooth=smooth, one_shape=False)
        hands = [follow(frame, i / 30)[0] for i, frame in enumerate(still)]
        found[smooth] = [np.stack([getattr(h, name) for h in hands]) for name in ("joints", "joints_2d")]
    for raw, calm in zip(found[False], found[True], strict=True):
        assert np.abs(np.diff(calm, 2, axis=0)).mean() < 0.5 * np.abs(np.diff(raw, 2, axis=0)).mean()
    np.testing.assert_allclose(found[True][0].mean(0), found[False][0].mean(0), atol=2e-3)


def test_one_shape_over_a_video():
    """A hand whose bones change from frame to frame is given one set of bones."""
    from mesh_graphormer_hand.mano import hand as hands
    from mesh_graphormer_hand.mano.layer import ManoLayer

    layer = ManoLayer(use_pca=False, flat_hand_mean=True, hand=hands.load("open"))
    shapes = np.random.default_rng(1).normal(0, 1, (16, 10)).astype(np.float32)
    calls = iter(shapes)

    class Grows(TwoDots):
        def forward(self, inputs):
            import torch

            prediction = super().forward(inputs)
            vertices, joints = layer(torch.zeros(1, 48), torch.from_numpy(next(calls))[None])
            values = {"vertices": vertices - joints[:, :1], "joints": joints - joints[:, :1]}
            return type(prediction)(**{**vars(prediction), **values})

    follow = HandTracker(HandPredictor(Grows(64), detector=Finder("right")), smooth=False, one_shape=True)
    still = [frames(1)[0]] * 16
    lengths = [float(np.linalg.norm(follow(f, i / 30)[0].joints[9])) for i, f in enumerate(still)]
    assert np.std(lengths[11:]) < 2e-4 < 1e-3 < np.std(np.linalg.norm(shapes, axis=1))


def test_one_euro_follows_and_calms():
    steady = OneEuro(least=1.0, slope=0.0)
    random = np.random.default_rng(0).normal(size=(200, 3))
    out = np.stack([steady(v, 1 / 30) for v in random])
    assert out[50:].std() < 0.45 * random.std()
    quick, slow = OneEuro(1.0, 50.0), OneEuro(1.0, 0.0)
    ramp = np.linspace(0, 10, 60)[:, None]
    late = [[abs(f(v, 1 / 30) - v).item() for v in ramp][-1] for f in (quick, slow)]
    assert late[0] < 0.1 * late[1]
    first = OneEuro(1.0, 1.0)
    np.testing.assert_allclose(first(ramp[3], 0.0), ramp[3], rtol=1e-6)


def test_films_come_back_frame_by_frame(tmp_path):
    film = Film(tmp_path / "a.mp4", 25.0)
    for frame in frames(5):
        film.add(frame[:239, :319])  # odd sides
    film.close()
    with Footage(tmp_path / "a.mp4") as footage:
        read = list(footage)
        assert footage.fps == 25 and footage.count == 5
    assert len(read) == 5 and read[0][0].shape == (238, 318, 3) and read[4][1] == pytest.approx(4 / 25)
    assert np.abs(read[2][0].astype(int) - frames(3)[2][:238, :318]).mean() < 6  # colours in their order
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    dropped = Film(tmp_path / "b.mp4", 25.0)
    dropped.add(frames(1)[0])
    dropped.close(keep=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_a_camera_that_is_not_there():
    with pytest.raises(DataError, match="camera 97 is not there"):
        Footage(97)


def test_demo_of_a_video(monkeypatch, tmp_path, capsys):
    film = Film(tmp_path / "wave.mp4", 30.0)
    for frame in frames(12):
        film.add(frame)
    film.close()
    monkeypatch.setattr(
        HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(64), detector=Finder("left"))
    )
    run = [str(tmp_path / "wave.mp4"), "--out", str(tmp_path / "out"), "--free-shape", "--every", "5"]
    assert demo.main([*run, "--save", "json,npz", "--limit", "11"]) == 0
    captured = capsys.readouterr()
    assert "11 frames, hands in 11" in captured.err and "(finder) ran 3 times" in captured.err
    record = json.loads((tmp_path / "out" / "wave_hand.json").read_text())
    assert record["fps"] == 30 and record["detections"] == 3 and len(record["frames"]) == 11
    (hand,) = record["frames"][10]["hands"]
    assert hand["handedness"] == "left" and hand["track"] == 0
    np.testing.assert_allclose(hand["joints_px"][0], dots(10)[0], atol=3)
    assert len(list((tmp_path / "out" / "wave_frames").iterdir())) == 22
    with Footage(tmp_path / "out" / "wave_hand.mp4") as footage:
        drawn = [frame for frame, _ in footage]
    assert len(drawn) == 11 and np.abs(drawn[5].astype(int) - frames(6)[5]).max() > 100, "no mesh on the frame"
    assert cv2.imread(str(tmp_path / "out" / "wave_hand.mp4")) is None
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
