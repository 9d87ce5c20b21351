"""The demo command: what it writes for each kind of model, and one clear line for everything that is no photo."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import trimesh

from helpers.places import ROOT
from helpers.two_dots import Finder, TwoDots, left_mesh, photo
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import demo
from mesh_graphormer_hand.data.images import read_image
from mesh_graphormer_hand.inference import predictor
from mesh_graphormer_hand.inference import predictor as predictor_module
from mesh_graphormer_hand.inference.detectors.base import Detection
from mesh_graphormer_hand.inference.media.outputs import write_all
from mesh_graphormer_hand.inference.media.sources import find_sources
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.fit import posed_mesh
from mesh_graphormer_hand.models.base import HandModelConfig
from mesh_graphormer_hand.skeleton import JOINT_NAMES, PERMUTATIONS

RED, GREEN = (130.0, 90.0), (210.0, 150.0)


def baseline(name: str, options: dict) -> HandPredictor:
    hand = hands.load("open")
    config = HandModelConfig(name=name, options=options, image_size=64, hand=hand.fingerprint_hex)
    return HandPredictor(assembly.plugin("models", name).build(config, hand), hand)


@pytest.fixture
def with_stub(monkeypatch):
    """The demo with a model that finds two dots."""
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots()))


@pytest.fixture
def image(tmp_path) -> Path:
    cv2.imwrite(str(tmp_path / "cup.png"), photo(RED, GREEN, height=240, width=400, sigma=8)[..., ::-1])
    return tmp_path / "cup.png"


@pytest.mark.parametrize("side", ["right", "left"])
def test_mesh_model_writes_picture_mesh_and_numbers(with_stub, image, tmp_path, capsys, side):
    out = tmp_path / "out"
    assert demo.main([str(image), "--out", str(out), "--side", side]) == 0
    said, *printed = capsys.readouterr().out.splitlines()
    assert said == f"{image}: 1 hand: probably a {side} hand (75% sure); detector: whole; weights: two_dots"
    printed = [Path(line) for line in printed]
    assert {p.name for p in printed} == {"cup_hand.png", "cup_hand.obj", "cup_hand.json"}
    assert {p.name for p in out.iterdir()} == {p.name for p in printed}  # no temporary file is left
    picture = cv2.imread(str(out / "cup_hand.png"))
    assert picture.shape[0] == 384 and picture.shape[1] > 2 * 640  # 400 x 240 at 640, twice, and the side view
    numbers = json.loads((out / "cup_hand.json").read_text())
    assert numbers["image_size"] == [400, 240] and numbers["model"] == "two_dots" and numbers["detector"] == "whole"
    (numbers,) = numbers["hands"]
    assert numbers["handedness"] == side
    assert numbers["hand"] == hands.load("open").fingerprint_hex
    np.testing.assert_allclose(numbers["joints_px"][0], RED, atol=0.7)
    wrist = np.array(numbers["camera"]["K"]) @ numbers["camera"]["wrist_m"]
    np.testing.assert_allclose(wrist[:2] / wrist[2], RED, atol=3)  # as perspective has it, not weak perspective
    mesh = trimesh.load(out / "cup_hand.obj", process=False)
    assert mesh.vertices.shape == (778, 3) and mesh.faces.shape == (1538, 3)


def test_meshes_of_all_formats_are_one(with_stub, image, tmp_path):
    """OBJ is written here, PLY by trimesh."""
    assert demo.main([str(image), "--out", str(tmp_path), "--save", "obj,ply", "--side", "left"]) == 0
    ours, theirs = (trimesh.load(tmp_path / f"cup_hand.{kind}", process=False) for kind in ("obj", "ply"))
    np.testing.assert_allclose(ours.vertices, theirs.vertices, atol=1e-7)
    np.testing.assert_array_equal(ours.faces, theirs.faces)


@pytest.mark.parametrize("side", ["right", "left"])
def test_parameters_say_whose_they_are(monkeypatch, image, tmp_path, side):
    """Other programs need no guess: which hand, which side, mirrored or not; a left hand has its own model's pose."""
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(), mesh="mano"))
    assert demo.main([str(image), "--out", str(tmp_path), "--save", "json,npz", "--side", side]) == 0
    told = json.loads((tmp_path / "cup_hand.json").read_text())
    right = hands.load("open")
    assert told["mano"]["hand"] == "open" and told["mano"]["fingerprint"] == right.fingerprint_hex
    order = [told["mano"]["order"][i] for i in PERMUTATIONS["mano"] if i < 16]
    assert told["mano"]["side"] == "right" and order == [n for n in JOINT_NAMES if not n.endswith("_tip")]
    (hand,) = told["hands"]
    shape = torch.tensor([hand["mano_shape"]])
    mesh = np.load(tmp_path / "cup_hand.npz")["vertices"][0]
    vertices = posed_mesh(right, torch.tensor([hand["mano_pose"]]), shape)[0][0].numpy()
    np.testing.assert_allclose(vertices * [-1 if hand["mano_mirrored"] else 1, 1, 1], mesh, atol=1e-5)
    assert hand["mano_mirrored"] == (side == "left")
    if side == "right":
        assert hand["mano_pose_left"] is None
    else:
        np.testing.assert_allclose(left_mesh(hand["mano_pose_left"], hand["mano_shape"]), mesh, atol=1e-5)


def test_two_hands_are_one_scene(monkeypatch, image, tmp_path):
    """As they stand before the camera, in one OBJ and one GLB."""
    monkeypatch.setattr(predictor_module, "without_duplicates", list)  # the picture has one hand
    found = [
        Detection(np.float32((100, 60, 240, 180)), 0.9, "left"),
        Detection(np.float32((60, 60, 220, 180)), 0.8, "right"),
    ]
    monkeypatch.setattr(
        HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(), detector=Finder(*found))
    )
    assert demo.main([str(image), "--out", str(tmp_path), "--save", "scene,json,npz"]) == 0
    arrays = np.load(tmp_path / "cup_hand.npz")
    wanted = (arrays["vertices"] + arrays["translation"][:, None]) * [1, -1, -1]
    glb = trimesh.load(tmp_path / "cup_hand_scene.glb", process=False)
    assert sorted(glb.geometry) == ["hand1_left", "hand2_right"]
    for name, points in zip(sorted(glb.geometry), wanted, strict=True):
        np.testing.assert_allclose(glb.geometry[name].vertices, points, atol=1e-6)
    lines = (tmp_path / "cup_hand_scene.obj").read_text().splitlines()
    assert [line for line in lines if line.startswith("o ")] == ["o hand1_left", "o hand2_right"]
    points = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(points, wanted.reshape(-1, 3), atol=1e-6)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], int) - 1
    assert (faces[1538:] - 778 == arrays["faces"][1]).all() and (faces[:1538] == arrays["faces"][0]).all()


def test_mesh_is_drawn_where_the_hand_is(with_stub, image, tmp_path):
    assert demo.main([str(image), "--out", str(tmp_path), "--box", "110,70,240,170"]) == 0
    picture = cv2.imread(str(tmp_path / "cup_hand.png")).astype(int)
    plain = cv2.resize(cv2.imread(str(image)), (640, 384), interpolation=cv2.INTER_CUBIC)
    changed = np.abs(picture[:, :640] - plain).sum(-1) > 60
    rows, columns = np.nonzero(changed)
    assert changed.sum() > 100
    assert rows.min() > 60 and rows.max() < 340 and columns.min() > 120 and columns.max() < 460


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("simple_baseline", {"channels": 8}, "joints_px"),
        ("hand_seg_net", {"convolutions": [1, 1], "channels": [4, 4], "head": [4, 4, 4]}, None),
    ],
)
def test_models_without_a_mesh(monkeypatch, image, tmp_path, name, options, field):
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: baseline(name, options))
    assert demo.main([str(image), "--out", str(tmp_path / "out")]) == 0
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".png", ".json"}
    numbers = json.loads((tmp_path / "out" / "cup_hand.json").read_text())
    (numbers,) = numbers["hands"]
    assert numbers["joints_m"] is None and numbers["camera"]["wrist_m"] is None and numbers["hand"] is None
    assert field is None or np.isfinite(numbers[field]).all()


def bad_files(folder: Path) -> dict[str, Path]:
    jpeg = cv2.imencode(".jpg", photo(RED, GREEN, 240, 400, 8))[1].tobytes()
    contents = {
        "empty.jpg": b"", "cut.jpg": jpeg[: len(jpeg) // 2], "text.jpg": b"not an image\n" * 9,
        "cut.png": b"\x89PNG\r\n\x1a\n" + bytes(20),
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {**{name: folder / name for name in contents}, "missing": folder / "none.jpg"}


@pytest.mark.parametrize("kind", ["empty.jpg", "cut.jpg", "text.jpg", "cut.png", "missing"])
def test_bad_images_are_told_in_one_line(with_stub, tmp_path, capsys, kind):
    assert demo.main([str(bad_files(tmp_path)[kind]), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "5,5,2,9", "900,900,950,950", "nan,0,5,5"])
def test_bad_boxes_are_told_in_one_line(with_stub, image, tmp_path, capsys, box):
    assert demo.main([str(image), "--out", str(tmp_path / "out"), "--box", box]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.full((1, 1, 3), 128, np.uint8), np.full((1, 900, 3), 128, np.uint8), np.full((60, 80), 128, np.uint8),
        np.full((60, 80, 4), 128, np.uint8), np.full((60, 80, 3), 30000, np.uint16),
        np.full((4000, 5000, 3), 128, np.uint8),
    ],
    ids=["1x1", "1x900", "grey", "alpha", "16 bit", "20 megapixel"],
)  # fmt: skip
def test_odd_images_work(monkeypatch, tmp_path, array):
    options = {"convolutions": [1, 1], "channels": [4, 4], "head": [4, 4, 4]}
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *a, **k: baseline("hand_seg_net", options))
    cv2.imwrite(str(tmp_path / "odd.png"), array)
    assert demo.main([str(tmp_path / "odd.png"), "--out", str(tmp_path / "out")]) == 0
    picture = cv2.imread(str(tmp_path / "out" / "odd_hand.png"))
    assert picture is not None and max(picture.shape) < 8000


def test_mesh_on_a_dot_of_a_photo(with_stub, tmp_path):
    """No hand to be seen, and no room for one: still a picture and numbers."""
    cv2.imwrite(str(tmp_path / "odd.png"), np.full((1, 1, 3), 128, np.uint8))
    assert demo.main([str(tmp_path / "odd.png"), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "odd_hand.json").read_text())["image_size"] == [1, 1]


def test_no_place_to_write(image, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert demo.main([str(image), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_unknown_weights(image, tmp_path, capsys):
    assert demo.main([str(image), "--weights", "nowhere", "--out", str(tmp_path / "out")]) == 2
    assert "no model in nowhere" in capsys.readouterr().err


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", lambda *a, **k: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(PermissionError):
        write_all(tmp_path / "out", "a", {".png": b"1", ".json": b"2"})
    assert list((tmp_path / "out").iterdir()) == []


def test_help_is_instant_and_loads_no_torch():
    code = (
        "import sys; from mesh_graphormer_hand.cli import demo\ntry: demo.main(['--help'])\nexcept SystemExit: pass\n"
    )
    code += "assert 'torch' not in sys.modules and 'cv2' not in sys.modules"
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--box" in done.stdout and time.perf_counter() - start < 3  # 0.1 s on an idle machine


def test_default_weights_are_the_shipped_ones():
    assert predictor.DEFAULT_WEIGHTS == "graphormer_lite"


BOX = np.float32([110, 70, 240, 170])


def with_detector(monkeypatch, *found):
    monkeypatch.setattr(
        HandPredictor, "from_pretrained", lambda *a, **k: HandPredictor(TwoDots(), detector=Finder(*found))
    )


def test_every_kind_of_file_of_two_hands(monkeypatch, image, tmp_path):
    monkeypatch.setattr(predictor_module, "without_duplicates", list)  # the picture has one hand
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8), Detection(BOX + 4, 0.6, "right", 0.9))
    assert demo.main([str(image), "--out", str(tmp_path / "out"), "--save", "all"]) == 0
    names = {p.name.removeprefix("cup_hand") for p in (tmp_path / "out").iterdir()}
    meshes = {f"{i}.{kind}" for i in (1, 2) for kind in ("obj", "glb", "ply")}
    pictures = {".png", "_depth.png", "_depth_colour.png", "_normals.png", "_mask.png"}
    pictures |= {"_scene.obj", "_scene.glb"}
    assert names == meshes | pictures | {".json", ".npz"}
    hands = json.loads((tmp_path / "out" / "cup_hand.json").read_text())["hands"]
    assert [h["handedness"] for h in hands] == ["left", "right"] and hands[0]["handedness_score"] == 0.8
    np.testing.assert_allclose(hands[0]["box"], BOX)
    depth = cv2.imread(str(tmp_path / "out" / "cup_hand_depth.png"), cv2.IMREAD_UNCHANGED)
    mask = cv2.imread(str(tmp_path / "out" / "cup_hand_mask.png"), cv2.IMREAD_UNCHANGED)
    assert depth.shape == mask.shape == (240, 400) and depth.dtype == np.uint16
    assert ((depth > 0) == (mask > 0)).all() and mask.max() == 2
    near = np.median(depth[depth > 0]) * 1e-4
    assert near == pytest.approx(hands[0]["camera"]["wrist_m"][2], rel=0.2)
    arrays = np.load(tmp_path / "out" / "cup_hand.npz")
    assert arrays["vertices"].shape == (2, 778, 3) and arrays["side"].tolist() == ["left", "right"]
    for kind in ("glb", "ply"):
        mesh = trimesh.load(tmp_path / "out" / f"cup_hand1.{kind}", force="mesh")
        assert mesh.volume > 0 and len(mesh.faces) == 1538, "inside out or torn"


def test_no_hand_is_told_and_not_drawn(monkeypatch, image, tmp_path, capsys):
    with_detector(monkeypatch)
    assert demo.main([str(image), "--out", str(tmp_path), "--save", "all"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert (
        "no hand found (detector: finder; weights: two_dots)" in said and "--detector mediapipe, boxes or whole" in said
    )
    assert json.loads((tmp_path / "cup_hand.json").read_text())["hands"] == []
    assert not list(tmp_path.glob("*.obj")) and cv2.imread(str(tmp_path / "cup_hand_mask.png")).max() == 0


def answers(printed: str) -> list[str]:
    """Names of the JSON files that a call wrote."""
    return [Path(line).name for line in printed.splitlines() if line.endswith("_hand.json")]


def test_a_folder_goes_on_where_it_stopped(monkeypatch, image, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "a.jpg"):
        cv2.imwrite(str(folder / name), cv2.imread(str(image)))
    (folder / "c.jpg").write_bytes(b"no photo")
    (folder / "notes.txt").write_text("not looked at")
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8))
    run = [str(folder), "--out", str(out), "--save", "json"]
    assert demo.main(run) == 2  # for c.jpg
    captured = capsys.readouterr()
    assert "c.jpg is not an image" in captured.err and "1 of 4 could not be used" in captured.err
    assert {p.name for p in out.iterdir()} == {"a.png_hand.json", "a.jpg_hand.json", "b_hand.json"}
    (out / "b_hand.json").unlink()
    (folder / "c.jpg").unlink()
    assert demo.main(run) == 0
    told = capsys.readouterr().out
    assert (
        answers(told) == ["b_hand.json"] and told.count("done before with the same content, settings and models") == 2
    )
    assert demo.main([*run, "--side", "right"]) == 0  # other settings: everything anew
    assert len(answers(capsys.readouterr().out)) == 3
    assert demo.main([str(folder / "*.jpg"), "--out", str(out), "--save", "json", "--overwrite"]) == 0
    assert len(answers(capsys.readouterr().out)) == 2


def test_the_old_name_of_overwrite_is_answered_by_the_new_one(capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["photo.jpg", "--again"])
    assert stop.value.code == 2 and "error: --again is now --overwrite" in capsys.readouterr().err


def test_other_weights_backends_and_photos_are_not_done(monkeypatch, image, tmp_path, capsys):
    """A name says neither which weights lie behind it now, nor in which folder a photo lay."""
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8))
    weights, out = tmp_path / "mine", tmp_path / "out"
    weights.mkdir()
    (weights / "config.json").write_text('{"options": {}}')
    for folder, name in itertools.product(("one", "two"), ("a.png", "b.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / folder / name)

    def written(*more: str, folder: str = "one") -> int:
        run = [str(tmp_path / folder), "--out", str(out), "--save", "json", "--weights", str(weights)]
        assert demo.main([*run, *more]) == 0
        return len(answers(capsys.readouterr().out))

    for content in (b"trained", b"retrained"):
        (weights / "model.safetensors").write_bytes(content)
        assert written() == 2 and written() == 0
    (weights / "model.onnx").write_bytes(b"exported")
    assert written("--backend", "onnx") == 2 and written("--backend", "onnx") == 0
    (weights / "model.onnx").write_bytes(b"exported anew")
    assert written("--backend", "onnx") == 2
    assert written("--backend", "onnx", folder="two") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}", "--save", "obi"], "no kind 'obi', did you mean 'obj'"),
        (["{}", "--save", ","], "names nothing"),
        (["{}", "--K", "1,2"], "fx,fy,cx,cy"),
        (["{}", "--every", "0"], "1 or more"),
        (["{}", "--box", "1,2,30,40", "--detector", "whole"], "--box goes with"),
        (["{}", "--focal", "-3"], "focal should be a positive number"),
        (["{}", "--bone-length", "nan"], "bone_length should be a positive number"),
        (["{}", "--detector", "boxes"], "needs boxes"),
        (["{}", "--detector", "mediapipe"], "hand_landmarker.task"),
        (["{}", "--detector", "mediapipe", "--detector-model", "no.task"], "no.task: no such file"),
        (["{}", "--detector", "mediapipe", "--detector-python", "no/python"], "no/python: no such file"),
        (["{}", "--detector", "ours", "--detector-model", "graphormer_lite"], "is no hand detector"),
        (["nowhere/*.jpg"], "no file matches"),
        (["{dir}"], "without a photo or video"),
        (["{}", "99"], "stands alone"),
        (["99"], "camera 99 is not there"),
    ],
)  # fmt: skip
def test_bad_arguments_are_told_in_one_line(with_stub, image, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    arguments = [a.replace("{}", str(image)).replace("{dir}", str(tmp_path / "empty")) for a in arguments]
    assert demo.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_new_picture_under_an_old_name_is_new(monkeypatch, image, tmp_path, capsys):
    """Of the same size in bytes, and copied with its old time: the content counts, and nothing else."""
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8))
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.bmp", "b.bmp"):
        cv2.imwrite(str(folder / name), cv2.imread(str(image)))
    run, before = [str(folder), "--out", str(out), "--save", "json"], (folder / "a.bmp").stat()
    assert demo.main(run) == 0
    first = json.loads((out / "a_hand.json").read_text())["hands"][0]["joints_px"][0]
    cv2.imwrite(str(folder / "a.bmp"), np.roll(cv2.imread(str(image)), 9, axis=1))
    os.utime(folder / "a.bmp", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / "a.bmp").stat().st_size == before.st_size
    capsys.readouterr()
    assert demo.main(run) == 0
    assert answers(capsys.readouterr().out) == ["a_hand.json"]
    assert json.loads((out / "a_hand.json").read_text())["hands"][0]["joints_px"][0] != first


def test_folders_of_one_name_keep_their_own_answers(monkeypatch, image, tmp_path, capsys):
    """Two folders called frames, each named from its own place, with one --out."""
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8))
    out = tmp_path / "out"
    for place in ("one", "two", "one", "two"):
        folder = tmp_path / place / "frames"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(folder / name), cv2.imread(str(image)))
        monkeypatch.chdir(folder.parent)
        assert demo.main(["frames", "--out", str(out), "--save", "json"]) == 0
    assert len(answers(capsys.readouterr().out)) == 4, "the third and fourth call find theirs done"
    owners = {p.name: json.loads(p.read_text())["input"]["path"] for p in out.iterdir()}
    assert owners == {
        f"{name}{number}_hand.json": str(tmp_path / place / "frames" / f"{name}.png")
        for name, (place, number) in itertools.product("ab", [("one", ""), ("two", "-2")])
    }


def test_another_programs_json_is_no_answer(monkeypatch, image, tmp_path):
    """LabelMe writes my_hand.json beside my_hand.jpg: the photo is one, and the file stays as it is."""
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.8))
    labels = json.dumps({"version": "5.0", "shapes": [], "imagePath": "my_hand.png"})
    for name in ("my_hand.png", "my.png"):
        shutil.copy(image, tmp_path / name)
    (tmp_path / "my_hand.json").write_text(labels)
    run = [str(tmp_path), "--out", str(tmp_path), "--save", "json"]
    assert {p.name for p in find_sources(run[:1])} == {"cup.png", "my_hand.png", "my.png"}
    assert demo.main(run) == 0
    assert (tmp_path / "my_hand.json").read_text() == labels
    assert {p.name for p in tmp_path.glob("my*.json")} == {"my_hand.json", "my_hand_hand.json", "my-2_hand.json"}


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".mpo", ".avif", ".gif", ".apng", ".dib", ".pnm", ".ras"])
def test_every_format_that_is_read_is_found_in_a_folder(image, tmp_path, suffix):
    kind = {".jfif": ".jpg", ".mpo": ".jpg"}.get(suffix, suffix)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / f"a{suffix.upper()}").write_bytes(cv2.imencode(kind, cv2.imread(str(image)))[1].tobytes())
    (found,) = find_sources([str(folder)])
    assert read_image(found).shape == (240, 400, 3)


def test_an_ambiguous_side_is_said(monkeypatch, image, tmp_path, capsys):
    with_detector(monkeypatch, Detection(BOX, 0.9, "left", 0.6))
    assert demo.main([str(image), "--out", str(tmp_path), "--save", "json,npz"]) == 0
    assert "1 hand: probably a left hand (75% sure, side unsure: 60%)" in capsys.readouterr().out
    (hand,) = json.loads((tmp_path / "cup_hand.json").read_text())["hands"]
    assert hand["handedness_unsure"] is True and hand["handedness_score"] == 0.6
    assert np.load(tmp_path / "cup_hand.npz")["side_score"].tolist() == pytest.approx([0.6])
