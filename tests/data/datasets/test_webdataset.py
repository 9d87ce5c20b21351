"""Generated tars are read back: the labels that were rendered, left hands mirrored, any size, mistakes told."""

import dataclasses
import io
import tarfile

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import generate
from mesh_graphormer_hand.data.axes import look_along_crops
from mesh_graphormer_hand.data.datasets import webdataset
from mesh_graphormer_hand.data.images import DataError
from mesh_graphormer_hand.data.stream import Stream
from mesh_graphormer_hand.data.transforms import mirror
from mesh_graphormer_hand.generation.renderer import Renderer
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.geometry.crops import tight_box
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.virtual.config import EXTRA_LABELS, VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands

COUNT, SIZE = 20, 48
EXACT = ("joints", "joints_2d", "vertices", "pose", "joints_visible", "mask", "parts", "light_sh", "crop_size", "hand")


@pytest.fixture(scope="module")
def hand():
    return hands.load("open")


@pytest.fixture(scope="module")
def truth(hand):
    return VirtualHands(VirtualConfig(count=COUNT), hand, EXTRA_LABELS).render(list(range(COUNT)), image_size=SIZE)


@pytest.fixture(scope="module")
def tars(tmp_path_factory, truth):
    """Two tars, the second one not full, without rendering again."""
    out, patch = tmp_path_factory.mktemp("tars") / "out", pytest.MonkeyPatch()
    patch.setattr(Renderer, "render", remembered(truth, Renderer.render))
    patch.setattr("mesh_graphormer_hand.generation.layouts.webdataset.SPAN", 1)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        patch.delenv(name, raising=False)
    command = ["virtual", "--out", str(out), "--count", str(COUNT), "--image-size", str(SIZE), "--workers", "0"]
    assert generate.main([*command, "--hand", "open", "--lossless", "--left-fraction", "0.5"]) == 0
    patch.undo()
    return out


def remembered(truth, render):
    class Known:
        def render(self, indices, device, image_size):
            return truth[torch.tensor(indices)]

    return lambda self, indices: render(dataclasses.replace(self, hands=Known()), indices)


def read(tars, size: int = SIZE, **options):
    return webdataset.build(webdataset.Config(str(tars), **options), "train", hands.load("open"), size)


def test_every_label_comes_back(tars, truth, hand):
    dataset = read(tars)
    assert len(dataset) == COUNT and dataset.hand == hand.fingerprint and len(dataset.tars) == 2
    batch = dataset.load(list(range(COUNT)))
    truth, left = look_along_crops(truth), batch.targets.is_left
    assert left.any() and not left.all()
    for name in EXACT:
        assert torch.equal(getattr(batch.targets, name), getattr(truth.targets, name)), name
    assert_close(batch.inputs.image, truth.inputs.image, atol=1e-6, rtol=0)
    assert_close(batch.inputs.intrinsics, truth.inputs.intrinsics)
    assert_close(batch.targets.depth, truth.targets.depth, atol=0.51e-4, rtol=0)
    there = truth.targets.depth > 0
    gap = (batch.targets.normals - truth.targets.normals).abs().amax(1)
    assert gap[there].max() < 0.006 and batch.targets.normals_valid.all()
    assert batch.keys[3] == "train-000000.tar: 00000003"


def test_arrays_of_old_tars_have_their_new_names(tars):
    """Tars of format 4 call two labels otherwise; nothing of them is lost."""
    with tarfile.open(next(iter(sorted(tars.glob("*.tar"))))) as tar:
        content = np.load(io.BytesIO(tar.extractfile("00000000.npz").read()))
    old = {new: name for name, new in webdataset.OLD_NAMES.items()}
    written = io.BytesIO()
    np.savez(written, **{old.get(name, name): content[name] for name in content.files})
    rows = webdataset._arrays(written.getvalue(), "here")
    assert set(old) <= set(rows) and not set(old.values()) & set(rows)
    assert np.array_equal(rows["joint_visibility"], content["joint_visibility"])


def test_left_hands_are_left_in_the_picture(tars, truth):
    """The JSON beside the picture has it in the picture's own frame, as a mirror would show it."""
    import json

    import cv2

    row = int(read(tars).load(list(range(16))).targets.is_left.nonzero()[0, 0])
    with tarfile.open(tars / "train-000000.tar") as tar:
        labels = json.load(tar.extractfile(f"{row:08d}.json"))
        picture = cv2.imdecode(np.frombuffer(tar.extractfile(f"{row:08d}.png").read(), np.uint8), cv2.IMREAD_COLOR)
    wanted = mirror(truth[torch.tensor([row])])
    assert labels["handedness"] == "left"
    assert_close(torch.tensor(labels["keypoints_px"]), wanted.targets.joints_2d[0], atol=1e-4, rtol=0)
    assert_close(torch.tensor(labels["K"]), wanted.inputs.intrinsics[0], atol=1e-4, rtol=0)
    outline = perspective_project(wanted.targets.vertices + wanted.targets.root[:, None], wanted.inputs.intrinsics)
    assert_close(torch.tensor(labels["box"]), tight_box(outline[0]).clamp(0, SIZE), atol=1e-3, rtol=0)
    joints = wanted.targets.joints + wanted.targets.root[:, None]
    assert_close(torch.tensor(labels["joints_m"]), joints[0], atol=1e-6, rtol=0)
    shown = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1) / 255
    assert_close(shown, wanted.inputs.image[0], atol=1e-6, rtol=0)


def test_other_sizes_keep_labels_and_pictures_in_step(tars):
    batch = read(tars, size=32).load([1, 17])
    t = batch.targets
    assert batch.inputs.image.shape == (2, 3, 32, 32) and t.mask.shape == (2, 32, 32) and (t.crop_size == 32).all()
    seen = (t.joints + t.root[:, None]) @ batch.inputs.intrinsics.transpose(1, 2)
    assert_close(seen[..., :2] / seen[..., 2:], t.joints_2d, atol=1e-3, rtol=0)


def test_training_reads_it_by_name(tars, hand):
    dataset = assembly.build_dataset("webdataset", {"root": str(tars)}, "train", hand, SIZE)
    stream = Stream([dataset], batch_size=4)
    keys = [key for k in range(5) for key in stream[k].keys]
    assert len(set(keys)) == COUNT


def test_splits_on_request_do_not_leak(tars, truth):
    """Runs of 16 samples, or whole tars, on one side; together everything."""
    for by, shares in (("sample", [0.5, 0.0, 0.5]), ("sequence", [0.5, 0.0, 0.5])):
        parts = [read(tars, split=part, split_by=by, shares=shares) for part in ("train", "test")]
        keys = [set(part.load(list(range(len(part)))).keys) for part in parts]
        assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == COUNT and {16, 4} == set(map(len, keys))
    with pytest.raises(DataError, match="leaves nothing for val"):
        read(tars, split="val", split_by="sequence", shares=[0.5, 0.0, 0.5])
    assert len(read(tars, split="test")) == COUNT, "not to be split: all of the tars"


def test_without_a_manifest_every_tar_is_counted(tars, tmp_path):
    for path in tars.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(read(tmp_path)) == COUNT and len(read(tmp_path, files="train-000001.tar")) == COUNT - 16


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda c: b"no tar" * 200, "is no tar"),
        (lambda c: b"", "holds no samples"),
        (lambda c: c.replace(b".npz", b".npy"), "lacks its npz"),
        (lambda c: c.replace(b"\x89PNG", b"\x89PNX"), "is not an image"),
        (lambda c: c[:3000], "cannot be read|is not an image|was cut short|lacks its"),
        (lambda c: negative_size(c), "damaged tar: a file of -512 bytes"),
    ],
)
def test_damaged_tars_are_told(tars, tmp_path, damage, message):
    content = damage((tars / "train-000001.tar").read_bytes())
    if message == "lacks its npz":  # a tar of the same sample without that file
        content = rewritten(tars / "train-000001.tar", lambda name: not name.endswith(".npz"))
    (tmp_path / "train-000000.tar").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path).load([0])
    assert "train-000000.tar" in str(error.value)


def negative_size(content: bytes) -> bytes:
    """The tar with a first header that sends a reader back to itself."""
    header = bytearray(content[: tarfile.BLOCKSIZE])
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # base 256, two's complement
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[tarfile.BLOCKSIZE :]


def rewritten(path, keep) -> bytes:
    out = io.BytesIO()
    with tarfile.open(path) as tar, tarfile.open(fileobj=out, mode="w") as new:
        for info in filter(lambda m: keep(m.name), tar.getmembers()):
            new.addfile(info, tar.extractfile(info))
    return out.getvalue()


def test_places_without_tars_are_told(tmp_path):
    with pytest.raises(DataError, match="names no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no tar matches"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("joints", lambda v: v * 1000, "millimetres instead of metres"),
        ("root", lambda v: -v, "behind the camera"),
        ("joints_2d", lambda v: v / SIZE, r"0\.\.1"),
        ("intrinsics", lambda v: v.T, "K is transposed"),
        ("vertices", lambda v: -v, "from the vertices: are these in other axes"),
        ("pose", lambda v: -v, "the fit's joints lie"),
        ("shape", lambda v: v * np.nan, "shape holds NaN"),
        ("crop_size", lambda v: 2 * v, "the labels are of a picture of 96 px, this one has 48"),
        ("joints_valid", lambda v: v.astype(float), "joints_valid has the type .*, should have Bool"),
    ],
)
def test_labels_that_cannot_be_true(tars, tmp_path, name, change, message):
    """Tars of other programs, too, hold metres, pixels and camera axes, or are refused."""
    with tarfile.open(tars / "train-000000.tar") as old, tarfile.open(tmp_path / "a.tar", "w") as new:
        for info in old:
            data = old.extractfile(info).read()
            if info.name == "00000000.npz":
                labels = dict(np.load(io.BytesIO(data)))
                labels[name] = np.asarray(change(labels[name]), labels[name].dtype if name != "joints_valid" else float)
                written = io.BytesIO()
                np.savez(written, **labels)
                data, info.size = written.getvalue(), len(written.getvalue())
            new.addfile(info, io.BytesIO(data))
    with pytest.raises(DataError, match=f"a.tar: 00000000.*{message}"):
        read(tmp_path).load([0])
