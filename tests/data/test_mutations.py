"""Random damage to every reader's label files: a message or the right numbers, never a wrong one and no traceback."""

import copy
import io
import json
import pickle
import random
import shutil
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import photo_sets
from helpers.dataset_fixtures import OPEN, OPTIONS, WRITERS, write_json
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import generate
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.data.axes import photo_cameras
from mesh_graphormer_hand.data.datasets import folder as folder_reader
from mesh_graphormer_hand.data.images import read_image
from mesh_graphormer_hand.data.readers import boxed_photos, file_dataset
from mesh_graphormer_hand.geometry.crops import apply_affine
from mesh_graphormer_hand.geometry.viewing import turn_points

SIZE, PART = 32, 16
FOLDER = "folder"
LABELS = {  # of the test split
    "freihand": "evaluation_*.json",
    "interhand26m": "annotations/test/*.json",
    "rhd": "evaluation/*.pickle",
    "ho3d": "evaluation*.json evaluation/*/meta/*.pkl",
    "dexycb": "*/*/*/labels_*.npz",
    "coco_wholebody": "annotations/*val*.json",
    "coco": "annotations/*val.json",
    "halpe": "halpe_val_v1.json",
    "panoptic": "hand_labels/manual_test/*.json",
    "onehand10k": "Test/label_joint.txt",
    "hiu_dmtl": "*.json",
    "hint": "TEST*/*.json",
    FOLDER: "keypoints.json",
    "webdataset": "*.tar",
    "hand_frames": "people/frames.json listed/keypoints.json virtual/annotations/*.json",
    "no_hands": "people/frames.json",
}
ALL_OF_IT: dict[str, dict[str, Any]] = {"hiu_dmtl": {"shares": [0.0, 0.0, 1.0]}}
ALL_OF_IT |= {"hand_frames": {"sets": ["people", "listed", "virtual"], "hold_out": [4, 2, 2]}}
ALL_OF_IT |= {"no_hands": {"sets": ["people"]}}
SIDES = {"hand_frames": 64}  # px, of frames: smaller boxes are none
# what no reader can know to be wrong: a shape of MANO turned into its opposite, a hand that is not said to be left
UNKNOWABLE = {("shape", "sign"), ("handedness", "null"), ("is_left", "null"), ("human_boxes", "drop")}
# what no reader looks at, or what names a sample and changes no label
UNREAD = {"scale", "area", "num_keypoints", "id", "seq_name", "subject", "frame_idx", "info", "head_size", "objpos"}
UNREAD |= {"pts3d_2hand", "pts3d_w_2hand", "scale_provided", "dataset", "objRot", "objName", "score", "hand_box_center"}


def write_folder(root: Path) -> None:
    """COCO's fixture as `folder` has it: 2D, 3D, camera, side."""
    WRITERS["coco"](root)
    content = json.loads((root / "annotations/hands_val.json").read_text())
    images = {i["id"]: i for i in content["images"]}
    labels: dict[str, list] = {}
    order = np.array(folder_reader.PERMUTATIONS["rhd"])
    for a in content["annotations"]:
        image = images[a["image_id"]]
        points = np.reshape(a["keypoints"], (21, 3))[order, :2]
        hand = {"keypoints_px": points, "joints_m": np.array(a["joints_m"])[order], "K": image["K"]}
        hand |= {"handedness": ("right", "left")[a["category_id"]]}
        labels.setdefault(f"images/val/{image['file_name']}", []).append(hand)
    write_json(root / "keypoints.json", labels)


def write_photo_sets(root: Path) -> None:
    for name, write in (("people", photo_sets.frames), ("listed", photo_sets.crops), ("virtual", photo_sets.coco)):
        (root / name).mkdir()
        write(root / name)


def write_tar(root: Path) -> None:
    """Three generated hands with every label, some of them left."""
    command = ["virtual", "--out", str(root), "--count", "3", "--image-size", str(SIZE), "--workers", "0"]
    assert generate.main([*command, "--hand", "open", "--left-fraction", "0.5"]) == 0


MAKERS = WRITERS | {FOLDER: write_folder, "webdataset": write_tar}
MAKERS |= {"hand_frames": write_photo_sets, "no_hands": write_photo_sets}


def read(path: Path) -> Any:
    data = path.read_bytes()
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            files = {m.name: tar.extractfile(m).read() for m in tar}
        return {n: dict(np.load(io.BytesIO(c))) if n.endswith(".npz") else c for n, c in files.items()}
    if path.suffix == ".json":
        return json.loads(data)
    if path.suffix == ".npz":
        return dict(np.load(io.BytesIO(data)))
    if path.suffix == ".txt":
        return [[c if i == 0 else int(c) for i, c in enumerate(line.split(","))] for line in data.decode().split()]
    return pickle.loads(data)


def write(path: Path, content: Any) -> None:
    if path.suffix == ".json":
        write_json(path, content)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for name, value in content.items():
                data = value if isinstance(value, bytes) else _npz(value)
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    elif path.suffix == ".npz":
        path.write_bytes(_npz(content))
    elif path.suffix == ".txt":
        lines = [line if isinstance(line, list) else [line] for line in content]
        path.write_text("\n".join(",".join(map(str, cells)) for cells in lines) + "\n")
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))


def _npz(content: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{k: np.asarray(v) for k, v in content.items() if not _objects(v)})
    return file.getvalue()


def _objects(value: Any) -> bool:
    return value is None or np.asarray(value, dtype=object).ndim and np.asarray(value).dtype.kind in "OU"


def numeric(value: Any) -> np.ndarray | None:
    """A label that is an array of numbers."""
    if isinstance(value, list | np.ndarray) and np.size(np.asarray(value, dtype=object)):
        try:
            array = np.asarray(value)
        except ValueError:
            return None
        return array if array.dtype.kind in "iuf" and array.size > 1 else None
    return None


def places(content: Any, under: str = "") -> list[tuple[Any, Any, str]]:
    """(container, key, name) of every label and every single value that is read."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    found = []
    for key, value in list(items):
        name = key if isinstance(key, str) else under
        if name in UNREAD or name == "seg" or isinstance(value, bytes):
            continue
        if numeric(value) is not None or not isinstance(value, dict | list):
            found.append((content, key, name))
        else:
            found += places(value, name)
    return found


def damaged(value: Any, how: random.Random) -> tuple[str, Any]:
    """A label with one of the mistakes that people make, and its name."""
    array = numeric(value)
    if array is None:
        return how.choice([("text", "left out"), ("null", None), ("list", [1]), ("number", -1.5)])
    flat = array.astype(float).ravel()
    spot, kind = (
        how.randrange(flat.size),
        how.choice(("mm", "m", "sign", "nan", "text", "drop", "null", "one", "zeros")),
    )
    if kind in ("mm", "m", "sign"):
        return kind, (array * {"mm": 1000.0, "m": 0.001, "sign": -1.0}[kind]).tolist()
    if kind == "zeros":
        return kind, (array * 0).tolist()
    if kind in ("nan", "one", "text"):
        numbers = flat.tolist()
        numbers[spot] = {"nan": float("nan"), "one": 1000 * numbers[spot] + 1000, "text": "x"}[kind]
        return kind, np.array(numbers, dtype=object).reshape(array.shape).tolist()
    return kind, None if kind == "null" else array[:-1].tolist()


def view(batch) -> dict[str, dict[str, torch.Tensor]]:
    """What is said about each sample, in the photo's and the camera's frames; NaN where it is not known."""
    if batch.targets.joints is None:
        return view_boxes(batch)
    said, (_, axes, _) = {}, photo_cameras(batch)
    for row, key in enumerate(batch.keys):
        t, one = batch[row].targets, {}
        place = torch.eye(2, 3) if batch.image_from_crop is None else batch.image_from_crop[row]
        points = apply_affine(t.joints_2d, place)
        one["points"] = torch.where(t.joints_2d_valid[:, None], points, torch.nan)
        one["joints"] = torch.where(t.joints_valid[:, None], turn_points(t.joints, axes[row]), torch.nan)
        one["root"] = torch.where(t.root_valid, turn_points(t.root[None], axes[row])[0], torch.nan)
        if t.vertices is not None:
            one["vertices"] = torch.where(t.vertices_valid, turn_points(t.vertices, axes[row]), torch.nan)
        one["left"] = t.is_left.float()[None]
        said[key] = one
    return said


def view_boxes(batch) -> dict[str, dict[str, torch.Tensor]]:
    """Of whole photos: where their hands are. Of squares without hands: which of the photo's hands they touch."""
    said = {}
    for row, key in enumerate(batch.keys):
        t = batch[row].targets
        if t.boxes is not None:
            sure = t.boxes_valid & ~t.boxes_unsure
            left = torch.where(sure & t.boxes_left_valid, t.boxes_left.float(), torch.nan)
            said[key] = {"boxes": torch.where(sure[:, None], t.boxes, torch.nan), "left": left}
        else:
            corners = apply_affine(torch.tensor([[0.0, 0.0], [SIZE, SIZE]]), batch.image_from_crop[row])
            hands = torch.tensor([photo_sets.BOX, photo_sets.OTHER][: 1 + int(key[0]) % 2])
            apart = (hands[:, :2] >= corners[1]) | (hands[:, 2:] <= corners[0])
            said[key] = {"touched": (~apart.any(1)).any().float()[None]}
    return said


def wrong(clean: dict, now: dict) -> list[str]:
    """Which numbers of samples that are there in both differ; what is not known any more is not wrong."""
    found = []
    for key in clean.keys() & now.keys():
        for name, before in clean[key].items():
            after = now[key].get(name, torch.full_like(before, torch.nan))
            tolerance = 0.5 if name == "points" else 1e-3
            if ((after - before).abs() > tolerance).any() or (after.isfinite() & ~before.isfinite()).any():
                found.append(f"{key}: {name}")
    return found


def load(name: str, root: Path):
    shutil.rmtree(root / ".mesh_graphormer_hand", ignore_errors=True)
    options = {"root": str(root), **OPTIONS.get(name, {}), **ALL_OF_IT.get(name, {})}
    dataset = assembly.build_dataset(name, options, "test", OPEN, SIDES.get(name, SIZE))
    return dataset.load(list(range(len(dataset))))


def outcomes(name: str, root: Path, seeds: range) -> list[tuple[str, str]]:
    """What each mutation did: (its name, "message" | "right" | what went wrong)."""
    clean = view(load(name, root))
    files = sorted(p for pattern in LABELS[name].split() for p in root.glob(pattern))
    contents = {p: (p.read_bytes(), read(p)) for p in files}
    found = []
    for seed in seeds:
        how = random.Random(f"{name} {seed}")
        path = how.choice(files)
        content = copy.deepcopy(contents[path][1])
        container, key, label = how.choice(places(content))
        kind, container[key] = damaged(container[key], how)
        if (label, kind) in UNKNOWABLE:
            continue
        write(path, content)
        try:
            said = wrong(clean, view(load(name, root)))
            result = f"wrong {', '.join(said)}" if said else "right"
        except ConfigError:
            result = "message"
        path.write_bytes(contents[path][0])
        found.append((f"{seed}: {path.name} {label}[{key}] {kind}", result))
    return found


@pytest.fixture
def pictures_stay(monkeypatch):
    """Each picture is decoded once: only labels are damaged here."""
    once = lru_cache(maxsize=None)(read_image)
    monkeypatch.setattr(file_dataset, "read_image", once)
    monkeypatch.setattr(folder_reader, "read_image", once)
    monkeypatch.setattr(boxed_photos, "read_image", once)


@pytest.mark.parametrize("part", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3))])
@pytest.mark.parametrize("name", LABELS)
def test_mutations(name, part, tmp_path, pictures_stay):
    """64 of each reader: 16 in a usual run, the others with -m slow."""
    MAKERS[name](tmp_path)
    found = outcomes(name, tmp_path, range(PART * part, PART * part + PART))
    assert [f for f in found if f[1] not in ("message", "right")] == []
    assert any(result == "message" for _, result in found)


if __name__ == "__main__":
    import sys
    import tempfile
    import time

    for name in sys.argv[1:] or LABELS:
        began = time.time()
        with tempfile.TemporaryDirectory() as place:
            MAKERS[name](Path(place))
            try:
                found = outcomes(name, Path(place), range(64))
            except Exception:
                import traceback

                traceback.print_exc()
                continue
        print(name, {r: sum(f[1] == r for f in found) for r in ("message", "right")}, f"{time.time() - began:.0f} s")
        for f in found:
            if f[1] not in ("message", "right"):
                print("   ", *f)
