"""64 things that are no photo and no video: one clear line and exit code 2 each, nothing written, nothing executed."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from mesh_graphormer_hand.cli import demo
from mesh_graphormer_hand.data.images import DataError, as_photo
from mesh_graphormer_hand.predictor import HandPredictor
from two_dots import TwoDots, photo

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
    }  # fmt: skip
    return files


FILES = contents()
SPECIAL = ("missing.jpg", "missing.mp4", "a_folder.jpg", "unreadable.jpg", "animated.webp", "animated.png",
           "no_frames.mp4", "pipe.jpg")  # fmt: skip
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
    return path


def test_there_are_64_at_least():
    assert len(CASES) + len(ARRAYS) >= 64


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_one_line_and_leaves_nothing(monkeypatch, tmp_path, capfd, name):
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(32)))
    path, out = make(tmp_path, name), tmp_path / "out"
    if name.startswith("unreadable") and os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert demo.main([str(path), "--out", str(out), "--save", "json"]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and path.name in lines[0] and len(lines[0]) > 40
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
