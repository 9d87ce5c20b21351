"""Videos: reading and writing, the filter, boxes that follow hands, one shape, the demo's video from end to end."""

import itertools
import json

import cv2
import numpy as np
import pytest
import torch

from helpers.two_dots import TwoDots, left_mesh, photo
from mesh_graphormer_hand.cli import demo
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.inference.detectors.base import Detection
from mesh_graphormer_hand.inference.media.annotate_video import draw_hands
from mesh_graphormer_hand.inference.media.video_io import VideoReader, VideoWriter
from mesh_graphormer_hand.inference.one_euro import OneEuro
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.inference.result import HandResult
from mesh_graphormer_hand.inference.tracker import HandTracker
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.fit import posed_mesh

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
    from mesh_graphormer_hand.mano.layer import ManoLayer

    layer = ManoLayer(use_pca=False, flat_hand_mean=True, hand=hands.load("open"))
    shapes = np.random.default_rng(1).normal(0, 1, (16, 10)).astype(np.float32)
    calls = itertools.cycle(shapes)

    class Grows(TwoDots):
        def forward(self, inputs):
            prediction = super().forward(inputs)
            vertices, joints = layer(torch.zeros(1, 48), torch.from_numpy(next(calls))[None])
            values = {"vertices": vertices - joints[:, :1], "joints": joints - joints[:, :1]}
            return type(prediction)(**{**vars(prediction), **values})

    follow = HandTracker(HandPredictor(Grows(64), detector=Finder("right")), smooth=False, one_shape=True)
    still = [frames(1)[0]] * 16
    lengths = [float(np.linalg.norm(follow(f, i / 30)[0].joints[9])) for i, f in enumerate(still)]
    assert np.std(lengths[11:]) < 2e-4 < 1e-3 < np.std(np.linalg.norm(shapes, axis=1))


def test_one_euro_follows_and_calms():
    steady = OneEuro(min_cutoff=1.0, slope=0.0)
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
    film = VideoWriter(tmp_path / "a.mp4", 25.0)
    for frame in frames(5):
        film.add(frame[:239, :319])  # odd sides
    film.close()
    with VideoReader(tmp_path / "a.mp4") as footage:
        read = list(footage)
        assert footage.fps == 25 and footage.count == 5
    assert len(read) == 5 and read[0][0].shape == (238, 318, 3) and read[4][1] == pytest.approx(4 / 25)
    assert np.abs(read[2][0].astype(int) - frames(3)[2][:238, :318]).mean() < 6  # colours in their order
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    dropped = VideoWriter(tmp_path / "b.mp4", 25.0)
    dropped.add(frames(1)[0])
    dropped.close(keep=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


class Capture:
    """A stand-in for cv2.VideoCapture: black frames with the given times (ms), at a nominal 25 frames a second."""

    def __init__(self, times):
        self.times, self.now = iter(times), 0.0

    def read(self):
        self.now = next(self.times, None)
        there = self.now is not None
        return there, np.zeros((8, 8, 3), np.uint8) if there else None

    def get(self, what):
        return {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_POS_MSEC: self.now}.get(what, 0.0)

    def isOpened(self):
        return True


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        ([20, 60, 160, 170], [0, 0.04, 0.14, 0.15]),  # frames that come when they like
        ([0, 0, 0, 0], [0, 0.04, 0.08, 0.12]),  # a file that does not say
        ([0, 40, 40, 150], [0, 0.04, 0.08, 0.15]),
        ([0, 40, float("nan"), 20], [0, 0.04, 0.08, 0.12]),
    ],
)
def test_frames_of_a_file_come_at_their_own_times(monkeypatch, tmp_path, stamps, seconds):
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: Capture(stamps))
    assert [time for _, time in VideoReader(tmp_path / "a.mp4")] == pytest.approx(seconds)


def test_frames_of_a_camera_come_by_the_clock(monkeypatch):
    """Dropped frames are time that has passed, whatever rate the camera claims."""
    clock = iter([100.0, 100.04, 100.29, 100.33])
    monkeypatch.setattr("mesh_graphormer_hand.inference.media.video_io.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Capture([0.0] * 4))
    assert [seconds for _, seconds in VideoReader(0)] == pytest.approx([0, 0.04, 0.29, 0.33])


def test_a_camera_that_is_not_there():
    with pytest.raises(DataError, match="camera 97 is not there"):
        VideoReader(97)


@pytest.mark.usefixtures("filmed")
def test_a_camera_that_is_stopped_before_its_first_frame(monkeypatch, tmp_path):
    class Stopped(Capture):
        def read(self):
            raise KeyboardInterrupt

        def release(self):
            pass

    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Stopped([]))
    assert demo.main(["0", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "camera0_hand.json").read_text())
    assert record["frames"] == [] and record["image_size"] is None and record["camera"] is None


@pytest.fixture
def filmed(monkeypatch, tmp_path):
    """Writes a video of the moving hand, and the demo with a model that sees it."""
    monkeypatch.setattr(
        HandPredictor,
        "from_pretrained",
        lambda *a, mesh, **k: HandPredictor(TwoDots(64), detector=Finder("left"), mesh=mesh),
    )

    def write(name: str, count: int):
        film = VideoWriter(tmp_path / name, 30.0)
        for frame in frames(count):
            film.add(frame)
        film.close()
        return tmp_path / name

    return write


@pytest.mark.usefixtures("filmed")
def test_a_network_camera(monkeypatch, tmp_path, capsys):
    """Read like a camera of this machine; nobody reads its password in messages and files."""
    opened = []

    class Camera(Capture):
        def read(self):
            if not self.times:
                raise KeyboardInterrupt
            return True, self.times.pop()

        def release(self):
            pass

    def capture(*arguments):
        if len(arguments) == 1:  # a file
            return files(*arguments)
        opened.append(arguments)
        camera = Camera([])
        camera.times = list(frames(3))
        return camera

    files = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", capture)
    address = "rtsp://user:se@cret@10.0.0.9:554/live?token=secret"
    assert demo.main([address, "--out", str(tmp_path)]) == 0
    assert {a[:2] for a in opened} == {(address, cv2.CAP_FFMPEG)}
    text, told = (tmp_path / "camera_hand.json").read_text(), capsys.readouterr()
    assert json.loads(text)["video"] == "rtsp://10.0.0.9:554/live" and len(json.loads(text)["frames"]) == 3
    assert "rtsp://10.0.0.9:554/live: 3 frames" in told.err and "cret" not in told.err + told.out + text


def test_a_network_camera_that_is_off(tmp_path, capfd):
    assert demo.main(["rtsp://user:secret@127.0.0.1:9/live", "--out", str(tmp_path)]) == 2
    assert "camera rtsp://127.0.0.1:9/live gives no video" in (said := capfd.readouterr().err) and "secret" not in said


def test_a_mask_is_drawn_on_the_frame():
    """Of models that give nothing else, such as hand_seg_net."""
    frame, mask = frames(1)[0], np.zeros(SIZE, bool)
    mask[100:140, 50:90] = True
    hand = HandResult("right", np.float32([0, 0, 9, 9]), np.eye(3, dtype=np.float32), "toy", mask=mask)
    drawn = draw_hands(frame, [hand])
    assert ((drawn != frame).any(-1) == mask).mean() > 0.99


def test_demo_of_a_video(filmed, tmp_path, capsys):
    run = [str(filmed("wave.mp4", 12)), "--out", str(tmp_path / "out"), "--free-shape", "--every", "5"]
    assert demo.main([*run, "--save", "json,npz", "--limit", "11"]) == 0
    captured = capsys.readouterr()
    assert "hands in 11; track 0: left in 11 frames (75% sure, side " in captured.out
    assert captured.out.splitlines()[0].endswith("; detector: finder; weights: two_dots")
    assert "11 frames, hands in 11" in captured.err and "(finder) ran 3 times" in captured.err
    record = json.loads((tmp_path / "out" / "wave_hand.json").read_text())
    assert record["fps"] == 30 and record["detections"] == 3 and len(record["frames"]) == 11
    (hand,) = record["frames"][10]["hands"]
    assert hand["handedness"] == "left" and hand["track"] == 0
    np.testing.assert_allclose(hand["joints_px"][0], dots(10)[0], atol=3)
    assert record["complete"] and record["image_size"] == [320, 240] and record["camera"]["K_from"] == "assumed"
    left, top, right, bottom = hand["box"]
    assert left < dots(10)[0][0] < dots(10)[1][0] < right and top < dots(10)[0][1] < dots(10)[1][1] < bottom
    assert len(list((tmp_path / "out" / "wave_frames").iterdir())) == 22
    with VideoReader(tmp_path / "out" / "wave_hand.mp4") as footage:
        drawn = [frame for frame, _ in footage]
    assert len(drawn) == 11 and np.abs(drawn[5].astype(int) - frames(6)[5]).max() > 100, "no mesh on the frame"
    assert cv2.imread(str(tmp_path / "out" / "wave_hand.mp4")) is None
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_a_video_can_be_animated_from_its_one_file(filmed, tmp_path):
    """Pose and shape stand in the JSON, and they are those of the mesh, of a left hand mirrored."""
    out = tmp_path / "out"
    run = [str(filmed("wave.mp4", 3)), "--out", str(out), "--save", "npz", "--no-smoothing", "--K", "300,310,160,120"]
    assert demo.main(run) == 0
    record = json.loads((out / "wave_hand.json").read_text())
    assert record["camera"] == {"K": [[300, 0, 160], [0, 310, 120], [0, 0, 1]], "K_from": "given"}
    hand = record["frames"][2]["hands"][0]
    wrist = np.array(record["camera"]["K"]) @ hand["wrist_m"]  # as perspective has it, not weak perspective
    np.testing.assert_allclose(wrist[:2] / wrist[2], hand["joints_px"][0], atol=4)
    pose, shape = (torch.tensor(hand[name])[None] for name in ("mano_pose", "mano_shape"))
    vertices = posed_mesh(hands.load("open"), pose, shape)[0][0].numpy() * [-1, 1, 1]
    (mesh,) = np.load(out / "wave_frames" / "000002_hand.npz")["vertices"]
    np.testing.assert_allclose(vertices, mesh, atol=2e-4)  # m; angles are written to 0.1 mrad
    assert record["mano"]["fingerprint"] == hands.load("open").fingerprint_hex and hand["mano_mirrored"] is True
    np.testing.assert_allclose(left_mesh(hand["mano_pose_left"], hand["mano_shape"]), mesh, atol=2e-4)


def test_regressed_meshes_of_a_video_stay_as_they_are(filmed, tmp_path):
    video, meshes = str(filmed("wave.mp4", 2)), {}
    for mesh in ("regressed", "mano"):
        run = [video, "--out", str(tmp_path / mesh), "--mesh", mesh, "--no-smoothing", "--save", "npz"]
        assert demo.main(run) == 0
        record = json.loads((tmp_path / mesh / "wave_hand.json").read_text())
        assert (record["frames"][1]["hands"][0]["mano_pose"] is None) == (mesh == "regressed")
        meshes[mesh] = np.load(tmp_path / mesh / "wave_frames" / "000001_hand.npz")["vertices"][0]
    assert np.abs(meshes["mano"] - meshes["regressed"]).mean() > 1e-4  # m


def test_videos_go_on_where_they_stopped(filmed, tmp_path, capfd):
    """What is filmed is not filmed again, what broke off or has other settings is; each tells its own mistake."""
    for name in ("a.mp4", "b.mp4"):
        filmed(name, 3)
    (tmp_path / "0.mp4").write_bytes(b"no video")
    run = [str(tmp_path / "*.mp4"), "--out", str(tmp_path / "out"), "--mesh", "regressed"]

    def films(*more: str) -> list[str]:
        assert demo.main([*run, *more]) == (2 if (tmp_path / "0.mp4").exists() else 0)
        return [line.split("/")[-1] for line in capfd.readouterr().out.splitlines() if line.endswith(".mp4")]

    assert films() == ["a_hand.mp4", "b_hand.mp4"] and films() == []
    (tmp_path / "0.mp4").unlink()
    told = tmp_path / "out" / "b_hand.json"
    told.write_text(json.dumps({**json.loads(told.read_text()), "complete": False}))
    assert films() == ["b_hand.mp4"]
    assert films("--every", "2") == ["a_hand.mp4", "b_hand.mp4"] and films("--every", "2") == []
    assert films("--every", "2", "--overwrite") == ["a_hand.mp4", "b_hand.mp4"]
