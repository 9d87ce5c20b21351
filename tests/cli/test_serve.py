"""The page: what it does with a photo, what it refuses, that only this machine reaches it; and a visit by a browser.

The browser's visit needs the extra "page" and Chromium, and is skipped where either is missing.
"""

import json
import os
import struct
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image

from helpers import browser, two_dots
from helpers.two_dots import TwoDots
from mesh_graphormer_hand.cli import demo, serve
from mesh_graphormer_hand.cli.console import is_user_error
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.images import read_image
from mesh_graphormer_hand.inference.detectors import media_pipe
from mesh_graphormer_hand.inference.detectors.options import choose
from mesh_graphormer_hand.inference.media import page as web_page
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.inference.result import HandResult
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template

MESH_BOX = "document.querySelector('#mesh canvas').getBoundingClientRect()"
K = np.float32([[200, 0, 100], [0, 200, 75], [0, 0, 1]])


class FlatHands:
    """A predictor that sees the rest pose, as many times as it is told, at once."""

    def __init__(self, count: int = 1):
        self.count, self.sides, self.seen, self.weights = count, None, None, "toy"
        self.model = SimpleNamespace(config=SimpleNamespace(name="toy"))
        self.detector = SimpleNamespace(name="toy")
        self.hand = load("open")

    def predict(self, photo, sides=None):
        self.sides, self.seen = sides, read_image(photo)
        template = hand_template(self.hand)
        joints = template.joints.numpy()
        turn = np.float32([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # palm to the camera
        vertices, joints = template.vertices.numpy() @ turn.T, joints @ turn.T
        place = np.float32([0.05, 0, 0.5])
        uvw = (joints + place) @ K.T
        side = (sides or ["right"])[0]
        common = {"joints": joints, "vertices": vertices, "faces": self.hand.faces, "translation": place}
        common |= {"joints_2d": uvw[:, :2] / uvw[:, 2:], "confidence": 0.9}
        return [HandResult(side, np.float32([0, 0, 100, 100]), K, "toy", **common) for _ in range(self.count)]


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.full((150, 200, 3), 90, np.uint8))
    return path


def test_a_photo_gives_a_picture_a_mesh_and_files(photo, tmp_path):
    predictor = FlatHands(2)
    picture, scene, files, text = web_page.Page(predictor, tmp_path / "kept").predict(photo, "left")
    assert predictor.sides == ["left"] and picture.ndim == 3 and (picture != 90).any()
    loaded = trimesh.load(scene)
    assert len(loaded.geometry) == 2
    size = loaded.extents
    assert 0.1 < size.max() < 0.4 and np.abs(loaded.bounds.mean(0)).max() < 0.1, "metres, about the origin"
    suffixes = {f.suffix for f in files}
    assert {".json", ".obj", ".glb", ".png"} == suffixes and all(f.stat().st_size for f in files)
    (numbers,) = [f for f in files if f.suffix == ".json"]
    assert len(json.loads(numbers.read_text())["hands"]) == 2
    assert "surely a left hand (90% sure" in text and "weights: toy" in text
    assert str(tmp_path) not in numbers.read_text()


def test_no_hand_is_said(photo, tmp_path):
    predictor = FlatHands(0)
    _, scene, _, text = web_page.Page(predictor, tmp_path / "kept").predict(photo)
    assert scene is None and "No hand" in text and "--detector mediapipe, boxes or whole" in text
    assert predictor.sides is None


def test_the_lens_that_exif_tells_reaches_the_predictor(tmp_path):
    """The page once gave the pixels on: a tele photo's hand stood at half its distance."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 77
    Image.fromarray(two_dots.photo((80, 60), (120, 70), 150, 200, 6.0)).save(tmp_path / "tele.jpg", exif=exif)
    predictor = HandPredictor(two_dots.TwoDots())
    _, _, files, _ = web_page.Page(predictor, tmp_path / "kept").predict(tmp_path / "tele.jpg")
    (numbers,) = [f for f in files if f.suffix == ".json"]
    camera = json.loads(numbers.read_text())["hands"][0]["camera"]
    assert camera["K_from"] == "exif"
    assert camera["K"][0][0] == pytest.approx(77 / 43.27 * 250, rel=1e-3)
    assert camera["wrist_m"] == predictor.predict(tmp_path / "tele.jpg")[0].translation.tolist()


def huge_png(path: Path) -> Path:
    """A file of a few bytes that claims 20,000 x 20,000 pixels."""
    header = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    pixels = struct.pack(">I", 10**6) + b"IDAT"  # its data does not follow
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + pixels)
    return path


def test_uploads_are_bounded_and_checked(tmp_path, monkeypatch):
    page = web_page.Page(FlatHands(), tmp_path / "kept")
    with pytest.raises(ConfigError, match="20000 x 20000"):
        page.predict(huge_png(tmp_path / "huge.png"))
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(ConfigError) as error:
        page.predict(tmp_path / "text.jpg")
    assert str(tmp_path) not in str(error.value), "a visitor need not know where files lie"
    monkeypatch.setattr(web_page, "MAX_BYTES", 10)
    (tmp_path / "long.jpg").write_bytes(bytes(11))
    with pytest.raises(ConfigError, match="MiB"):
        page.predict(tmp_path / "long.jpg")
    assert not (tmp_path / "kept").exists()


def test_mistakes_are_told(capsys, monkeypatch):
    assert demo.main(["--serve", "--port", "70000"]) == 2
    assert "65535" in capsys.readouterr().err
    assert demo.main(["--serve", "--threshold", "2"]) == 2
    assert "should be from 0 to 1" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert serve.main(["--serve"]) == 2
    assert '[page]"' in (said := capsys.readouterr().err) and "pip install -e" in said


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "auto"),
        (["--detector", "ours"], "ours"),
        (["--threshold", "0.2"], "ours"),
        (["--detector-python", "MP"], "mp"),
    ],
)
def test_every_detector_that_help_offers_can_be_had(monkeypatch, tmp_path, arguments, name):
    """What a detector needs reaches it: MediaPipe without its model or its environment is none."""
    made = {}

    def with_detector(weights, device, detector, *_, **__):
        return HandPredictor(TwoDots(), detector=choose(detector) if isinstance(detector, str) else detector)

    monkeypatch.setattr(HandPredictor, "from_pretrained", with_detector)
    monkeypatch.setattr(media_pipe.MediaPipe, "__init__", lambda self, model, python: made.update(m=model, p=python))
    predictor = serve.load(serve.parser().parse_args(["--serve", *arguments]))
    assert predictor.detector.name == {"mp": "mediapipe"}.get(name, name)
    assert made == ({"m": None, "p": "MP"} if name == "mp" else {})
    if "--threshold" in arguments:
        assert predictor.detector.threshold == 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "mediapipe"], "--detector-model hand_landmarker.task"),
        (["--detector", "mediapipe", "--detector-model", "no.task"], "no.task: no such file"),
        (["--detector", "ours", "--detector-model", "graphormer_lite"], "is no hand detector"),
    ],
)
def test_what_a_detector_lacks_is_told(arguments, message):
    with pytest.raises(ConfigError, match=message):
        serve.load(serve.parser().parse_args(arguments))


@pytest.fixture(scope="module")
def page_at(tmp_path_factory):
    """The address of a page that is being served."""
    folder = tmp_path_factory.mktemp("page")
    os.environ.update(GRADIO_TEMP_DIR=str(folder), GRADIO_ANALYTICS_ENABLED="False")
    pytest.importorskip("gradio", reason='needs the extra "page"')
    blocks = web_page.build(web_page.Page(FlatHands(), folder), is_user_error)
    yield web_page.start(blocks, 0)
    blocks.close(verbose=False)


@pytest.mark.slow
def test_only_this_machine_is_served(page_at):
    assert page_at.startswith(f"http://{web_page.HOST}:")
    port = int(page_at.rstrip("/").rpartition(":")[2])
    listening = Path("/proc/net/tcp")
    if listening.is_file():
        rows = [line.split() for line in listening.read_text().splitlines()[1:]]
        bound = {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}
        assert bound == {"0100007F"}, "127.0.0.1, byte by byte"
    too_much = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + bytes(
        web_page.MAX_BYTES + 1
    )
    request = urllib.request.Request(f"{page_at}gradio_api/upload", too_much + b"\r\n--x--\r\n")
    request.add_header("Content-Type", "multipart/form-data; boundary=x")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 413
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{page_at}gradio_api/file=/etc/hostname", timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")
def test_a_visit(page_at, photo, tmp_path):
    """Upload, look, turn: the mesh is drawn and turns, the files are offered, nobody else is asked for anything."""
    tab = browser.Browser(tmp_path / "profile")
    try:
        tab("Page.navigate", url=page_at)
        tab.wait("document.querySelector('#photo input[type=file]') !== null")
        tab.upload("#photo input[type=file]", photo)
        tab.wait("document.querySelector('#said').innerText.startsWith('Found')")
        assert "hand.obj" in tab.wait("document.querySelector('#files').innerText").replace("\n", "")
        where = "(r => [r.x + r.width / 2, r.y + r.height / 2])(" + MESH_BOX + ")"
        tab.wait("document.querySelector('#mesh canvas') !== null")
        before = changed(tab, tmp_path / "before.png", None)
        x, y = tab.run(where)
        tab.drag((x, y), (x + 150, y + 10))
        changed(tab, tmp_path / "after.png", before)
        foreign = [u for u in tab.requests if not u.startswith((page_at, "data:", "blob:"))]
        assert not foreign, "the page asked somebody else"
    finally:
        tab.close()


@pytest.mark.slow
@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs Chromium")
def test_a_picture_of_the_camera_is_not_mirrored(tmp_path):
    """A mirrored picture shows a right hand as a left one. The camera sees red on the left and blue on the right."""
    os.environ.update(GRADIO_TEMP_DIR=str(tmp_path), GRADIO_ANALYTICS_ENABLED="False")
    pytest.importorskip("gradio", reason='needs the extra "page"')
    predictor = FlatHands()
    blocks = web_page.build(web_page.Page(predictor, tmp_path), is_user_error)
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    tab = browser.Browser(
        tmp_path / "profile",
        flags=[*flags, f"--use-file-for-fake-video-capture={red_and_blue(tmp_path / 'camera.y4m')}"],
    )
    try:
        tab("Page.navigate", url=web_page.start(blocks, 0))
        tab.click("#photo button[aria-label='Capture from camera']")
        tab.click("#photo [title='grant webcam access'] button")
        tab.wait("(v => v && v.videoWidth > 0 && !v.paused)(document.querySelector('#photo video'))")
        tab.click("#photo button[aria-label='capture photo']")
        tab.wait("document.querySelector('#photo img') !== null")
        tab.click("#look")
        tab.wait("document.querySelector('#said').innerText.startsWith('Found')")
    finally:
        tab.close()
        blocks.close(verbose=False)
    image = predictor.seen
    left, right = image[:, :200].mean((0, 1)), image[:, -200:].mean((0, 1))
    assert left[0] > left[2] + 100 and right[2] > right[0] + 100


def red_and_blue(path: Path) -> Path:
    """A film of one frame for the browser's fake camera."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, :320], image[:, 320:] = (0, 0, 255), (255, 0, 0)
    planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).tobytes()
    path.write_bytes(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\nFRAME\n" + planes)
    return path


def changed(tab: browser.Browser, path: Path, before: np.ndarray | None) -> np.ndarray:
    """The mesh's part of the page, once it shows something (else than `before`)."""
    import time

    for _ in range(100):
        tab.screenshot(path)
        box = tab.run("(r => [r.x, r.y, r.right, r.bottom])(" + MESH_BOX + ")")
        x0, y0, x1, y1 = map(int, box)
        image = cv2.imread(str(path))[max(y0, 0) : y1, max(x0, 0) : x1].astype(int)
        if before is None and image.size and image[40:-40].std() > 8:
            return image
        if before is not None and np.abs(image - before).mean() > 1:
            return image
        time.sleep(0.3)
    raise TimeoutError("the mesh does not show" if before is None else "the mesh does not turn")
