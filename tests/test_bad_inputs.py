"""80 things that are no photo and no video: one clear line and exit code 2 each, nothing written, nothing executed.

And the odd ones that are good photos all the same, folders that cannot be written to, disks that are full.
"""

import json
import os
import re
import resource
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.two_dots import TwoDots, photo
from mesh_graphormer_hand.cli import demo
from mesh_graphormer_hand.data.images import DataError, as_photo, read_image, read_raw
from mesh_graphormer_hand.inference.media.sources import find_sources
from mesh_graphormer_hand.inference.media.video_io import VideoReader, VideoWriter
from mesh_graphormer_hand.inference.predictor import HandPredictor

IMAGE = photo((30.0, 30.0), (60.0, 40.0), 80, 100, 8)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def gif_header(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00\x3b"


def tiff_header(width: int, height: int) -> bytes:
    """One page, uncompressed, whose pixels are not there."""
    size = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height, 279: 100}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in size.items())
    return b"II*\x00" + struct.pack("<IH", 8, len(size)) + tags + bytes(300)


def jpeg_2000_of(width: int, height: int) -> bytes:
    """A JPEG 2000 file whose code stream claims a size."""
    data = cv2.imencode(".jp2", IMAGE)[1].tobytes()
    at = data.index(b"\xff\x4f\xff\x51") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame claims a size."""
    data = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, IMAGE)[1].tobytes()


def contents() -> dict[str, bytes]:
    """File name -> content."""
    files = {
        f"empty{s}": b"" for s in (".jpg", ".png", ".webp", ".bmp", ".tiff", ".mp4", ".mov", ".avi", ".mkv", ".webm")
    }
    for suffix in (".jpg", ".png", ".webp", ".bmp"):
        data = encoded(suffix)
        for share in (0.1, 0.5, 0.9):
            files[f"cut{int(share * 100)}{suffix}"] = data[: int(len(data) * share)]
        files[f"header{suffix}"] = data[:12]
    files["cut50.tiff"] = encoded(".tiff")[:200]
    for suffix in (".jpg", ".png", ".webp", ".bmp", ".tiff", ".mp4", ".mov", ".avi", ".mkv", ".webm"):
        files[f"text{suffix}"] = b"this is not an image at all\n" * 20
    for suffix in (".jpg", ".png", ".mp4"):
        files[f"zeros{suffix}"] = bytes(4096)
        files[f"noise{suffix}"] = np.random.default_rng(0).bytes(4096)
    files |= {
        "huge.png": png(100_000, 100_000), "wide.png": png(2**31 - 1, 1), "bomb.png": png(30_000, 30_000),
        "no_size.png": png(0, 0), "no_rows.png": png(64, 64), "huge.jpg": jpeg_of(65_535, 65_535),
        "huge.gif.png": gif_header(65_535, 65_535), "no_size.jpg": jpeg_of(0, 0),
        "huge.bmp": b"BM" + struct.pack("<IHHIIii", 54, 0, 0, 54, 40, 90_000, 90_000) + bytes(28),
        "pickle.jpg": b"\x80\x04\x95cposix\nsystem\n", "html.png": b"<!doctype html><title>404</title>",
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "zip.jpg": b"PK\x03\x04" + bytes(60),
        "pdf.jpg": b"%PDF-1.7\n%%EOF", "elf.png": b"\x7fELF" + bytes(60),
        "huge.tif": tiff_header(60_000, 60_000), "huge.ppm": b"P6 # a film\n30000 30000\n255\n" + bytes(100),
        "huge.jp2": jpeg_2000_of(60_000, 60_000), "no_frames.gif": gif_header(64, 64),
        "text.gif": b"GIF89a and so on", "line\nbreak.jpg": b"no image", "red\x1b[31m.png": b"no image",
    }  # fmt: skip
    return files


FILES = contents()
SPECIAL = ("missing.jpg", "missing.mp4", "a_folder.jpg", "unreadable.jpg", "animated.webp", "animated.png",
           "no_frames.mp4", "pipe.jpg", "pipe.mp4", "loop.jpg", "loop.mp4", "cut_half.mp4",
           "long" * 80 + ".jpg")  # fmt: skip
CASES = [*FILES, *SPECIAL]


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if name in FILES:
        path.write_bytes(FILES[name])
    elif name.startswith("a_folder"):
        (path / "inside").mkdir(parents=True)
    elif name.startswith("unreadable"):
        path.write_bytes(encoded(".jpg"))
        path.chmod(0)
    elif name.startswith("animated"):
        film = cv2.Animation()
        film.frames, film.durations = [IMAGE, IMAGE[::-1].copy(), IMAGE], [90, 90, 90]
        cv2.imwriteanimation(str(path), film)
    elif name.startswith("no_frames"):
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (64, 64))
        writer.release()
    elif name.startswith("pipe"):
        os.mkfifo(path)
    elif name.startswith("loop"):
        path.symlink_to(path)
    elif name.startswith("cut_half"):
        data = video(folder / f"whole{path.suffix}")
        path.write_bytes(data[: len(data) // 2])
    return path


def video(path: Path, frames: int = 30) -> bytes:
    """The content of a video of so many frames, which is written to `path`."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 30, IMAGE.shape[1::-1])
    for _ in range(frames):
        writer.write(IMAGE)
    writer.release()
    return path.read_bytes()


def shown(name: str) -> str:
    """A name as a message has it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(32)))


@pytest.fixture
def small_disk():
    """Files may grow to 2,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_there_are_80_at_least():
    assert len(CASES) + len(ARRAYS) >= 80


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_one_line_and_leaves_nothing(stub, tmp_path, capfd, name):
    path, out = make(tmp_path, name), tmp_path / "out"
    if name.startswith("unreadable") and os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert demo.main([str(path), "--out", str(out), "--save", "json"]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and shown(path.name) in lines[0] and len(lines[0]) > 40
    assert not out.exists()


ARRAYS = {
    "nan": np.full((8, 8, 3), np.nan), "infinite": np.full((8, 8, 3), np.inf, np.float32), "float": np.zeros((8, 8, 3)),
    "bool": np.zeros((8, 8, 3), bool),
    "int64": np.zeros((8, 8, 3), np.int64), "no pixels": np.zeros((0, 8, 3), np.uint8),
    "five channels": np.zeros((8, 8, 5), np.uint8), "batch": np.zeros((2, 8, 8, 3), np.uint8),
    "channels first": np.zeros((3, 8, 8), np.uint8), "a row": np.zeros(8, np.uint8), "objects": np.array([[None]]),
    "complex": np.zeros((8, 8), complex), "text": np.array([["a"]]),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_a_bad_array_says_what_it_is(name):
    with pytest.raises(DataError, match="image"):
        as_photo(ARRAYS[name])


@pytest.mark.parametrize("name", ["huge.png", "bomb.png", "cut50.jpg", "cut50.png", "text.png", "empty.png"])
def test_a_bad_label_image_says_what_it_is(tmp_path, name):
    with pytest.raises(DataError, match=re.escape(name)):
        read_raw(make(tmp_path, name))


ODD = {  # name -> how Pillow writes it
    "four_inks.jpg": ("CMYK", {"quality": 95}), "palette.png": ("P", {"transparency": 3}), "one_bit.png": ("1", {}),
    "grey_and_alpha.png": ("LA", {}), "still.gif": ("RGB", {}), "16_bit.png": ("I;16", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_photos_are_photos(tmp_path, name):
    mode, options = ODD[name]
    image = Image.fromarray(IMAGE)
    if mode == "I;16":
        image = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(tmp_path / name, **options)
    wanted = np.array(image.convert("RGB")) if mode != "I;16" else np.repeat(IMAGE[..., :1], 3, 2)
    assert np.abs(read_image(tmp_path / name).astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_breaks_off_is_told(stub, tmp_path, capfd, suffix):
    """What could be read is there, whole; the message and the exit code say that more was claimed."""
    data, path, out = video(tmp_path / f"whole{suffix}"), tmp_path / f"half{suffix}", tmp_path / "out"
    path.write_bytes(data[: len(data) // 2])
    assert demo.main([str(path), "--out", str(out), "--free-shape", "--every", "30"]) == 2
    assert f"{path}: " in (error := capfd.readouterr().err) and "of about 30 frames can be read" in error
    frames = json.loads((out / "half_hand.json").read_text())["frames"]
    with VideoReader(out / "half_hand.mp4") as film:
        assert 5 < len(list(film)) == len(frames) < 25 and not film.truncation_message
    with VideoReader(tmp_path / f"whole{suffix}") as film:
        assert len(list(film)) == 30 and not film.truncation_message


def test_a_disk_that_is_full(stub, tmp_path, capfd, small_disk):
    with pytest.raises(DataError, match="is the disk full"):
        film = VideoWriter(tmp_path / "film.mp4", 30.0)
        for _ in range(40):
            film.add(np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8))
        film.close()
    cv2.imwrite(str(path := tmp_path / "photo.png"), IMAGE[:20, :20])
    assert demo.main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert "File too large" in capfd.readouterr().err
    assert {p.name for p in tmp_path.rglob("*")} == {"photo.png", "out"}


@pytest.mark.parametrize("out", ["file", "file/folder", "/proc/folder"])
def test_an_out_that_is_no_folder(stub, tmp_path, capfd, out):
    (tmp_path / "file").write_text("")
    cv2.imwrite(str(photo := tmp_path / "photo.png"), IMAGE)
    assert demo.main([str(photo), "--out", str(tmp_path / out)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ") and out.split("/")[-1] in line and "Errno" not in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box=nan,1,20,30"], "x0 < x1"), (["--box=-9,-9,-5,-5"], "outside the photo"), (["--K=1,nan,2,3"], "K sh"),
        (["--K=1e30,1e30,0,0"], "K should be"), (["--focal=1e-30"], "focal should be"), (["--threshold=nan"], "0 to 1"),
        (["--bone-length=1e-30"], "bone_length should be"), (["--device=abacus"], "--device abacus"),
        (["--device=mps"], "this machine has none"), (["--device=meta"], "--device meta"),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense(stub, tmp_path, capfd, arguments, message):
    if arguments == ["--device=mps"] and torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    cv2.imwrite(str(photo := tmp_path / "photo.png"), IMAGE)
    assert demo.main([str(photo), "--out", str(tmp_path / "out"), *arguments]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line and len(line) < 300 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "message"), [("", "has no name"), ("https://a.org/b.jpg", "are not fetched")])
def test_names_that_are_no_files(stub, tmp_path, capfd, name, message):
    assert demo.main([name, "--out", str(tmp_path / "out")]) == 2
    assert message in capfd.readouterr().err


def test_answers_beside_the_photos_are_no_photos(stub, tmp_path, capfd):
    """A folder that is its own --out can be given twice."""
    for name in ("a.png", "b_hand.png"):
        cv2.imwrite(str(tmp_path / name), IMAGE)
    for _ in range(2):
        assert demo.main([str(tmp_path), "--out", str(tmp_path), "--save", "picture,json,mask"]) == 0
    answers = {f"{n}{s}" for n in ("a_hand", "b_hand_hand") for s in (".png", ".json", "_mask.png")}
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "b_hand.png"} | answers


def test_a_name_that_is_no_text(stub, tmp_path, capfd):
    path = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(path)).write_bytes(encoded(".png"))
    assert demo.main([os.fsdecode(path), "--out", str(tmp_path / "out"), "--save", "json"]) == 0
    assert "\\udcff_hand.json" in capfd.readouterr().out


def test_a_reader_that_leaves():
    """As in `hand-demo ... | head -1`: no traceback."""
    code = "from mesh_graphormer_hand.cli import console as c\nc.run(lambda: print(*['x' * 99] * 9999, sep='\\n'))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0


HEIC = struct.pack(">I4s4sI", 24, b"ftyp", b"heic", 0) + b"mif1heic" + bytes(40)


def test_heic_is_called_by_its_name(monkeypatch, tmp_path):
    """And read where the package for it is installed, in colours of the right order, without its alpha."""
    (tmp_path / "a.HEIC").write_bytes(HEIC)
    assert find_sources([str(tmp_path)]) == [tmp_path / "a.HEIC"]
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"a.HEIC is a HEIC picture.*pip install pillow-heif"):
        read_image(tmp_path / "a.HEIC")

    class Picture:
        size = (3, 2)

        def __array__(self, *_, **__):
            return np.tile(np.uint8([10, 20, 30, 255]), (2, 3, 1))  # blue, green, red, alpha

    def open_heif(stream, convert_hdr_to_8bit, bgr_mode):
        if stream.read() != HEIC:
            raise ValueError("no meta box")
        return Picture()

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(open_heif=open_heif))
    assert read_image(tmp_path / "a.HEIC").tolist() == [[[30, 20, 10]] * 3] * 2
    (tmp_path / "b.heif").write_bytes(HEIC[:-1])
    with pytest.raises(DataError, match="b.heif is a HEIC picture that is damaged"):
        read_image(tmp_path / "b.heif")
