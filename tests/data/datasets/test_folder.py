"""The folder data set and the image reader, on fixtures made here: what is right is read, what is wrong is named."""

import json
import pickle
import struct

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.axes import photo_cameras
from mesh_graphormer_hand.data.datasets.folder import Config, build
from mesh_graphormer_hand.data.images import DataError, cut_crop, read_image
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.geometry.crops import apply_affine, compose_affine, crop_affine, mirror_affine
from mesh_graphormer_hand.mano import hand as hands

SIZE = 64
HAND = hands.load("open")


def joints_m() -> list[list[float]]:
    random = np.random.default_rng(1)
    return (random.uniform(-0.05, 0.05, (21, 3)) + [0.05, 0.02, 0.5]).tolist()


K = [[300.0, 0, 100.0], [0, 320.0, 80.0], [0, 0, 1]]


def keypoints() -> list[list[float]]:
    return perspective_project(torch.tensor(joints_m()), torch.tensor(K)).tolist()


def photo(height: int = 150, width: int = 200) -> np.ndarray:
    """Dark, with a white dot at each keypoint."""
    image = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[0:height, 0:width] + 0.5
    for u, v in keypoints():
        dot = 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 4)
        image = np.maximum(image, dot[..., None].astype(np.uint8))
    return image


def write(folder, labels, image=None, name: str = "a.png"):
    cv2.imwrite(str(folder / name), photo() if image is None else image)
    text = labels if isinstance(labels, str) else json.dumps(labels)
    (folder / "keypoints.json").write_text(text)
    return folder


def load(folder, **options):
    dataset = build(Config(root=str(folder), **options), "test", HAND, SIZE)
    return dataset.load(list(range(len(dataset))))


def test_labels_land_on_the_dots(tmp_path):
    """Right and left, cropped and whole: the crop's labels lie on its content, and come back to the photo's pixels."""
    hand = {"keypoints_px": keypoints(), "joints_m": joints_m(), "K": K, "score": 0.9}
    write(tmp_path, {"a.png": [hand, {**hand, "handedness": "left", "box": [60, 20, 190, 130]}]})
    for crop in ("auto", "box", "whole"):
        batch = load(tmp_path, crop=crop)
        assert batch.keys == ["a.png#0", "a.png#1"]
        assert batch.targets.is_left.tolist() == [False, True]
        points = batch.targets.joints_2d
        grid = (points / SIZE * 2 - 1)[:, None]
        seen = torch.nn.functional.grid_sample(batch.inputs.image[:, :1], grid, align_corners=False)[:, 0, 0]
        assert seen.min() > 0.15 and seen.mean() > 0.4  # dots shrink with the crop
        back = apply_affine(points, batch.image_from_crop)
        assert_close(back, torch.tensor(keypoints()).expand(2, 21, 2), atol=1e-3, rtol=0)
        cam = batch.targets.joints + batch.targets.root[:, None]
        assert_close(perspective_project(cam, batch.inputs.intrinsics), points, atol=1e-2, rtol=0)
    assert_close(batch.targets.joints[1], batch.targets.joints[0] * torch.tensor([-1.0, 1, 1]))


def test_real_layout_without_3d(tmp_path):
    """The layout of a keypoint detector: pixels, handedness, score."""
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints(), "handedness": "left", "score": 0.5}]})
    batch = load(tmp_path)
    assert batch.targets.joints_2d_valid.all() and not batch.targets.joints_valid.any()
    assert not batch.inputs.intrinsics_valid.any() and batch.targets.hand.tolist() == [0]
    assert len(load(tmp_path, min_score=0.4)) == 1
    with pytest.raises(DataError, match="holds no hand"):
        load(tmp_path, min_score=0.6)
    assert load(tmp_path, files="[ab].png").keys == batch.keys
    with pytest.raises(DataError, match="no image matches files='crop_"):
        load(tmp_path, files="crop_*")


def test_unknown_joints_are_masked(tmp_path):
    points, joints = keypoints(), joints_m()
    points[3] = joints[5] = None
    write(tmp_path, {"a.png": [{"keypoints_px": points, "joints_m": joints}]})
    targets = load(tmp_path).targets
    assert (~targets.joints_2d_valid).nonzero().tolist() == [[0, 3]]
    assert (~targets.joints_valid).nonzero().tolist() == [[0, 5]]
    assert targets.joints_2d.isfinite().all() and targets.joints.isfinite().all()


def test_3d_with_a_camera_gives_2d(tmp_path):
    write(tmp_path, {"a.png": [{"joints_m": joints_m(), "K": K}]})
    batch = load(tmp_path)
    back = apply_affine(batch.targets.joints_2d, batch.image_from_crop)
    assert_close(back[0], torch.tensor(keypoints()), atol=1e-3, rtol=0)


def test_crop_choices(tmp_path):
    points = np.array(keypoints())
    extent = (points.max(0) - points.min(0)).max()
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints()}]}, photo(200, 200))
    side = {c: load(tmp_path, crop=c).image_from_crop[0, 0, 0].item() * SIZE for c in ("auto", "box", "whole")}
    assert side["auto"] == pytest.approx(200) and side["whole"] == pytest.approx(
        200
    )  # square, one hand: a crop already
    assert side["box"] == pytest.approx(1.35 * extent, rel=1e-4)
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints()}]})
    assert load(tmp_path, crop="auto").image_from_crop[0, 0, 0].item() * SIZE == pytest.approx(1.35 * extent, rel=1e-4)


def test_other_joint_orders(tmp_path):
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints()}]})
    plain, rhd = load(tmp_path).targets.joints_2d, load(tmp_path, order="rhd").targets.joints_2d
    assert_close(rhd[0, 1:5], plain[0, [4, 3, 2, 1]])


def test_batches_are_pure_and_picklable(tmp_path):
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints()}] * 3})
    dataset = build(Config(root=str(tmp_path)), "test", HAND, SIZE)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy.load([2, 0]).inputs.image, dataset.load([0, 2]).inputs.image)


def many(folder, count: int = 40) -> dict:
    """`count` photos of one or two hands in ten folders."""
    labels = {f"{i % 10}/{i}.png": [{**GOOD, "score": i / count}] * (1 + i % 2) for i in range(count)}
    for name in labels:
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), photo(20, 20))
    (folder / "keypoints.json").write_text(json.dumps(labels))
    return labels


@pytest.mark.parametrize(("by", "shares"), [("sample", (0.7, 0.15, 0.15)), ("sequence", (0.7, 0.1, 0.2))])
def test_splits_on_request_do_not_leak(tmp_path, by, shares):
    """All hands of a photo, or all photos of a folder, on one side; files and min_score move nothing across."""
    labels = many(tmp_path)

    def photos(part: str, **options) -> set[str]:
        config = Config(root=str(tmp_path), split_by=by, **options)
        return {entry.file for entry in build(config, part, HAND, SIZE).entries}

    parts = [photos(part) for part in ("train", "val", "test")]
    assert set.union(*parts) == set(labels) and sum(map(len, parts)) == len(labels)
    assert np.abs(np.array([len(part) / len(labels) for part in parts]) - shares).max() <= 0.1
    if by == "sequence":
        folders = [{file.partition("/")[0] for file in part} for part in parts]
        assert sum(map(len, folders)) == 10
    assert photos("train", min_score=0.5) < parts[0] and photos("test", files="*[1-5].png") < parts[2]
    assert photos("train", split="test") == parts[2] != photos("test", split_seed=1)
    assert len(photos("train", shares=[0.5, 0.0, 0.5])) <= 24
    with pytest.raises(DataError, match="leaves nothing for val"):
        photos("val", shares=[0.5, 0.0, 0.5])


def test_unsplit_files_are_read_whole_and_splits_spelt_right(tmp_path):
    labels = many(tmp_path, 4)
    for part in ("train", "test"):
        assert {e.file for e in build(Config(root=str(tmp_path)), part, HAND, SIZE).entries} == set(labels)
    with pytest.raises(DataError, match="split_by 'sampel', did you mean 'sample'"):
        load(tmp_path, split_by="sampel")


def test_built_by_name(tmp_path):
    write(tmp_path, {"a.png": [{"keypoints_px": keypoints()}]})
    dataset = assembly.build_dataset("folder", {"root": str(tmp_path), "crop": "whole"}, "test", HAND, SIZE)
    assert len(dataset) == 1
    with pytest.raises(ConfigError, match="crop"):
        assembly.build_dataset("folder", {"root": str(tmp_path), "corp": "whole"}, "test", HAND, SIZE)


GOOD = {"keypoints_px": keypoints()}
DIRT = {
    "nan": ({"keypoints_px": [[float("nan"), 1], *keypoints()[1:]]}, "a.png', hand 1.*NaN.*position 0.*null"),
    "count": ({"keypoints_px": keypoints()[:20]}, r"hand 1.*\[20, 2\].*21 pairs"),
    "3d as 2d": ({"keypoints_px": joints_m()}, r"\[21, 3\].*21 pairs"),
    "ragged": ({"keypoints_px": [[1], *keypoints()[1:]]}, "keypoints_px should be 21 pairs"),
    "text": ({"keypoints_px": "left"}, "keypoints_px should be 21 pairs"),
    "joints": ({"joints_m": [[0, 0, 0]] * 20}, "joints_m.*21 triples"),
    "box order": ({"box": [10, 10, 5, 20]}, "box.*empty.*x0 < x1"),
    "box count": ({"box": [10, 10, 5]}, "box has shape"),
    "K": ({**GOOD, "K": [1, 2, 3]}, "K has shape.*3 rows"),
    "side": ({**GOOD, "handedness": "Right"}, 'handedness.*"right" or "left"'),
    "score": ({**GOOD, "score": "high"}, "score 'high' should be a number"),
    "key": ({"keypoints": keypoints()}, "unknown key 'keypoints', did you mean 'keypoints_px'"),
    "nothing": ({"handedness": "left"}, "nothing is known"),
    "no mapping": ([1, 2], "hand 1 should be a mapping"),
}


@pytest.mark.parametrize("name", DIRT)
def test_dirty_labels_name_file_hand_and_remedy(tmp_path, name):
    hand, message = DIRT[name]
    write(tmp_path, {"a.png": [GOOD, hand]})
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path)
    assert "keypoints.json" in str(error.value) and "a.png" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.png": [', "not valid JSON: .* line 1"),
        ("[]", "should hold"),
        ('{"a.png": 3}', "list of hands"),
        ("{}", "holds no hand"),
        ('{"b.png": [{"box": [0, 0, 9, 9]}]}', "'b.png': there is no such image"),
    ],
)
def test_dirty_files(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_missing_folder_and_options(tmp_path):
    with pytest.raises(DataError, match="`root` is missing"):
        build(Config(), "test", HAND, SIZE)
    with pytest.raises(DataError, match="there is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no such file; give `root`"):
        load(tmp_path)
    with pytest.raises(DataError, match="crop 'hole', did you mean 'whole'"):
        load(tmp_path, crop="hole")


def test_broken_image_names_its_hand(tmp_path):
    write(tmp_path, {"a.jpg": [GOOD]}, name="a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="a.jpg is an image that was cut short.*hand 0 of 'a.jpg'"):
        load(tmp_path)


def encode(image: np.ndarray, suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, image, list(options))[1].tobytes()


def gradient(channels: int = 3, dtype=np.uint8) -> np.ndarray:
    """No row or column like another, smooth enough for JPEG."""
    y, x = np.mgrid[0:40, 0:60]
    planes = [2 * x + y, 3 * x, 5 * y, x * 0 + 200][:channels]
    image = np.stack(planes, -1).astype(dtype)
    return image * 257 if dtype == np.uint16 else image


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (encode(gradient(), ".png"), gradient()),
        (encode(gradient()[..., :1], ".png"), np.repeat(gradient()[..., :1], 3, -1)),
        (encode(gradient(4), ".png"), gradient()),
        (encode(gradient(dtype=np.uint16), ".png"), gradient()),
        (encode(gradient(), ".bmp"), gradient()),
        (encode(gradient()[:1, :1], ".png"), gradient()[:1, :1]),
    ],
    ids=["colour", "grey", "alpha", "16 bit", "bmp", "1x1"],
)
def test_image_kinds(tmp_path, data, wanted):
    (tmp_path / "a").write_bytes(data)
    image = read_image(tmp_path / "a")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, wanted[..., ::-1])


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF orientation, and a thumbnail's end marker inside the segment."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 1) + entry + struct.pack(">I", 0) + b"\xff\xda\xff\xd9"
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def test_exif_is_applied(tmp_path):
    jpeg = encode(gradient(), ".jpg", cv2.IMWRITE_JPEG_QUALITY, 100)
    (tmp_path / "a.jpg").write_bytes(with_exif(jpeg, 6))
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (60, 40, 3)
    assert np.abs(image.astype(int) - np.rot90(gradient(), -1)[..., ::-1]).max() < 12


@pytest.mark.parametrize("progressive", [0, 1])
def test_every_cut_of_a_jpeg_is_noticed(tmp_path, progressive):
    """Decoders fill the missing part with grey and say nothing. A film behind the image, as phones add, is no harm, nor
    is a cut that leaves all pixels, as without the end marker."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, 3]
    whole = with_exif(encode(noise, ".jpg", *flags), 1)
    path = tmp_path / "a.jpg"
    path.write_bytes(whole + b"film \xff\xda\xff\xe1 film")
    pixels = read_image(path)
    assert pixels.shape == (50, 70, 3)
    for length in (*range(3, len(whole) - 2, 5), *range(len(whole) - 40, len(whole) - 2)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.jpg"):
            read_image(path)
    for length in (len(whole) - 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        np.testing.assert_array_equal(read_image(path), pixels)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"\x89PNG\r\n\x1a\n123", "a.png is an image.*cut short"), (b"hello there" * 9, "not an image")],
)
def test_no_images(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "a.png")


def test_no_files(tmp_path):
    with pytest.raises(DataError, match="folder"):
        read_image(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_crop_of_the_whole_is_the_image():
    image = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    identity = crop_affine(torch.tensor([32.0, 32.0]), torch.tensor(64.0), SIZE)
    np.testing.assert_array_equal(cut_crop(image, identity, SIZE), image)
    flipped = cut_crop(image, compose_affine(identity, mirror_affine(SIZE, identity)), SIZE)
    np.testing.assert_array_equal(flipped, image[:, ::-1])


def test_large_crops_are_averaged():
    """Sampling every tenth pixel of a fine pattern would give noise."""
    image = np.zeros((640, 640, 3), np.uint8)
    image[::2, ::2] = 200
    crop = cut_crop(image, crop_affine(torch.tensor([320.0, 320.0]), torch.tensor(640.0), SIZE), SIZE)
    assert abs(int(crop.min()) - 50) <= 2 and abs(int(crop.max()) - 50) <= 2


@pytest.mark.parametrize("side", [20.0, 100.0, 700.0])
def test_crops_place_content_exactly(side):
    """Enlarged, reduced and turned: a blot's centre of mass lies where the map says."""
    y, x = np.mgrid[0:1000, 0:1100] + 0.5
    sigma = side / 12
    blot = 255 * np.exp(-((x - 510.4) ** 2 + (y - 430.7) ** 2) / (2 * sigma**2))
    image = np.repeat(np.rint(blot).astype(np.uint8)[..., None], 3, -1)
    centre = torch.tensor([510.4 + side * 0.1, 430.7 - side * 0.05])
    image_from_crop = crop_affine(centre, torch.tensor(side), SIZE, 0.4)
    crop = cut_crop(image, image_from_crop, SIZE)[..., 0].astype(float)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    found = torch.tensor([[(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()]]).float()
    there = apply_affine(found, image_from_crop)[0]
    assert_close(there, torch.tensor([510.4, 430.7]), atol=side / SIZE * 0.15, rtol=0)


def test_crops_beyond_the_photo_repeat_its_edge():
    image = np.full((30, 30, 3), 77, np.uint8)
    for centre in ([15.0, 15.0], [200.0, -50.0]):
        assert (cut_crop(image, crop_affine(torch.tensor(centre), torch.tensor(100.0), SIZE), SIZE) == 77).all()
    one = np.full((1, 1, 3), 9, np.uint8)
    assert (cut_crop(one, crop_affine(torch.tensor([0.5, 0.5]), torch.tensor(1.0), SIZE), SIZE) == 9).all()


def test_sets_of_a_folder_are_shown_as_often_as_asked_for(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, {"a.png": [{"keypoints_px": keypoints()}] * 4})
    batch = load(tmp_path, sets={"a": 0.5, "b": 1.5})
    assert batch.keys == ["a/a.png#1", "a/a.png#3"] + [f"b/a.png#{i}" for i in (0, 1, 1, 2, 3, 3)]
    with pytest.raises(DataError, match="sets.a should be 0 or more"):
        load(tmp_path, sets={"a": -1.0})
    with pytest.raises(DataError, match="c/keypoints.json"):
        load(tmp_path, sets={"c": 1.0})


def spread(change) -> list:
    return change(np.array(joints_m())).tolist()


SHARES = (np.array(keypoints()) / [200, 150]).tolist()
PLAIN = {"joints_m": joints_m(), "K": K}
# what an outsider wrote, the cause that is told, the options that read it
OTHERS = {
    "millimetres": ({**PLAIN, "joints_m": spread(lambda j: j * 1000)}, "millimetres.*units=mm", {"units": "mm"}),
    "OpenGL": ({**PLAIN, "joints_m": spread(lambda j: j * [1, -1, -1])}, "OpenGL.*axes=opengl", {"axes": "opengl"}),
    "shares": ({"keypoints_px": SHARES}, r"lie in 0\.\.1.*coordinates=normalised", {"coordinates": "normalised"}),
    "transposed": ({**PLAIN, "K": np.array(K).T.tolist()}, "K is transposed.*K_layout", {"K_layout": "transposed"}),
    "K in shares": (
        {**PLAIN, "K": (np.array(K) / [[200], [150], [1]]).tolist()},
        "K is normalised.*K_layout",
        {"K_layout": "normalised"},
    ),
    "K of the original": (
        {**PLAIN, "K": (np.array(K) * [[4], [4], [1]]).tolist()},
        "another (image size|resolution).*labelled_size",
        {"labelled_size": [800, 600]},
    ),
    "the original": (
        {"keypoints_px": (8 * np.array(keypoints())).tolist()},
        "another resolution.*labelled_size",
        {"labelled_size": [1600, 1200]},
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_labels_of_another_kind_are_named_and_converted(tmp_path, what):
    """All of these were taken as they stood."""
    hand, message, options = OTHERS[what]
    write(tmp_path, {"a.png": [GOOD, hand]})
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path)
    assert "keypoints.json" in str(error.value) and "'a.png', hand 1" in str(error.value)
    write(tmp_path, {"a.png": [hand]})
    batch = load(tmp_path, **options)
    assert_close(apply_affine(batch.targets.joints_2d, batch.image_from_crop)[0], torch.tensor(keypoints()), atol=0.01,
                 rtol=0)  # fmt: skip
    if "joints_m" in hand:
        cam = batch.targets.joints[0] + batch.targets.root[0]
        assert_close(cam @ photo_cameras(batch)[1][0].T, torch.tensor(joints_m()), atol=1e-5, rtol=0)
        seen = perspective_project(cam[None], batch.inputs.intrinsics)
        assert_close(seen, batch.targets.joints_2d, atol=0.02, rtol=0)


@pytest.mark.parametrize(("dummy", "option"), [(0, "zero"), (-1, "minus_one")])
def test_dummies_for_missing_joints(tmp_path, dummy, option):
    points = [[dummy, dummy] if i in (3, 8) else p for i, p in enumerate(keypoints())]
    write(tmp_path, {"a.png": [{"keypoints_px": points}]})
    with pytest.raises(DataError, match=rf"hand 0: joint 3 .*\({dummy}, {dummy}\).*write null, or missing=zero"):
        load(tmp_path)
    targets = load(tmp_path, missing=option).targets
    assert (~targets.joints_2d_valid[0]).nonzero().flatten().tolist() == [3, 8]


def test_joints_relative_to_the_wrist(tmp_path):
    """Without a place before the camera there is no root, and K projects nothing."""
    relative = spread(lambda j: j - j[0])
    for more in ({"K": K}, {"box": [10, 10, 190, 140]}):
        write(tmp_path, {"a.png": [{"joints_m": relative, **more}]})
        with pytest.raises(DataError, match="hand 0: joint 0 lies behind .*relative to the wrist.*origin=wrist"):
            load(tmp_path)
    targets = load(tmp_path, origin="wrist").targets
    assert targets.joints_valid.all() and not targets.root_valid.any() and not targets.joints_2d_valid.any()
    assert_close(targets.joints[0], torch.tensor(relative), atol=1e-6, rtol=0)


def test_conventions_are_checked(tmp_path):
    write(tmp_path, {"a.png": [GOOD]})
    with pytest.raises(DataError, match="units 'milimetres'.*one of m, cm, mm"):
        load(tmp_path, units="milimetres")
    with pytest.raises(DataError, match=r"labelled_size \[640\] should be \[WIDTH, HEIGHT\]"):
        load(tmp_path, labelled_size=[640])
