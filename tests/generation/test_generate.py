"""hand-generate: the same bytes whatever was killed or shared, layouts that others read, one line for a mistake."""

import io
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from tqdm import tqdm

from helpers.forked import finish, fork, part_from_parent
from helpers.places import ROOT
from mesh_graphormer_hand.cli import generate
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import IMAGE_LABELS
from mesh_graphormer_hand.data.axes import look_along_crops
from mesh_graphormer_hand.data.datasets import coco_wholebody
from mesh_graphormer_hand.data.datasets import folder as folder_data
from mesh_graphormer_hand.files import lock as take_lock
from mesh_graphormer_hand.generation import job
from mesh_graphormer_hand.generation.kinds import Source
from mesh_graphormer_hand.generation.layouts import webdataset
from mesh_graphormer_hand.generation.renderer import CROP_LAYOUTS, Renderer
from mesh_graphormer_hand.generation.request import read_config, shard_of, worker_count
from mesh_graphormer_hand.geometry.cameras import perspective_project
from mesh_graphormer_hand.geometry.crops import tight_box
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.virtual import frozen
from mesh_graphormer_hand.virtual.config import EXTRA_LABELS, VirtualConfig
from mesh_graphormer_hand.virtual.frames import FrameOptions, VirtualFrames
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.sequences import VirtualSequences

COUNT, SIZE = 40, 48  # three blocks, the last one not full
COMMON = ["--count", str(COUNT), "--image-size", str(SIZE), "--workers", "0", "--hand", "open"]
CASES = {  # three blocks each
    **{layout: ["--layout", layout] for layout in CROP_LAYOUTS},
    "frames": ["--kind", "frames", "--count", "9", "--image-size", "96", "frames.hands=[1, 2, 1]"],
    "views": ["--kind", "views", "--count", "9", "views=3", "--labels", "none"],
    "sequences": ["--kind", "sequences", "--count", "3", "length=4", "--labels", "parts"],
}


def remember(render):
    """`VirtualHands.render` that renders a block once for all tests."""
    known = {}

    def again(self, indices, device="cpu", image_size=224):
        key = repr(self.config), self.extra, tuple(indices), image_size
        if key not in known:
            known[key] = render(self, indices, device, image_size)
        return known[key]

    return again


QUICK = remember(VirtualHands.render)


def remember_one(render):
    """`Source.render` that renders a frame, moment or sequence once for all tests."""
    known = {}

    def again(self, indices, device, image_size):
        key = self.make.__code__, tuple(indices), image_size
        if key not in known:
            known[key] = render(self, indices, device, image_size)
        return known[key]

    return again


QUICK_SOURCE = remember_one(Source.render)


def remember_block():
    """`Renderer.work` that encodes a block once for all tests, and writes it each time."""
    known = {}

    def again(self, number, indices):
        key = repr(self.plan), tuple(indices)
        if key not in known:
            known[key] = self.layout.encode(self.render(indices), indices)
        self.store.write(number, known[key])
        return number

    return again


def remember_hash(split_hash):
    """`frozen.split_hash`, computed once for all tests."""
    known = {}

    def again(config, hand):
        key = repr(config), hand.fingerprint
        if key not in known:
            known[key] = split_hash(config, hand)
        return known[key]

    return again


QUICK_WORK, QUICK_HASH = remember_block(), remember_hash(frozen.split_hash)


@pytest.fixture(autouse=True)
def small_and_quick(monkeypatch):
    """Two blocks a tar, no block rendered or encoded twice (but for the fixtures `whole` and `truth`), no launcher."""
    monkeypatch.setattr(VirtualHands, "render", QUICK)
    monkeypatch.setattr(Source, "render", QUICK_SOURCE)
    monkeypatch.setattr(Renderer, "work", QUICK_WORK)
    monkeypatch.setattr(frozen, "split_hash", QUICK_HASH)
    monkeypatch.setattr(webdataset, "SPAN", 2)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def run(out, *arguments: str) -> int:
    return generate.main(["virtual", "--out", str(out), *COMMON, *arguments])


def run_forked(out, *arguments: str) -> None:
    part_from_parent()
    sys.exit(run(out, *arguments))


def tree(*folders: Path) -> dict[str, bytes]:
    """Every file, by its path; what is in two folders is equal in both."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                name, content = str(path.relative_to(folder)), path.read_bytes()
                assert found.setdefault(name, content) == content, name
    return found


@pytest.fixture(scope="module")
def truth():
    """What the files should say."""
    made = VirtualHands(VirtualConfig(count=COUNT), hands.load("open"), EXTRA_LABELS)
    return made.render(list(range(COUNT)), image_size=SIZE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Path]:
    """One uninterrupted run of each case."""
    root, span = tmp_path_factory.mktemp("whole"), webdataset.SPAN
    webdataset.SPAN = 2
    for case, arguments in CASES.items():
        assert run(root / case, *arguments) == 0
    webdataset.SPAN = span
    return {case: root / case for case in CASES}


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


@pytest.mark.parametrize("case", CASES)
def test_ended_between_any_two_files(whole, tmp_path, monkeypatch, case):
    """Every place where a file gets its name, before and after: what goes on from there ends with equal bytes."""
    move, steps = job._move, len(tree(whole[case])) + 3
    places = (
        range(steps)
        if case == "webdataset"
        else sorted({*range(3), *random.Random(1).sample(range(steps), 3), *range(steps - 4, steps)})
    )
    for place in places:
        for after in (False, True):
            calls = iter(range(10**6))

            def stop(source, path, place=place, after=after, calls=calls):
                if (here := next(calls)) == place and not after:
                    raise Killed
                move(source, path)
                if here == place:
                    raise Killed

            out = tmp_path / f"{place}{after}"
            with monkeypatch.context() as patch, pytest.raises(Killed):
                patch.setattr(job, "_move", stop)
                patch.setattr(job.Job, "close", lambda self: self._lock.close())  # who is killed does not tidy up
                run(out, *CASES[case])
            assert run(out, *CASES[case]) == 0
            assert tree(out) == tree(whole[case])


def test_a_killed_child_leaves_the_progress_bars_of_its_parent_alone():
    process = multiprocessing.get_context("fork").Process(target=die_while_drawing)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert all(lock.acquire(timeout=1) for lock in tqdm.get_lock().locks)
    tqdm.get_lock().release()


def die_while_drawing() -> None:
    part_from_parent()
    tqdm.get_lock().acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments(whole, tmp_path, case):
    """SIGKILL, again and again, until a run gets through."""
    context, rng, killed = multiprocessing.get_context("fork"), random.Random(2), 0
    for wait in [*(rng.uniform(0.01, 0.3) for _ in range(6)), 60]:
        process = context.Process(target=run_forked, args=(tmp_path / "out", *CASES[case]))
        process.start()
        process.join(wait)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert process.exitcode == 0 and killed > 0
    assert tree(tmp_path / "out") == tree(whole[case])


@pytest.mark.slow
def test_workers_write_the_same_and_die_with_their_parent(tmp_path):
    """Two processes, killed and resumed; the tars equal those of one process."""
    out, options = tmp_path / "out", [*COMMON, "--workers", "2", "--count", "64"]
    command = [sys.executable, str(ROOT / "tools" / "generate.py"), "virtual", "--out", str(out), *options]
    first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while first.poll() is None and time.monotonic() < deadline and len(list(out.glob(".generate/parts/*"))) < 2:
        time.sleep(0.01)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    time.sleep(1)
    before = tree(out)
    time.sleep(0.5)
    assert tree(out) == before, "a worker went on writing after its parent's end"
    webdataset.SPAN = 64  # as in the first process; small_and_quick puts it back
    log = tmp_path / "log"
    assert finish(fork(lambda: run(out, *options), log)) == 0, log.read_text()
    text = log.read_text()
    assert text.splitlines()[-1] == str(out)
    assert "img/s" in text and "64 samples, " in text and "64 of them" not in text
    assert run(tmp_path / "one", "--count", "64") == 0
    assert tree(out) == tree(tmp_path / "one")


@pytest.mark.parametrize("case", CASES)
def test_shards_make_the_same_files(whole, tmp_path, case):
    """Into one folder, whoever comes last finishes; from two folders, laid over one another and finished."""
    for shard in ("1/2", "0/2"):
        assert run(tmp_path / "same", *CASES[case], "--shard", shard) == 0
        assert run(tmp_path / shard[0], *CASES[case], "--shard", shard) == 0
    assert tree(tmp_path / "same") == tree(whole[case])
    merged = tree(tmp_path / "0", tmp_path / "1")  # no file differs between the two
    for name, content in merged.items():
        (tmp_path / "merged" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "merged" / name).write_bytes(content)
    assert case != "webdataset" or merged == tree(whole[case]), "tars need no finishing"
    assert run(tmp_path / "merged", *CASES[case]) == 0
    assert tree(tmp_path / "merged") == tree(whole[case])


def test_launchers_set_the_shard(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert run(tmp_path / "out", "--layout", "folder") == 0
        assert (tmp_path / "out" / "keypoints.json").exists() == (rank == "1")
    assert tree(tmp_path / "out") == tree(whole["folder"])
    assert shard_of("1/3", {"RANK": "2", "WORLD_SIZE": "4"}) == (6, 12)
    pieces = {shard_of(f"{i}/3", {"RANK": str(r), "WORLD_SIZE": "4"}) for i in range(3) for r in range(4)}
    assert pieces == {(i, 12) for i in range(12)}
    assert worker_count(3, {}) == 3 and worker_count(-1, {"LOCAL_WORLD_SIZE": "999"}) == 1


def test_one_shard_has_one_writer(tmp_path, capsys):
    out = tmp_path / "out" / ".generate" / "0-of-1"
    out.mkdir(parents=True)
    lock = take_lock(out / "lock")
    assert run(tmp_path / "out") == 2
    assert "another process is writing shard 0/1" in capsys.readouterr().err
    lock.close()
    assert run(tmp_path / "out") == 0


def test_again_renders_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(VirtualHands, "render", None)
    assert run(whole["folder"], "--layout", "folder") == 0


def test_webdataset_with_the_standard_library(whole, truth):
    seen = []
    for path in sorted(whole["webdataset"].glob("train-*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert {m.mtime for m in members} == {0} and all(m.isfile() for m in members)
            samples: dict[str, dict[str, bytes]] = {}
            for m in members:
                key, _, suffix = m.name.partition(".")
                samples.setdefault(key, {})[suffix] = tar.extractfile(m).read()
        seen += list(samples)
        for key, files in samples.items():
            assert set(files) == {"jpg", *(f"{name}.png" for name in IMAGE_LABELS), "json", "npz"}
            k, t = int(key), truth.targets
            arrays = np.load(io.BytesIO(files["npz"]))
            for name, value in arrays.items():
                wanted = truth.inputs.intrinsics if name == "intrinsics" else getattr(t, name)
                np.testing.assert_array_equal(value, wanted[k].numpy(), err_msg=name)
            known = {f for f in t.__dataclass_fields__ if getattr(t, f) is not None}
            assert set(arrays) == known - set(IMAGE_LABELS) | {"intrinsics"}
            mask, depth, parts, normals = (decode(files[f"{name}.png"]) for name in IMAGE_LABELS)
            np.testing.assert_array_equal(parts, t.parts[k].numpy())
            there = t.depth[k].numpy() > 0
            np.testing.assert_allclose(
                normals[..., ::-1][there] / 127 - 1, t.normals[k].numpy()[:, there].T, atol=0.005
            )
            assert not normals[t.normals[k].numpy().sum(0) == 0].any()
            np.testing.assert_array_equal(mask, t.mask[k].numpy() * 255)
            np.testing.assert_allclose(depth * 1e-4, t.depth[k].numpy(), atol=0.51e-4)
            labels = json.loads(files["json"])
            assert labels["key"] == truth.keys[k] and labels["visible"] == t.joints_visible[k].tolist()
            outline = perspective_project((t.vertices + t.root[:, None])[k], truth.inputs.intrinsics[k]).clamp(0, SIZE)
            assert_close(torch.tensor(labels["box"]), tight_box(outline), atol=1e-3, rtol=0)
            image = decode(files["jpg"])[..., ::-1] / 255.0
            assert (
                np.abs(image - truth.inputs.image[k].permute(1, 2, 0).numpy()).mean() < 0.08
            )  # small noisy pictures suffer as JPEG
    assert seen == [f"{i:08d}" for i in range(COUNT)]


def decode(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_freihand_files(whole, truth):
    """What FreiHAND's own code does with them: project, rebuild the hand from its parameters, recover the root."""
    root, t = whole["freihand"], truth.targets
    tables = {p.stem.removeprefix("training_"): json.loads(p.read_text()) for p in root.glob("training_*.json")}
    assert set(tables) == {"K", "xyz", "verts", "mano", "scale", "visible"}
    assert {len(rows) for rows in tables.values()} == {COUNT}
    intrinsics, xyz, verts = (torch.tensor(tables[n], dtype=torch.float64) for n in ("K", "xyz", "verts"))
    seen = xyz @ intrinsics.transpose(1, 2)
    assert_close(seen[..., :2] / seen[..., 2:], t.joints_2d.double(), atol=1e-3, rtol=0)
    assert_close(verts, (t.vertices + t.root[:, None]).double(), atol=1e-6, rtol=0)
    assert_close(torch.tensor(tables["scale"]), (xyz[:, 9] - xyz[:, 10]).norm(dim=-1).float())

    mano = torch.tensor(tables["mano"]).squeeze(1)
    assert mano.shape == (COUNT, 61)
    focal = intrinsics[:, [0, 1], [0, 1]].mean(1, keepdim=True)
    rays = torch.cat([mano[:, 58:60] - intrinsics[:, :2, 2], focal], 1)
    middle = rays / mano[:, 60:]
    assert_close(middle, xyz[:, 9], atol=1e-5, rtol=0)
    layer = ManoLayer(use_pca=False, flat_hand_mean=False, hand=hands.load("open"))
    vertices, joints = layer(mano[:, :48], mano[:, 48:58])
    rebuilt = vertices - joints[:, 9:10] + middle[:, None].float()
    assert_close(rebuilt, verts.float(), atol=2e-5, rtol=0)

    for k in range(COUNT):
        picture = cv2.imread(str(root / "training" / "rgb" / f"{k:08d}.jpg"))
        mask = cv2.imread(str(root / "training" / "mask" / f"{k:08d}.jpg"), cv2.IMREAD_GRAYSCALE)
        assert picture.shape == (SIZE, SIZE, 3)
        assert ((mask > 127) == t.mask[k].numpy()).mean() > 0.999
    assert len(list((root / "training").rglob("*.*"))) == 3 * COUNT


def test_freihand_calls_the_test_split_evaluation(tmp_path):
    out = str(tmp_path / "out")
    assert generate.main(["virtual_test", "--out", out, *COMMON, "--count", "3", "--layout", "freihand"]) == 0
    assert len(json.loads((tmp_path / "out" / "evaluation_xyz.json").read_text())) == 3
    assert (tmp_path / "out" / "evaluation" / "rgb" / "00000002.jpg").is_file()


def test_folder_is_read_back(tmp_path, truth):
    """By the data set `folder`, with the same labels; lossless pictures come back as they were."""
    assert run(tmp_path, "--layout", "folder", "--lossless") == 0
    dataset = folder_data.build(folder_data.Config(root=str(tmp_path)), "test", hands.load("open"), SIZE)
    batch = dataset.load(list(range(len(dataset))))
    assert len(batch) == COUNT
    seen = look_along_crops(truth)  # as data sets give their labels; the files hold the camera's own axes
    t = seen.targets
    assert_close(batch.targets.joints_2d, t.joints_2d, atol=1e-4, rtol=0)
    assert_close(batch.targets.joints, t.joints, atol=1e-6, rtol=0)
    assert_close(batch.targets.root, t.root, atol=1e-6, rtol=0)
    assert_close(batch.inputs.intrinsics, seen.inputs.intrinsics, atol=1e-4, rtol=0)
    assert_close(batch.inputs.image, truth.inputs.image, atol=1e-3, rtol=0)
    labels = np.load(tmp_path / "labels" / "0000" / "00000007.npz")
    assert_close(axis_angle_to_matrix(torch.from_numpy(labels["pose"])), axis_angle_to_matrix(truth.targets.pose[7]))


def frames_truth():
    """What the case `frames` shows."""
    made = VirtualFrames(VirtualConfig(count=9), hands.load("open"), FrameOptions(hands=[1.0, 2.0, 1.0]))
    return made.render(range(9), size=96)


def test_frames_are_coco(whole):
    """Every hand of every frame, by the rules of COCO's format, and the picture that it is in."""
    root, frames = whole["frames"], frames_truth()
    table = json.loads((root / "annotations" / "coco_wholebody_train_v1.0.json").read_text())
    assert [c["name"] for c in table["categories"]] == ["left_hand", "right_hand"]
    assert [i["id"] for i in table["images"]] == list(range(9))
    rows = table["annotations"]
    assert min(r["id"] for r in rows) > 0 and len({r["id"] for r in rows}) == len(rows)
    for image, hands_there, picture, camera in zip(
        table["images"], frames.hands, frames.images, frames.intrinsics, strict=True
    ):
        mine = [r for r in rows if r["image_id"] == image["id"]]
        assert_close(torch.tensor(image["K"]), camera, atol=1e-4, rtol=0)
        stored = cv2.imread(str(root / "train2017" / image["file_name"]))[..., ::-1] / 255.0
        assert stored.shape == (image["height"], image["width"], 3) == (96, 96, 3)
        assert np.abs(stored - picture.permute(1, 2, 0).numpy()).mean() < 0.08
        assert [r["category_id"] == 1 for r in mine] == hands_there.is_left.tolist()
        for k, row in enumerate(mine):
            x, y, width, height = row["bbox"]
            assert_close(torch.tensor([x, y, x + width, y + height]), hands_there.boxes[k], atol=1e-3, rtol=0)
            keypoints, pixels = torch.tensor(row["keypoints"]).reshape(21, 3), hands_there.joints_2d[k]
            inside = ((pixels >= 0) & (pixels < 96)).all(-1)
            assert_close(keypoints[:, 2], torch.where(hands_there.visible[k], 2.0, inside.float()))
            assert_close(keypoints[:, :2], pixels * inside[:, None], atol=1e-3, rtol=0)
            assert row["num_keypoints"] == inside.sum()
            seen = perspective_project(torch.tensor(row["joints_m"]), torch.tensor(image["K"]))
            assert_close(seen, pixels, atol=0.01, rtol=0)
    assert {0, 1, 2} <= {len(h.boxes) for h in frames.hands} and {r["category_id"] for r in rows} == {1, 2}


def test_frames_are_read_back(whole, tmp_path):
    """By the data set `coco_wholebody`: the same boxes, sides and joints."""
    config = coco_wholebody.Config(root=str(whole["frames"]), box="label", cache=str(tmp_path))
    dataset = coco_wholebody.build(config, "train", hands.load("open"), SIZE)
    frames = frames_truth()
    key = [(k, int(left)) for k, h in enumerate(frames.hands) for left in h.is_left]
    boxes, pixels = (torch.cat([getattr(h, name) for h in frames.hands]) for name in ("boxes", "joints_2d"))
    read = [dataset.annotation(k) for k in range(len(dataset))]
    assert [(int(a.image.stem), int(a.is_left)) for a in read] == key and len(read) > 5
    assert_close(torch.tensor(np.stack([a.box for a in read])).float(), boxes, atol=0.01, rtol=0)
    valid = torch.tensor(np.stack([a.points_valid for a in read]))
    points = torch.tensor(np.stack([a.points for a in read])).float()
    assert_close(points[valid], pixels[valid], atol=0.01, rtol=0)
    assert dataset.load([0, 1]).inputs.image.shape == (2, 3, SIZE, SIZE)


def test_views_are_calibrated(whole):
    """What the views share, seen by each camera, is what each view says; the data set `folder` reads every picture."""
    dataset = folder_data.build(folder_data.Config(root=str(whole["views"])), "test", hands.load("open"), SIZE)
    assert len(dataset) == 9 * 3
    for number in range(9):
        labels = np.load(whole["views"] / "labels" / "0000" / f"{number:08d}.npz")
        rows = {name: torch.from_numpy(labels[name]) for name in labels.files}
        pose, t = rows["extrinsics"][:, :3, :3], rows["extrinsics"][:, None, :3, 3]
        assert len(pose) == 3 and (pose[0] - pose[1]).abs().max() > 0.1
        for name in ("joints", "vertices"):
            in_camera = rows[f"{name}_world"] @ pose.transpose(1, 2) + t
            assert_close(in_camera, rows[name] + rows["root"][:, None], atol=1e-5, rtol=0)
        seen = perspective_project(rows["joints_world"] @ pose.transpose(1, 2) + t, rows["intrinsics"])
        assert_close(seen, rows["joints_2d"], atol=0.01, rtol=0)
        read = dataset.load([3 * number + v for v in range(3)])
        assert_close(read.targets.joints_2d, rows["joints_2d"], atol=1e-3, rtol=0)
        assert read.keys[2] == f"images/0000/{number:08d}/00002.jpg#0"


def test_sequences_have_the_labels_of_every_moment(whole):
    dataset = folder_data.build(folder_data.Config(root=str(whole["sequences"])), "test", hands.load("open"), SIZE)
    assert len(dataset) == 3 * 4
    moving = VirtualSequences(VirtualConfig(count=3), hands.load("open"), length=4, extra=["parts"]).render(
        1, "cpu", SIZE
    )
    labels = np.load(whole["sequences"] / "labels" / "0000" / "00000001.npz")
    for name in ("joints", "vertices", "pose", "root", "joints_2d", "joints_visible"):
        np.testing.assert_array_equal(labels[name], getattr(moving.targets, name).numpy(), err_msg=name)
    assert "extrinsics" not in labels and "normals_valid" not in labels
    assert_close(dataset.load([4, 5, 6, 7]).targets.joints_2d, moving.targets.joints_2d, atol=1e-3, rtol=0)
    parts = cv2.imread(str(whole["sequences"] / "parts" / "0000" / "00000001" / "00003.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(parts, moving.targets.parts[3].numpy())


def test_dry_run_writes_nothing_and_is_right(tmp_path, capsys, whole):
    for layout in CASES:
        assert run(tmp_path / "new", *CASES[layout], "--dry-run") == 0
        text = capsys.readouterr().out
        lines = dict(line.split(None, 1) for line in text.splitlines()[1:])
        number, unit = lines["bytes"].split()[:2]
        told = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
        files = tree(whole[layout])
        close = 0.1 if layout in CROP_LAYOUTS else 0.5  # blocks of few pictures differ more
        assert told == pytest.approx(sum(map(len, files.values())), rel=close)
        assert int(lines["files"]) == len(files)
        assert lines["hours"].startswith("0.00 with 0 workers, ")
    assert not (tmp_path / "new").exists()


def test_sheet(tmp_path):
    """Alone it needs no folder and no count; two samples a row, each plain, with its labels, parts, normals, depth."""
    path = tmp_path / "deep" / "sheet.png"
    assert generate.main(["--sheet", str(path), "--image-size", str(SIZE), "--hand", "open", "seed=4"]) == 0
    assert list(path.parent.iterdir()) == [path]
    picture = cv2.imread(str(path))
    assert picture.shape == (12 * SIZE, 10 * SIZE, 3)
    tiles = [picture[:SIZE, k * SIZE : (k + 1) * SIZE] for k in range(10)]
    assert all((tiles[k] != tiles[k + 1]).any() for k in range(9))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--layout", "webdatasets"], "did you mean 'webdataset'"),
        (["--shard", "2/2"], "should read i/n"),
        (["--shard", "half"], "should read i/n"),
        (["--count", "0"], "--count 0"),
        (["--image-size", "4"], "--image-size 4"),
        (["--quality", "101"], "--quality 101"),
        (["held_objet=1"], "did you mean 'held_object'"),
        (["count=30"], "more than the 30 samples"),
        (["fill=wide"], "fill"),
        (["--hand", "nowhere.pkl"], "nowhere.pkl"),
        (["--layout", "freihand", "--lossless"], "--lossless"),
        (["--device", "nothing"], "--device nothing: "),
        (["--left-fraction", "2"], "--left-fraction 2.0 should be a number"),
        (["--left-fraction", "0.5", "--layout", "freihand"], "hold right hands"),
        (["--labels", "normls"], "did you mean 'normals'"),
        (["--labels", "parts,look"], "no label 'look', which is now 'appearance'"),
        (["--check", "4"], "leave --out away"),
        (["--sheet", "sheet.gif"], "should end in .png"),
        (["--kind", "frame"], "did you mean 'frames'"),
        (["--kind", "views", "--layout", "folder"], "no layout 'folder' of views"),
        (["--kind", "frames", "--left-fraction", "0.5"], "--left-fraction is for crops"),
        (["--kind", "frames", "frames.hands=[]"], "frames.hands: []"),
        (["--kind", "frames", "frames.lft=0"], "did you mean"),
        (["--kind", "views", "views=9"], "views: 9 should be 1 to 8"),
        (["--kind", "sequences", "rate=0"], "rate: 0"),
        (["views=2"], "views"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, capsys, arguments, message):
    assert run(tmp_path / "out", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("old", "new"), [("--what", "--kind"), ("--left", "--left-fraction")])
def test_old_options_are_answered_with_the_new_name(tmp_path, capsys, old, new):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", old, "0.5")
    assert stop.value.code == 2 and f"error: {old} is now {new}" in capsys.readouterr().err


def test_missing_arguments(tmp_path, capsys):
    assert generate.main(["virtual"]) == 2 and "--out is missing" in capsys.readouterr().err
    assert generate.main(["--out", str(tmp_path / "out")]) == 2 and "--count is missing" in capsys.readouterr().err
    assert generate.main(["nowhere.yaml", "--dry-run"]) == 2 and "no config file" in capsys.readouterr().err


def test_places_that_cannot_be_written_to(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("")
    for out, message in (("file", "is a file"), ("file/deeper", "cannot be written to"), ("mine", "'photo.jpg'")):
        assert run(tmp_path / out) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and message in error
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--count", "41"], "count is 40 there, 41 here"),
        (["seed=1"], "config.seed is 0 there, 1 here"),
        (["--layout", "freihand"], "layout is 'folder' there"),
        (["--quality", "80"], "encoding.quality is 95 there"),
        (["--left-fraction", "0.5"], "left_fraction is 0.0 there"),
        (["--kind", "views", "--layout", "groups"], "kind is None there, 'views' here"),
    ],
)
def test_another_job_is_refused(whole, capsys, arguments, message):
    before = tree(whole["folder"])
    assert run(whole["folder"], "--layout", "folder", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert tree(whole["folder"]) == before


def test_a_mistake_that_the_first_block_shows_can_be_mended(tmp_path, capsys):
    assert run(tmp_path, f"backgrounds={tmp_path / 'nowhere'}") == 2
    assert "holds no picture" in capsys.readouterr().err.splitlines()[-1] and not list(tmp_path.iterdir())
    assert run(tmp_path) == 0


@pytest.mark.parametrize("layout", CROP_LAYOUTS)
def test_full_disk(whole, tmp_path, capsys, layout):
    """No file larger than half of the largest can be written; then there is room again."""
    largest = max(map(len, tree(whole[layout]).values()))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, unlimited[1]))
    try:
        assert run(tmp_path / "out", "--layout", layout) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "cannot be written: File too large; what is written so far stays" in error
    there = tree(tmp_path / "out")
    assert all(content == tree(whole[layout])[name] for name, content in there.items() if ".generate" not in name)
    assert not list((tmp_path / "out" / ".generate").glob("*-of-*"))
    assert run(tmp_path / "out", "--layout", layout) == 0
    assert tree(tmp_path / "out") == tree(whole[layout])


def test_values_of_a_wrong_type_name_their_key():
    with pytest.raises(ConfigError, match="count: 0"):
        read_config("virtual", ["count=0"], None, True)


def test_help_is_instant_and_loads_no_torch():
    code = "import sys; from mesh_graphormer_hand.cli import generate\ntry: generate.main(['--help'])\n"
    code += "except SystemExit: pass\nassert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and "--shard" in done.stdout, done.stderr
