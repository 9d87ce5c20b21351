"""The files of a photo's hands: pictures, numbers, meshes, maps. Each kind gives file contents by suffix."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import ConfigError, nearest

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int64, Shaped, UInt8

    from ..result import HandResult

Contents = dict[str, bytes]
PICTURE_SIDE_PX = 640, 1280  # least and largest longer side of the photo in the picture
WORDS = (0.9, "surely"), (0.6, "probably"), (0.0, "perhaps")  # least confidence of each word
FILE_KINDS = ("picture", "json", "obj", "glb", "ply", "scene", "depth", "normals", "mask", "npz")
DEFAULT_KINDS = ("picture", "json", "obj")
HELP = (
    "picture (mesh on the photo, side views, skeleton), json, obj, glb, ply (meshes), scene (all hands as they stand "
    "before the camera, in one OBJ and one GLB), depth (16-bit PNG, and one for people), normals, mask (PNG), npz "
    "(all arrays)"
)


def parse_kinds(text: str) -> tuple[str, ...]:
    """Kinds from "json,obj" or "all".

    Raises:
        ConfigError: an unknown kind.
    """
    if text == "all":
        return FILE_KINDS
    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for kind in kinds:
        if kind not in FILE_KINDS:
            raise ConfigError(
                f"--save: no kind {kind!r}{nearest(kind, FILE_KINDS)} (there are: all, {', '.join(FILE_KINDS)})"
            )
    if not kinds:
        raise ConfigError(f"--save names nothing (there are: all, {', '.join(FILE_KINDS)})")
    return kinds


def encode(
    kinds: Sequence[str], photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]
) -> Contents:
    """The files of all `kinds`; `about` goes to the head of the JSON."""
    contents: Contents = {}
    for kind in kinds:
        contents |= ENCODERS[kind](photo, hands, about)
    return contents


def picture(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult]) -> np.ndarray:
    """RGB panel: the meshes on the photo, each from the side, masks and skeletons."""
    from ...render import overlay

    photo, scale = resize(photo)
    size = photo.shape[0]
    views = []
    standing = [h for h in hands if h.vertices_cam is not None]
    if standing:
        drawn = photo
        for hand in sorted(standing, key=lambda h: -float(h.translation[2])):  # the nearest last
            intrinsics = hand.intrinsics * [[scale[0]], [scale[1]], [1.0]]
            drawn = overlay.draw_mesh(drawn, hand.vertices_cam, hand.faces, intrinsics)
        views.append(drawn)
    views += [overlay.side_view(h.vertices, h.faces, (size, size)) for h in hands[:4] if h.vertices is not None]
    if any(h.mask is not None for h in hands):
        drawn = photo
        for hand in hands:
            drawn = drawn if hand.mask is None else overlay.draw_mask(drawn, hand.mask)
        views.append(drawn)
    if any(h.joints_2d is not None for h in hands):
        drawn = photo
        for hand in hands:
            drawn = drawn if hand.joints_2d is None else overlay.draw_skeleton(drawn, hand.joints_2d * scale)
        views.append(drawn)
    return overlay.panel(views or [photo])


def say(hands: Sequence[HandResult]) -> str:
    """How many hands, and of each its side and both confidences, in words."""
    if not hands:
        return "no hand"
    return f"{len(hands)} hand{'s' * (len(hands) > 1)}: {', '.join(say_hand(hand) for hand in hands)}"


def say_hand(hand: HandResult, *more: str) -> str:
    """One hand in words, with its figures and `more` in brackets."""
    known = ["nobody knows how sure" if hand.confidence is None else f"{hand.confidence:.0%} sure"]
    if hand.side_score is not None:
        known.append(f"side {'unsure: ' * hand.side_unsure}{hand.side_score:.0%}")
    return f"{say_confidence(hand)} a {hand.side} hand ({', '.join([*known, *more])})".lstrip()


def say_confidence(hand: HandResult) -> str:
    """A word for the hand's confidence; "" where it is unknown."""
    return "" if hand.confidence is None else next(word for least, word in WORDS if hand.confidence >= least)


def describe(hands: Sequence[HandResult], about: dict[str, Any]) -> str:
    """The hands as JSON text; metres and pixels of the photo, camera axes x right, y down, z forward."""
    return json.dumps({**about, "mano": whose(hands), "hands": [_one(hand) for hand in hands]}, indent=1) + "\n"


def whose(hands: Sequence[HandResult]) -> dict[str, Any] | None:
    """The hand of the parameters `mano_pose` and `mano_shape`, and their meaning; None where there are none."""
    from ...mano.hand import HandFileError, find
    from ...skeleton import MODEL_JOINT_NAMES

    mark = next((hand.hand for hand in hands if hand.pose is not None), None)
    if mark is None:
        return None
    try:
        name = find(mark).name
    except HandFileError:  # the caller's own hand, which has no name
        name = None
    return {
        "hand": name,
        "fingerprint": mark,
        "side": "right",
        "mano_pose": "rad, axis-angle of each joint of `order` relative to its parent, the wrist's in camera axes, the "
        "mean pose included (flat_hand_mean=True); of the right model",
        "mano_mirrored": "true: the hand is a left one, the mirror image (x -> -x about the wrist) of what mano_pose "
        "gives",
        "mano_pose_left": "of a left hand: the same for the left model, with the same mano_shape, nothing mirrored",
        "order": list(MODEL_JOINT_NAMES),
    }


def parameters(hand: HandResult) -> dict[str, Any]:
    """The hand's MANO parameters by their names in JSON, see `whose`; all None where it has none."""
    from ...mano.hand import mirrored_pose

    left = hand.side == "left" and hand.pose is not None
    return {
        "mano_pose": hand.pose,
        "mano_shape": hand.shape,
        "mano_mirrored": None if hand.pose is None else left,
        "mano_pose_left": mirrored_pose(hand.pose) if left else None,
    }


def _one(hand: HandResult) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    camera = {
        "K": hand.intrinsics,
        "K_from": hand.intrinsics_from,
        "wrist_m": hand.translation,
        "weak_perspective_px": hand.camera,
    }
    content = {
        "handedness": hand.side,
        "handedness_score": hand.side_score,
        "handedness_unsure": hand.side_unsure,
        "confidence": hand.confidence,
        "track": hand.track,
        "model": hand.model,
        "detector": hand.detector,
        "hand": hand.hand,
        "box": hand.detection.box if hand.detection is not None else hand.box,
        "crop": hand.box,
        "camera": {key: plain(value) for key, value in camera.items()},
        "joints_m": hand.joints,
        "joints_px": hand.joints_2d,
        **parameters(hand),
    }
    return {key: plain(value) for key, value in content.items()}


def encode_obj(hand: HandResult) -> bytes:
    """The mesh as an OBJ file, rotated by 180 degrees about x, since viewers have y up and z backwards. Formatted here:
    every photo gets one, and trimesh takes a third of a second to import."""
    header = f"# {hand.side} hand {hand.hand}, metres, wrist at the origin; camera axes are x, -y, -z of these"
    return "\n".join([header, *_obj_lines(hand.vertices, hand.faces), ""]).encode()


def _obj_lines(vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], before: int = 0) -> list[str]:
    """Of a file that holds `before` points already."""
    points = [f"v {x:.8f} {-y:.8f} {-z:.8f}" for x, y, z in vertices]
    return points + [f"f {a} {b} {c}" for a, b, c in faces + (before + 1)]


def scene_obj(hands: Sequence[HandResult]) -> bytes:
    """All hands before the camera, an object each, rotated as in `encode_obj`."""
    lines, before = ["# metres, the camera at the origin; its axes are x, -y, -z of these"], 0
    for name, hand in _standing(hands):
        lines += [f"o {name}", *_obj_lines(hand.vertices_cam, hand.faces, before)]
        before += len(hand.vertices)
    return "\n".join([*lines, ""]).encode()


def scene_glb(hands: Sequence[HandResult], centred: bool = False) -> bytes:
    """The same as a GLB file; `centred`: with the middle of the hands at the origin, about which viewers rotate."""
    import numpy as np
    import trimesh

    standing = _standing(hands)
    middle = np.concatenate([hand.vertices_cam for _, hand in standing]).mean(0) if centred else np.zeros(3)
    skin = trimesh.visual.material.PBRMaterial(
        baseColorFactor=[0.82, 0.63, 0.53, 1.0], metallicFactor=0.0, roughnessFactor=0.7, doubleSided=True
    )
    scene = trimesh.Scene()
    for name, hand in standing:
        mesh = trimesh.Trimesh((hand.vertices_cam - middle) * [1, -1, -1], hand.faces, process=False)
        mesh.visual = trimesh.visual.TextureVisuals(material=skin)
        mesh.vertex_normals  # noqa: B018 (asking for normals makes the file carry them: viewers then shade smoothly)
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    return scene.export(file_type="glb", include_normals=True)


def _standing(hands: Sequence[HandResult]) -> list[tuple[str, HandResult]]:
    """The hands with a mesh before the camera, and their names in a scene."""
    return [(f"hand{i}_{h.side}", h) for i, h in enumerate(hands, start=1) if h.vertices_cam is not None]


def _scene(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
    return {"_scene.obj": scene_obj(hands), "_scene.glb": scene_glb(hands)} if _standing(hands) else {}


def encode_png(image: Shaped[np.ndarray, "h w *c"]) -> bytes:
    """A PNG file's content, of RGB or of one channel of 8 or 16 bits."""
    import cv2
    import numpy as np

    return cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]) if image.ndim == 3 else image)[1].tobytes()


def write_all(folder: Path, stem: str, contents: Contents) -> list[Path]:
    """Write the files, all under temporary names first, so that none is ever incomplete. The JSON gets its name last:
    where it exists, all files do."""
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(contents, key=lambda suffix: suffix == ".json")
    files = {folder / f"{stem}{suffix}": contents[suffix] for suffix in order}
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}") for path in files}
    try:
        for path, content in files.items():
            temporary[path].write_bytes(content)
        for path in files:
            temporary[path].replace(path)
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return [folder / f"{stem}{suffix}" for suffix in contents]


def resize(photo: UInt8[np.ndarray, "h w 3"]) -> tuple[np.ndarray, np.ndarray]:
    """The photo with a longer side within PICTURE_SIDE_PX, and its scale in x and y."""
    import cv2
    import numpy as np

    shape = np.array(photo.shape[1::-1])
    longer = np.clip(shape.max(), *PICTURE_SIDE_PX)
    target = np.maximum(np.round(shape * longer / shape.max()), 1).astype(int)
    if (target == shape).all():
        return photo, np.ones(2)
    smaller = target.max() < shape.max()
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(photo, target.tolist(), interpolation=method), target / shape


def _mesh(hand: HandResult) -> Any:
    import trimesh

    return trimesh.Trimesh(hand.vertices * [1, -1, -1], hand.faces, process=False)


def _meshes(suffix: str, encoder: Callable[[HandResult], bytes]) -> Callable[..., Contents]:
    def encode_each(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
        """One file a hand, numbered from 1 where there are several."""
        solid = [(i, h) for i, h in enumerate(hands, start=1) if h.vertices is not None]
        return {(suffix if len(hands) == 1 else f"{i}{suffix}"): encoder(h) for i, h in solid}

    return encode_each


def _exported(kind: str) -> Callable[[HandResult], bytes]:
    def export(hand: HandResult) -> bytes:
        data = _mesh(hand).export(file_type=kind)
        return data if isinstance(data, bytes) else data.encode()

    return export


def _maps(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult]) -> Any:
    import numpy as np

    from ...render.maps import surface_maps

    meshes = [(h.vertices_cam, h.faces) for h in hands if h.vertices_cam is not None]
    intrinsics = hands[0].intrinsics if hands else np.eye(3)
    return surface_maps(meshes, intrinsics, photo.shape[:2])


def _depth(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
    from ...render.maps import depth_image, depth_picture

    depth = _maps(photo, hands).depth
    return {"_depth.png": encode_png(depth_image(depth)), "_depth_colour.png": encode_png(depth_picture(depth))}


def _normals(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
    from ...render.maps import normals_picture

    return {"_normals.png": encode_png(normals_picture(_maps(photo, hands).normals))}


def _mask(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
    """Each hand's number, from 1, where its mesh (or, without one, its mask) is; 0 elsewhere."""
    import numpy as np

    if all(h.vertices_cam is None for h in hands) and any(h.mask is not None for h in hands):
        mask = np.zeros(photo.shape[:2], np.uint8)
        for i, hand in enumerate(hands, start=1):
            mask[hand.mask] = i
        return {"_mask.png": encode_png(mask)}
    return {"_mask.png": encode_png((_maps(photo, hands).owner + 1).astype(np.uint8))}


def _npz(photo: UInt8[np.ndarray, "h w 3"], hands: Sequence[HandResult], about: dict[str, Any]) -> Contents:
    """Arrays with a row for each hand, without those that the model does not produce."""
    import numpy as np

    names = ("joints", "joints_2d", "vertices", "faces", "camera", "translation", "intrinsics", "box", "pose", "shape")
    arrays: dict[str, Any] = {"side": np.array([h.side for h in hands], dtype="U5")}
    for name in names:
        values = [getattr(h, name) for h in hands]
        if values and all(v is not None for v in values):
            arrays[name] = np.stack(values)
    for name in ("confidence", "side_score", "track"):
        values = [getattr(h, name) for h in hands]
        arrays[name] = np.array([np.nan if v is None else v for v in values], np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return {".npz": buffer.getvalue()}


ENCODERS: dict[str, Callable[..., Contents]] = {
    "picture": lambda photo, hands, about: {".png": encode_png(picture(photo, hands))},
    "json": lambda photo, hands, about: {".json": describe(hands, about).encode()},
    "obj": _meshes(".obj", encode_obj),
    "glb": _meshes(".glb", _exported("glb")),
    "ply": _meshes(".ply", _exported("ply")),
    "scene": _scene,
    "depth": _depth,
    "normals": _normals,
    "mask": _mask,
    "npz": _npz,
}
