"""Odd files that are good photos: the 10 to 14 bits of sensors, AVIFs that are turned, JPEGs without their end."""

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, features

from helpers.two_dots import photo
from mesh_graphormer_hand.data import headers
from mesh_graphormer_hand.data.images import DataError, _tell_stretched, as_photo, read_image, read_raw

IMAGE = photo((30.0, 30.0), (60.0, 40.0), 80, 100, 8)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff", ".pgm"])
def test_sensors_of_fewer_bits_than_their_files(tmp_path, caplog, bits, suffix):
    """10 bits in a 16-bit PNG were read as a picture whose white is 3 of 255."""
    _tell_stretched.cache_clear()
    grey, path = IMAGE[..., 0], tmp_path / f"sensor{suffix}"
    raw = (grey.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    cv2.imwrite(str(path), raw)
    with caplog.at_level(logging.WARNING):
        read = read_image(path)
        read_image(path)
    assert np.abs(read.astype(int) - grey[..., None]).max() <= 1
    assert (as_photo(raw) == read).all() and (read_raw(path) == raw).all()
    said = [r.message for r in caplog.records if str(tmp_path) in r.message]
    assert len(said) == (bits < 16), "once for a folder"
    assert bits == 16 or f"{bits} bits are used" in said[0]


def test_colour_of_16_bits(tmp_path):
    raw = IMAGE.astype(np.uint16) * 16
    cv2.imwrite(str(tmp_path / "colour.png"), raw[..., ::-1])
    assert (read_image(tmp_path / "colour.png") == IMAGE).all()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_turned_as_it_says(tmp_path, orientation):
    """OpenCV leaves the turns of AVIF (irot, imir) undone: a phone's upright photo came lying."""
    exif, path = Image.Exif(), tmp_path / "photo.avif"
    exif[0x112] = orientation  # Pillow writes it as irot and imir
    Image.fromarray(IMAGE).save(path, exif=exif, quality=95)
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    read = read_image(path)
    assert read.shape == wanted.shape == (IMAGE.shape if orientation < 5 else (100, 80, 3))
    assert np.abs(read.astype(int) - wanted).mean() < 2
    assert headers.image_size(path.read_bytes()) == (100, 80), "as coded"


@pytest.mark.parametrize("cut", range(4, 200, 7))
def test_a_damaged_avif_is_no_traceback(tmp_path, cut):
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    buffer, path = io.BytesIO(), tmp_path / "photo.avif"
    Image.fromarray(IMAGE).save(buffer, "avif")
    data = bytearray(buffer.getvalue())
    data[cut : cut + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    try:
        read_image(path)
    except DataError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_jpeg_that_lacks_its_end_marker_is_whole(tmp_path, progressive, lost):
    data = jpeg(progressive)
    (tmp_path / "whole.jpg").write_bytes(data)
    (tmp_path / "endless.jpg").write_bytes(data[:-lost])
    assert (read_image(tmp_path / "endless.jpg") == read_image(tmp_path / "whole.jpg")).all()


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lost", [8, 40, 100, 600])
def test_a_jpeg_that_lacks_pixels_is_cut_short(tmp_path, progressive, lost):
    (tmp_path / "cut.jpg").write_bytes(jpeg(progressive)[:-lost])
    with pytest.raises(DataError, match="cut short"):
        read_image(tmp_path / "cut.jpg")


def jpeg(progressive: bool) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 40, IMAGE.shape).astype(np.uint8)
    Image.fromarray(np.minimum(IMAGE, 200) + noise).save(buffer, "jpeg", quality=90, progressive=progressive)
    return buffer.getvalue()
