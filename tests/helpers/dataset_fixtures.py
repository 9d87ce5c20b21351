"""Official data sets in miniature: files in each one's exact layout, made from the open hand in random poses.

A writer `write_NAME(root)` returns the truth about every hand by sample key. A picture is dark with a bright dot on
each joint, so that labels can be checked against content.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.layer import ManoLayer
from mesh_graphormer_hand.skeleton import JOINT_NAMES, PERMUTATIONS

OPEN = hands.load("open")
MIRROR = np.array([-1.0, 1.0, 1.0])
SOURCES = {name: np.array(order) for name, order in PERMUTATIONS.items()}


@dataclass
class Truth:
    """One hand: px of the picture, m, camera axes, canonical order, its own side (not mirrored)."""

    is_left: bool
    joints: np.ndarray  # 21 3
    points: np.ndarray  # 21 2
    vertices: np.ndarray  # 778 3
    pose: np.ndarray  # 16 3, mean pose included
    shape: np.ndarray  # 10
    translation: np.ndarray  # 3, of the layer's answer
    rest_wrist: np.ndarray  # 3, about which the layer turns
    intrinsics: np.ndarray  # 3 3
    known: np.ndarray = field(default_factory=lambda: np.ones(21, bool))  # joints with a label
    has_3d: bool = True
    has_mesh: bool = False

    @property
    def side(self) -> str:
        return "left" if self.is_left else "right"


def camera(focal: float, width: int, height: int) -> np.ndarray:
    return np.array([[focal, 0, width / 2 + 3], [0, focal * 1.01, height / 2 - 4], [0, 0, 1]], float)


@lru_cache(maxsize=1)
def layer() -> ManoLayer:
    return ManoLayer(use_pca=False, flat_hand_mean=True, hand=OPEN).double()


def make_hand(seed: int, side: str, intrinsics: np.ndarray, at: tuple[float, float], depth: float, **more) -> Truth:
    """A hand whose joints' middle is seen at the pixel `at`, `depth` m away."""
    random = np.random.default_rng(seed)
    is_left = side == "left"
    mirror = MIRROR if is_left else np.ones(3)
    pose = np.concatenate([random.normal(0, 1.2, 3), OPEN.hands_mean + random.normal(0, 0.12, 45)]).reshape(16, 3)
    shape = random.normal(0, 0.5, 10)
    right = torch.from_numpy(pose).reshape(1, 48)
    vertices, joints = (t[0].numpy() * mirror for t in layer()(right, torch.from_numpy(shape)[None]))
    ray = np.linalg.solve(intrinsics, [*at, 1.0])
    translation = ray * depth - joints.mean(0)
    rest_wrist = (OPEN.joint_regressor[0] @ (OPEN.v_template + OPEN.shapedirs @ shape.astype(np.float32))) * mirror
    joints, vertices = joints + translation, vertices + translation
    uvw = joints @ intrinsics.T
    own = pose * (-MIRROR if is_left else 1)
    points = uvw[:, :2] / uvw[:, 2:]
    return Truth(is_left, joints, points, vertices, own, shape, translation, rest_wrist, intrinsics, **more)


def picture(hands_in_it: list[Truth], width: int, height: int) -> np.ndarray:
    """BGR: dark, a dot of 2 px on each joint."""
    image = np.full((height, width), 20.0)
    for u, v in np.concatenate([hand.points for hand in hands_in_it]):
        top, left = max(int(v) - 9, 0), max(int(u) - 9, 0)
        near = image[top : top + 19, left : left + 19]  # a view
        y, x = np.mgrid[top : top + near.shape[0], left : left + near.shape[1]] + 0.5
        np.maximum(near, 255 * np.exp(-((x - u) ** 2 + (y - v) ** 2) / 8), out=near)
    return np.repeat(image.astype(np.uint8)[..., None], 3, -1)


def hull(hand: Truth, width: int, height: int) -> np.ndarray:
    """A mask: the convex hull of the vertices."""
    uvw = hand.vertices @ hand.intrinsics.T
    corners = cv2.convexHull((uvw[:, :2] / uvw[:, 2:]).astype(np.int32))
    return cv2.fillConvexPoly(np.zeros((height, width), np.uint8), corners, 255)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, 97] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), image, options)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, default=lambda a: np.asarray(a).tolist()))


def less_mean(hand: Truth) -> np.ndarray:
    """The pose as 48 numbers without the mean pose of its side."""
    mean = OPEN.hands_mean * np.tile(-MIRROR if hand.is_left else np.ones(3), 15)
    return np.concatenate([hand.pose[0], hand.pose[1:].reshape(-1) - mean])


def to_source(joints: np.ndarray, order: str) -> np.ndarray:
    """Canonical joints in the order of a data set: canonical = source[permutation]."""
    source = np.empty_like(joints)
    source[SOURCES[order]] = joints
    return source


def write_freihand(root: Path, unique: int = 3, versions: int = 4) -> dict[str, Truth]:
    k, truths = camera(480, 224, 224), {}
    for folder, count, copies in (("training", unique, versions), ("evaluation", 2, 1)):
        made = [make_hand(s + (folder == "training") * 10, "right", k, (112, 112), 0.55) for s in range(count)]
        for number in range(count * copies):
            hand = made[number % count]
            hand.has_mesh = True
            save(root / folder / "rgb" / f"{number:08d}.jpg", picture([hand], 224, 224))
            truths[f"{folder}/{number:08d}"] = hand
        if folder == "training":
            for number, hand in enumerate(made):
                save(root / folder / "mask" / f"{number:08d}.jpg", hull(hand, 224, 224))
        tables = {
            "K": [k] * count,
            "xyz": [h.joints for h in made],
            "verts": [h.vertices for h in made],
            "scale": [float(np.linalg.norm(h.joints[9] - h.joints[10])) for h in made],
            "mano": [[np.concatenate([less_mean(h), h.shape, h.points[9], [480 / h.joints[9, 2]]])] for h in made],
        }
        for name, rows in tables.items():
            write_json(root / f"{folder}_{name}.json", [np.asarray(r).tolist() for r in rows])
    return truths


CAPTURE, CAMERA = "0", "400026"


def write_interhand26m(root: Path, fits: bool = True) -> dict[str, Truth]:
    width, height, k = 334, 512, camera(1400, 334, 512)
    rotation = axis_angle_to_matrix(torch.tensor([0.3, -1.1, 0.4], dtype=torch.float64)).numpy()
    position = np.array([812.0, -345.0, 190.0])  # mm
    truths: dict[str, Truth] = {}
    for part, seed in (("train", 20), ("val", 30), ("test", 40)):
        moments = [
            ("0000_neutral", 7, [make_hand(seed, "right", k, (170, 250), 1.1)]),
            ("0000_neutral", 8, [make_hand(seed + 1, "left", k, (170, 250), 1.1)]),
            ("0001_both", 9, [make_hand(seed + 2 + i, s, k, (170, 150 + 200 * i), 1.2) for i, s in enumerate(SIDES)]),
        ]
        moments[0][2][0].known[6] = False  # an invalid joint
        data: dict[str, list] = {"images": [], "annotations": []}
        joints_3d: dict[str, dict] = {}
        fitted: dict[str, dict] = {}
        for number, (sequence, frame, pair) in enumerate(moments):
            name = f"Capture{CAPTURE}/{sequence}/cam{CAMERA}/image{frame}.jpg"
            save(root / "images" / part / name, picture(pair, width, height))
            world, valid = np.full((42, 3), 1.0), np.zeros(42, int)
            for hand in pair:
                start = 21 * hand.is_left
                own = to_source(hand.joints * 1000 @ rotation + position, "interhand")
                seen = to_source(hand.known.astype(int), "interhand")
                world[start : start + 21] = np.where(seen[:, None] > 0, own, 1.0)
                valid[start : start + 21] = seen
                hand.has_mesh = fits
                truths[f"{part}/{name}#{500 + number}_{hand.side}"] = hand
            kind = pair[0].side if len(pair) == 1 else "interacting"
            low = np.min([h.points.min(0) for h in pair], 0)
            high = np.max([h.points.max(0) for h in pair], 0)
            about = {"id": 100 + number, "file_name": name, "width": width, "height": height, "capture": int(CAPTURE)}
            about |= {"subject": 0, "seq_name": sequence, "camera": CAMERA, "frame_idx": frame}
            data["images"].append(about)
            data["annotations"].append(
                {
                    "id": 500 + number,
                    "image_id": 100 + number,
                    "bbox": [*low, *(high - low)],
                    "joint_valid": valid[:, None].tolist(),
                    "hand_type": kind,
                    "hand_type_valid": 1,
                }
            )
            joints_3d[str(frame)] = {
                "world_coord": world.tolist(),
                "joint_valid": valid[:, None].tolist(),
                "hand_type": kind,
                "hand_type_valid": True,
            }
            fitted[str(frame)] = {"right": None, "left": None}
            for hand in pair:
                fitted[str(frame)][hand.side] = _world_fit(hand, rotation, position / 1000)
        stem = root / "annotations" / part / f"InterHand2.6M_{part}"
        cameras = {"campos": position, "camrot": rotation, "focal": k[[0, 1], [0, 1]], "princpt": k[:2, 2]}
        write_json(Path(f"{stem}_data.json"), data)
        write_json(Path(f"{stem}_camera.json"), {CAPTURE: {n: {CAMERA: v} for n, v in cameras.items()}})
        write_json(Path(f"{stem}_joint_3d.json"), {CAPTURE: joints_3d})
        if fits:
            write_json(Path(f"{stem}_MANO_NeuralAnnot.json"), {CAPTURE: fitted})
    return truths


SIDES = ("right", "left")


def _world_fit(hand: Truth, rotation: np.ndarray, position: np.ndarray) -> dict[str, list]:
    """The fit in world axes: the wrist turns about its rest place, which the translation has to make up for."""
    turn = rotation.T @ axis_angle_to_matrix(torch.from_numpy(hand.pose[0])).numpy()
    pose = less_mean(hand)
    pose[:3] = matrix_to_axis_angle(torch.from_numpy(turn)).numpy()
    shift = rotation.T @ (hand.rest_wrist + hand.translation) + position - hand.rest_wrist
    return {"pose": pose.tolist(), "shape": hand.shape.tolist(), "trans": shift.tolist()}


def write_rhd(root: Path) -> dict[str, Truth]:
    size, k, truths = 320, camera(283, 320, 320), {}
    for folder, seed in (("training", 50), ("evaluation", 60)):
        labels = {}
        for number in range(3):
            left = make_hand(seed + number, "left", k, (100, 160), 0.42)
            right = make_hand(seed + number + 5, "right", k, (215, 150), 0.42)
            left.known, right.known = np.ones(21, bool), np.ones(21, bool)
            folder_path, name = root / folder, f"{number:05d}.png"
            mask = np.ones((size, size), np.uint8)  # a person
            dominant = left if number == 1 else right
            for hand, margin in ((right if dominant is left else left, 25), (dominant, 1)):
                inside = cv2.erode(hull(hand, size, size), np.ones((margin, margin))) > 0
                mask[inside] = 5 if hand.is_left else 20
            save(folder_path / "color" / name, picture([left, right], size, size))
            save(folder_path / "mask" / name, mask)
            metres = np.full((size, size), 0.5 + 0.1 * number) / 5 * 65535
            steps = metres.astype(np.uint16)
            save(folder_path / "depth" / name, np.stack([steps * 0, steps & 255, steps >> 8], -1).astype(np.uint8))
            uv = np.concatenate([to_source(h.points, "rhd") for h in (left, right)])
            seen = np.ones((42, 1))
            seen[3] = 0
            labels[number] = {
                "uv_vis": np.concatenate([uv, seen], 1),
                "xyz": np.concatenate([to_source(h.joints, "rhd") for h in (left, right)]).astype(np.float32),
                "K": k.astype(np.float32),
            }
            truths[f"{folder}/{number:05d}#{dominant.side}"] = dominant
            other = right if dominant is left else left
            truths[f"{folder}/{number:05d}#{other.side}"] = other
        (root / folder / f"anno_{folder}.pickle").write_bytes(pickle.dumps(labels, protocol=2))
    return truths


def write_ho3d(root: Path, version: int = 3) -> dict[str, Truth]:
    k, flip = camera(614, 640, 480), np.array([1.0, -1.0, -1.0])
    suffix, truths = "jpg" if version == 3 else "png", {}
    for folder, seed in (("train", 70), ("evaluation", 80)):
        lines, released = [], {"xyz": [], "verts": []}
        for sequence in ("ABF10", "SM1"):
            for number in range(2):
                hand = make_hand(seed + number + 3 * len(sequence), "right", k, (320, 240), 0.6, has_mesh=True)
                gl = {"handJoints3D": to_source(hand.joints, "mano") * flip, "camMat": k, "objRot": np.zeros((3, 1))}
                turned = np.diag(flip) @ axis_angle_to_matrix(torch.from_numpy(hand.pose[0])).numpy()
                pose = hand.pose.copy()
                pose[0] = matrix_to_axis_angle(torch.from_numpy(turned)).numpy()
                shift = flip * (hand.rest_wrist + hand.translation) - hand.rest_wrist
                fit = {
                    "handPose": pose.reshape(48),
                    "handTrans": shift,
                    "handBeta": hand.shape,
                    "objName": "021_bleach",
                }
                released["xyz"].append(gl["handJoints3D"])
                released["verts"].append(hand.vertices * flip)
                if folder == "evaluation":
                    gl["handJoints3D"] = gl["handJoints3D"][0]
                    gl["handBoundingBox"] = [
                        *(hand.points.min(0) - 5).astype(int),
                        *(hand.points.max(0) + 5).astype(int),
                    ]
                else:
                    gl |= fit
                unlabelled = folder == "train" and sequence == "SM1" and number == 1
                content = dict.fromkeys(gl) if unlabelled else gl
                base, frame = root / folder / sequence, f"{number:04d}"
                save(base / "rgb" / f"{frame}.{suffix}", picture([hand], 640, 480))
                steps = np.full((480, 640), 4000)
                save(
                    base / "depth" / f"{frame}.png", np.stack([steps * 0, steps >> 8, steps & 255], -1).astype(np.uint8)
                )
                (base / "meta").mkdir(parents=True, exist_ok=True)
                (base / "meta" / f"{frame}.pkl").write_bytes(pickle.dumps(content, protocol=2))
                lines.append(f"{sequence}/{frame}")
                if not unlabelled:
                    truths[f"{folder}/{sequence}/{frame}"] = hand
        (root / f"{folder}.txt").write_text("\n".join(lines) + "\n")
        if folder == "evaluation":
            for name, rows in released.items():
                write_json(root / f"{folder}_{name}.json", [r.tolist() for r in rows])
    return truths


def write_dexycb(root: Path) -> dict[str, Truth]:
    k, serial, truths = camera(612, 640, 480), "836212060125", {}
    write_text(root / "calibration" / "intrinsics" / f"{serial}_640x480.yml", _colour_yaml(k))
    shown = {(0, 0): "right", (2, 4): "left"}  # train and test sequences of split s0
    for subject in range(3):
        name = f"2020070{subject}-subject-0{subject + 1}"
        for place in range(5):
            sequence, side = f"20200709_14{place}000", shown.get((subject, place))
            meta = {
                "num_frames": 3 if side else 0,
                "mano_sides": [side or "right"],
                "mano_calib": [name],
                "ycb_ids": [1],
            }
            write_text(root / name / sequence / "meta.yml", json.dumps({**meta, "serials": [serial]}))
            for frame in range(3 if side else 0):
                hand = make_hand(90 + 3 * subject + frame, side, k, (320, 240), 0.7, has_mesh=True)
                hand.shape = make_hand(90 + 3 * subject, side, k, (320, 240), 0.7).shape
                hand = _with_shape(hand)
                folder = root / name / sequence / serial
                save(folder / f"color_{frame:06d}.jpg", picture([hand], 640, 480))
                save(folder / f"aligned_depth_to_color_{frame:06d}.png", np.full((480, 640), 700, np.uint16))
                _dexycb_labels(folder / f"labels_{frame:06d}.npz", hand, empty=frame == 2)
                if frame != 2:
                    truths[f"{name}/{sequence}/{serial}/{frame:06d}"] = hand
                write_text(
                    root / "calibration" / f"mano_{name}" / "mano.yml", json.dumps({"betas": hand.shape.tolist()})
                )
    return truths


def _with_shape(hand: Truth) -> Truth:
    """The hand posed again with its (changed) shape, at the same place."""
    mirror = MIRROR if hand.is_left else np.ones(3)
    right = torch.from_numpy(hand.pose * (-MIRROR if hand.is_left else 1)).reshape(1, 48)
    vertices, joints = (t[0].numpy() * mirror for t in layer()(right, torch.from_numpy(hand.shape)[None]))
    hand.vertices, hand.joints = vertices + hand.translation, joints + hand.translation
    uvw = hand.joints @ hand.intrinsics.T
    hand.points = uvw[:, :2] / uvw[:, 2:]
    return hand


def _dexycb_labels(path: Path, hand: Truth, empty: bool) -> None:
    turn = np.tile(-MIRROR if hand.is_left else np.ones(3), 15)
    fingers = less_mean(hand)[3:] * turn
    coefficients = np.linalg.solve(OPEN.hands_components.T.astype(float), fingers)
    pose = np.concatenate([hand.pose[0], coefficients, hand.translation])[None]
    arrays = {"pose_m": pose, "joint_3d": hand.joints[None], "joint_2d": hand.points[None]}
    if empty:
        arrays = {"pose_m": pose * 0, "joint_3d": np.full((1, 21, 3), -1), "joint_2d": np.full((1, 21, 2), -1)}
    arrays = {n: a.astype(np.float32) for n, a in arrays.items()}
    np.savez_compressed(path, seg=hull(hand, 640, 480), **arrays)


def _colour_yaml(k: np.ndarray) -> str:
    return f"color:\n  fx: {k[0, 0]}\n  fy: {k[1, 1]}\n  ppx: {k[0, 2]}\n  ppy: {k[1, 2]}\n"


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def flat(hand: Truth) -> list[float]:
    """63 numbers x, y, v with zeros for what is not known."""
    rows = np.concatenate([hand.points, np.full((21, 1), 2.0)], 1)
    return np.where(hand.known[:, None], rows, 0).reshape(-1).tolist()


def _two_d(seed: int, side: str, k: np.ndarray, at: tuple[float, float], missing: tuple[int, ...] = ()) -> Truth:
    hand = make_hand(seed, side, k, at, 0.7, has_3d=False)
    hand.known[list(missing)] = False
    return hand


def write_coco_wholebody(root: Path) -> dict[str, Truth]:
    width, height, k, truths = 500, 375, camera(500, 500, 375), {}
    for part, seed in (("train", 100), ("val", 110)):
        images, annotations = [], []
        for number in range(3):
            name = f"{number + 1:012d}.jpg"
            left = _two_d(seed + number, "left", k, (150, 180), (4,))
            right = _two_d(seed + number + 5, "right", k, (340, 190))
            save(root / f"{part}2017" / name, picture([left, right], width, height))
            images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
            person: dict[str, Any] = {"image_id": number + 1, "category_id": 1, "keypoints": [0] * 51}
            for hand in (left, right):
                known = hand.points[hand.known]
                low, high = known.min(0), known.max(0)
                person |= {f"{hand.side}hand_box": [*low, *(high - low)], f"{hand.side}hand_kpts": flat(hand)}
                person[f"{hand.side}hand_valid"] = hand is left or number > 0
                if person[f"{hand.side}hand_valid"]:
                    truths[f"{part}/{name}#{number * 2 + 1}_{hand.side}"] = hand
            annotations.append({**person, "id": number * 2 + 1, "iscrowd": 0})
            annotations.append({**person, "id": number * 2 + 2, "iscrowd": 1})
        content = {
            "info": {},
            "annotations": annotations,
            "images": images,
            "categories": [{"id": 1, "name": "person"}],
        }
        write_json(root / "annotations" / f"coco_wholebody_{part}_v1.0.json", content)
    return truths


def write_coco(root: Path) -> dict[str, Truth]:
    """Somebody's own hands, 3D and camera known, joints named in RHD's order, sides by category."""
    width, height, k, truths = 400, 300, camera(450, 400, 300), {}
    names = to_source(np.array(JOINT_NAMES), "rhd").tolist()
    kinds = [{"id": n, "name": f"{side}_hand", "keypoints": names} for n, side in enumerate(SIDES)]
    for part, seed in (("train", 230), ("val", 240)):
        images, annotations = [], []
        for number in range(3):
            name = f"{part}_{number}.jpg"
            pair = [make_hand(seed + 2 * number + i, s, k, (120 + 160 * i, 150), 0.7) for i, s in enumerate(SIDES)]
            save(root / f"images/{part}" / name, picture(pair, width, height))
            images.append({"id": 40 + number, "file_name": name, "width": width, "height": height, "K": k})
            for i, hand in enumerate(pair):
                low, high = hand.points.min(0), hand.points.max(0)
                about = {"id": 2 * number + i, "image_id": 40 + number, "category_id": i, "iscrowd": 0}
                points = to_source(np.reshape(flat(hand), (21, 3)), "rhd").reshape(-1)
                about |= {"keypoints": points, "bbox": [*low, *(high - low)], "num_keypoints": 21}
                annotations.append({**about, "joints_m": to_source(hand.joints, "rhd")})
                truths[f"{name}#{2 * number + i}"] = hand
        content = {"images": images, "annotations": annotations, "categories": kinds}
        write_json(root / "annotations" / f"hands_{part}.json", content)
    return truths


def write_halpe(root: Path) -> dict[str, Truth]:
    width, height, k, truths = 400, 300, camera(450, 400, 300), {}
    for part, folder, seed in (("train", "hico_20160224_det/images/train2015", 120), ("val", "val2017", 130)):
        images, annotations = [], []
        for number in range(3):
            name = f"{part}_{number:08d}.jpg"
            left = _two_d(seed + number, "left", k, (120, 140), (8, 12))
            right = _two_d(seed + number + 5, "right", k, (280, 150))
            save(root / folder / name, picture([left, right], width, height))
            points = np.zeros((136, 3))
            points[94:115] = np.reshape(flat(left), (21, 3))
            if number > 0:
                points[115:136] = np.reshape(flat(right), (21, 3))
                truths[f"{name}#{number + 1}_right"] = right
            truths[f"{name}#{number + 1}_left"] = left
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            annotations.append({"id": number + 1, "image_id": number, "keypoints": points.reshape(-1), "iscrowd": 0})
        write_json(root / f"halpe_{part}_v1.json", {"images": images, "annotations": annotations})
    return truths


def write_panoptic(root: Path) -> dict[str, Truth]:
    k, truths = camera(900, 640, 360), {}

    def labelled(folder: str, name: str, hand: Truth) -> None:
        points = np.concatenate([hand.points, hand.known[:, None]], 1)
        centre = (hand.points.min(0) + hand.points.max(0)) / 2
        content = {"hand_pts": points, "hand_box_center": centre, "is_left": int(hand.is_left), "head_size": 140.0}
        save(root / folder / f"{name}.jpg", picture([hand], 640, 360))
        write_json(root / folder / f"{name}.json", content)
        truths[f"{Path(folder).name}/{name}"] = hand

    for number, name in enumerate(("000015774_01_l", "ex2_2.flv_000040_l", "ex2_2.flv_000060_r")):
        side = "left" if name.endswith("l") else "right"
        labelled("hand_labels/manual_test", name, _two_d(140 + number, side, k, (320, 180), (2,)))
        labelled("hand_labels/manual_train", name, _two_d(150 + number, side, k, (320, 180)))
    labelled("hand_labels_synth/synth1", "000001", _two_d(160, "right", k, (300, 180)))
    entries, base = [], root / "hand143_panopticdb"
    for number in range(2):
        hand = _two_d(165 + number, "right", k, (320, 180), (20,))
        save(base / "imgs" / f"{number:08d}.jpg", picture([hand], 640, 360))
        points = np.concatenate([hand.points, hand.known[:, None]], 1)
        about = {"img_paths": f"imgs/{number:08d}.jpg", "img_width": 640, "img_height": 360, "joint_self": points}
        entries.append({**about, "objpos": hand.points.mean(0), "scale_provided": 0.5, "dataset": "hand143_panopticdb"})
        truths[f"panopticdb/{number:08d}#{number}"] = hand
    write_json(base / "hands_v143_14817.json", {"root": entries})
    return truths


def write_onehand10k(root: Path) -> dict[str, Truth]:
    width, height, k, truths = 320, 240, camera(400, 320, 240), {}
    for folder, seed in (("Train", 170), ("Test", 180)):
        lines = []
        for number in range(1, 4):
            hand = _two_d(seed + number, "right", k, (160, 120), (16,) if number == 1 else ())
            hand.points = np.rint(hand.points)
            save(root / folder / "source" / f"{number}.jpg", picture([hand], width, height))
            save(root / folder / "mask" / f"{number}.png", hull(hand, width, height))
            cells = np.where(hand.known[:, None], hand.points, -1).astype(int).reshape(-1)
            lines.append(",".join(map(str, [f"{number}.jpg", width, height, 1, *cells])))
            truths[f"{folder}/{number}.jpg"] = hand
        write_text(root / folder / "label_joint.txt", "\n".join(lines) + "\n")
    return truths


def write_hiu_dmtl(root: Path) -> dict[str, Truth]:
    width, height, k, truths = 180, 320, camera(350, 180, 320), {}
    kinds = {"abcdefghij": (1, 0), "bcdefghijk": (0, 1), "cdefghijkl": (1, 1), "defghijklm": (1, 0)}
    for number, (stem, there) in enumerate(kinds.items()):
        pair = [_two_d(190 + 2 * number + i, side, k, (90, 90 + 130 * i), ()) for i, side in enumerate(SIDES)]
        points = np.full((2, 21, 2), [2.0, -0.67])
        shown = [hand for i, hand in enumerate(pair) if there[i]]
        for i, hand in enumerate(pair):
            if there[i]:
                points[i] = hand.points
                truths[f"{stem}#{hand.side}"] = hand
        content = {"pts2d_2hand": points.reshape(42, 2), "hand_type": there, "hand_type_valid": [1, 1]}
        content |= {"pts3d_2hand": np.zeros((42, 3)), "pts3d_w_2hand": np.zeros(42)}
        write_json(root / f"{stem}.json", content)
        save(root / f"{stem}.jpg", picture(shown, width, height))
        save(root / f"{stem}_mask.png", np.maximum.reduce([hull(h, width, height) for h in shown]))
    return truths


def write_hint(root: Path) -> dict[str, Truth]:
    k, truths = camera(700, 456, 256), {}
    for folder, seed in (("TEST_newdays_img", 200), ("TRAIN_newdays_img", 210), ("TRAIN_epick_img", 220)):
        for number, side in enumerate(("left", "right")):
            hand = _two_d(seed + number, side, k, (228, 128))
            name = f"vid{number}_frame{number:06d}_{side[0]}"
            save(root / folder / f"{name}.jpg", picture([hand], 456, 256))
            box = [[*hand.points.min(0), *hand.points.max(0)]]
            hidden = [int(j in (4, 8)) for j in range(21)]
            write_json(root / folder / f"{name}.json", [{"keypoints": hand.points, "occlusion": hidden, "bbox": box}])
            truths[f"{folder}/{name}"] = hand
    return truths


WRITERS: dict[str, Callable[[Path], dict[str, Truth]]] = {
    name.removeprefix("write_"): function
    for name, function in list(globals().items())
    if name.startswith("write_") and name not in ("write_json", "write_text")
}
# options that make a reader read its fixture: MANO's place is taken by the open hand
OPTIONS: dict[str, dict[str, Any]] = {
    "freihand": {"mano": "open"},
    "interhand26m": {"mano": "open"},
    "ho3d": {"mano": "open"},
    "dexycb": {"mano": "open", "sequences_per_subject": 5},
}
