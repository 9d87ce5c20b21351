"""Hands on disk: MANO's pickles (read and written) and our .npz. The layouts are listed in mano_assets/README.md."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..files import ArchiveError, read_arrays, replacing, write_bytes
from ..skeleton import FINGERTIPS, MODEL_PARENTS, NUM_MODEL_JOINTS
from . import pickles
from .hand import ARRAYS, NUM_COMPONENTS, Hand, HandFileError, RenderMesh, Side, boundary_loop

logger = logging.getLogger(__name__)

_PICKLE_KEYS = {name: {"faces": "f", "joint_regressor": "J_regressor"}.get(name, name) for name in ARRAYS}
_NPZ_KEYS = {name: {"joint_regressor": "J_regressor"}.get(name, name) for name in ARRAYS}
_RENDER_KEYS = {
    "vertices": "hi_v",
    "faces": "hi_faces",
    "weights": "hi_weights",
    "shapedirs": "hi_shapedirs",
    "posedirs": "hi_posedirs",
    "colours": "hi_color",
    "gloss": "hi_gloss",
}
_HALF = ("hi_shapedirs", "hi_posedirs")  # stored in half precision: under 0.01 mm of a picture


def read_mano(path: str | Path, right: Hand | None = None) -> Hand:
    """Read MANO_RIGHT.pkl or MANO_LEFT.pkl: no chumpy needed, nothing executed.

    The published left model has the x of its shape directions with the wrong sign, so that a wider left hand becomes
    narrower. It is recognised by comparison with the right model and mended.

    Args:
        path: the pickle; a name with LEFT in it is a left hand, unless the file says.
        right: the right model for that comparison; by default MANO_RIGHT.pkl beside the left one, where it is.

    Raises:
        HandFileError: a pickle that asks for foreign code, is cut short, lacks a key or has one of a wrong shape.
    """
    path = Path(path)
    content = pickles.load(path.read_bytes(), path)
    if not isinstance(content, dict):
        raise HandFileError(f"{path}: holds a {type(content).__name__}, not the dictionary of a hand")
    hand = _assemble(path, content, _PICKLE_KEYS, lambda value, key: pickles.to_array(value, f"{path}: `{key}`"))
    _check_tree(path, pickles.to_array(_required(path, content, "kintree_table"), f"{path}: `kintree_table`"))
    side: Side = (
        "left" if content.get("side", "left" if "LEFT" in path.name.upper() else "right") == "left" else "right"
    )
    hand = replace(
        hand,
        side=side,
        name=str(content.get("name", "mano")),
        tips="manopth" if side == "right" else "manopth_left",
        wrist_loop=boundary_loop(hand.faces),
    )
    return hand if side == "right" else _mend_left(hand, path, right)


def write_mano(hand: Hand, path: str | Path) -> None:
    """Write a hand in the format of MANO_RIGHT.pkl (protocol 2), for manopth, smplx and everything else that reads it.

    The render mesh has no place in that format and is left out; all else is read back equal.
    """
    from scipy import sparse  # nothing that reads hands needs it

    joints = hand.joint_regressor.astype(np.float64) @ hand.v_template
    content = {
        "hands_components": hand.hands_components.astype(np.float64),
        "f": hand.faces.astype(np.uint32),
        "J_regressor": sparse.csc_matrix(hand.joint_regressor.astype(np.float64)),
        "kintree_table": np.array([hand.parents, range(NUM_MODEL_JOINTS)], np.int64).astype(np.uint32),
        "J": joints,
        "hands_coeffs": np.zeros((1, NUM_COMPONENTS)),  # poses of MANO's subjects; readers only slice it
        "weights": hand.weights.astype(np.float64),
        "posedirs": hand.posedirs.astype(np.float64),
        "hands_mean": hand.hands_mean.astype(np.float64),
        "v_template": hand.v_template.astype(np.float64),
        "shapedirs": hand.shapedirs.astype(np.float64),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "name": hand.name,
        "side": hand.side,
    }
    write_bytes(path, pickle.dumps(content, protocol=2))


def read_npz(path: str | Path) -> Hand:
    """Read a hand in our own format (mano_assets/open_hand.npz), with its render mesh where it has one.

    Raises:
        HandFileError: a damaged file, a missing key or a wrong shape.
    """
    path = Path(path)
    try:
        content = read_arrays(path)
    except (ArchiveError, FileNotFoundError) as error:
        raise HandFileError(f"{path}: not a readable .npz of numbers ({error}); copy or build it again") from None
    hand = _assemble(path, content, _NPZ_KEYS, lambda value, key: value)
    render = None
    if "hi_v" in content:
        arrays = {name: np.array(_required(path, content, key)) for name, key in _RENDER_KEYS.items()}
        integer = {"faces": np.int64}
        render = RenderMesh(**{n: a.astype(integer.get(n, np.float32)) for n, a in arrays.items()})
        _check_render(path, render)
    if str(content.get("tips", "manopth")) not in FINGERTIPS:
        raise HandFileError(f"{path}: `tips` is {content['tips']}, known conventions: {', '.join(FINGERTIPS)}")
    return replace(
        hand,
        side="left" if str(content.get("side", "right")) == "left" else "right",
        name=str(content.get("name", "open")),
        tips=str(content.get("tips", "manopth")),
        hands_std=content["hands_std"].astype(np.float32) if "hands_std" in content else None,
        wrist_loop=content["wrist_loop"].astype(np.int64) if "wrist_loop" in content else boundary_loop(hand.faces),
        render=render,
    )


def write_npz(hand: Hand, path: str | Path) -> None:
    """Write a hand in our own format. Correctives of the render mesh are stored in half precision."""
    content: dict[str, Any] = {key: getattr(hand, name) for name, key in _NPZ_KEYS.items()}
    content |= {"faces": hand.faces.astype(np.int32), "wrist_loop": hand.wrist_loop.astype(np.int32)}
    content |= {"kintree_parents": np.array(hand.parents, np.int32), "J": hand.joint_regressor @ hand.v_template}
    content |= {"name": hand.name, "side": hand.side, "tips": hand.tips}
    if hand.hands_std is not None:
        content["hands_std"] = hand.hands_std
    if hand.render is not None:
        content |= {key: getattr(hand.render, name) for name, key in _RENDER_KEYS.items()}
        content |= {key: content[key].astype(np.float16) for key in _HALF}
        content["hi_faces"] = hand.render.faces.astype(np.int32)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **content)


def _assemble(path: Path, content: Mapping[str, Any], keys: dict[str, str], read: Callable[[Any, str], Any]) -> Hand:
    """A right hand from the arrays under `keys`, each checked for its shape and its numbers."""
    arrays = {}
    for name, (shape, dtype) in ARRAYS.items():
        key = keys[name]
        array = read(_required(path, content, key), key)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iuf":
            raise HandFileError(f"{path}: `{key}` is not an array of numbers")
        if array.shape != shape:
            raise HandFileError(f"{path}: `{key}` has shape {array.shape}, a hand's is {shape}")
        if not np.isfinite(array).all():
            raise HandFileError(f"{path}: `{key}` holds numbers that are not finite")
        arrays[name] = np.ascontiguousarray(array, dtype)
    count = len(arrays["v_template"])
    if arrays["faces"].min() < 0 or arrays["faces"].max() >= count:
        raise HandFileError(f"{path}: `{keys['faces']}` names vertices outside 0..{count - 1}")
    for name in ("weights", "joint_regressor"):
        if np.abs(arrays[name].sum(1) - 1).max() > 1e-3:
            raise HandFileError(f"{path}: rows of `{keys[name]}` should sum to 1")
    return Hand(**arrays)


def _required(path: Path, content: Mapping[str, Any], key: str) -> Any:
    if key not in content:
        raise HandFileError(
            f"{path}: key `{key}` is missing; this is not a complete hand (a body model, an older file?)"
        )
    return content[key]


def _check_tree(path: Path, tree: np.ndarray) -> None:
    if not isinstance(tree, np.ndarray) or tree.dtype.kind not in "iu":
        raise HandFileError(f"{path}: `kintree_table` is not an array of whole numbers")
    if tree.shape != (2, NUM_MODEL_JOINTS):
        raise HandFileError(f"{path}: `kintree_table` has shape {tree.shape}, a hand's is (2, {NUM_MODEL_JOINTS})")
    if tuple(int(parent) for parent in tree[0][1:]) != MODEL_PARENTS[1:]:  # the root's is -1 as an unsigned number
        raise HandFileError(f"{path}: `kintree_table` is not MANO's order of joints")


def _check_render(path: Path, mesh: RenderMesh) -> None:
    count = len(mesh.vertices)
    for field in fields(mesh):
        array = getattr(mesh, field.name)
        if field.name != "faces" and len(array) != count:
            raise HandFileError(f"{path}: `{_RENDER_KEYS[field.name]}` has {len(array)} rows, `hi_v` has {count}")
    if mesh.faces.min() < 0 or mesh.faces.max() >= count:
        raise HandFileError(f"{path}: `hi_faces` names vertices outside 0..{count - 1}")


def _mend_left(hand: Hand, path: Path, right: Hand | None) -> Hand:
    beside = path.with_name(path.name.replace("LEFT", "RIGHT").replace("left", "right"))
    if right is None and beside != path and beside.is_file():
        right = read_mano(beside)
    if right is None:
        logger.warning("%s: no MANO_RIGHT.pkl beside it, so a wrong sign of its shape directions goes unnoticed", path)
        return hand
    if np.abs(hand.shapedirs[:, 0] - right.shapedirs[:, 0]).sum() >= 1:  # mirror images differ: nothing to mend
        return hand
    return replace(hand, shapedirs=hand.shapedirs * np.array([-1, 1, 1], np.float32)[:, None])
