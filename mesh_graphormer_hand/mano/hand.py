"""A parametric hand as plain arrays, which hand it is (fingerprint), and where hands are found.

Frames and units: metres; the rest pose of MANO's right hand: fingers towards -x, palm towards -y, thumb towards +z.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from .. import paths
from ..skeleton import FINGERTIPS, MODEL_PARENTS, NUM_MODEL_JOINTS, NUM_VERTICES

Side = Literal["right", "left"]
REGISTRATION = "registration_"  # begins the names of files beside the hands that are maps between two of them
NUM_FACES, NUM_BETAS, NUM_POSEDIRS, NUM_COMPONENTS = 1538, 10, 135, 45


class HandFileError(ValueError):
    """A hand's file that is missing, damaged, unsafe or not a hand; the message names file, key and remedy."""


class UnknownHandError(HandFileError):
    """No shipped or dropped-in hand has the fingerprint that an array or a checkpoint asks for."""


@dataclass(frozen=True, eq=False)
class RenderMesh:
    """A finer skin on the same 16 joints, for pictures only."""

    vertices: Float[np.ndarray, "v 3"]  # m, rest pose
    faces: Int64[np.ndarray, "f 3"]
    weights: Float[np.ndarray, "v 16"]
    shapedirs: Float[np.ndarray, "v 3 10"]  # m per unit of shape
    posedirs: Float[np.ndarray, "v 3 135"]  # m per unit of (rotation - identity)
    colours: Float[np.ndarray, "v 3"]  # RGB in [0, 1] as displayed (gamma-encoded)
    gloss: Float[np.ndarray, "v"]


@dataclass(frozen=True, eq=False)
class Hand:
    """MANO's arrays of one hand, float32. Two hands of 778 vertices are not the same hand: compare fingerprints."""

    v_template: Float[np.ndarray, "778 3"]  # m
    faces: Int64[np.ndarray, "1538 3"]
    weights: Float[np.ndarray, "778 16"]  # skinning, rows sum to 1
    joint_regressor: Float[np.ndarray, "16 778"]
    shapedirs: Float[np.ndarray, "778 3 10"]  # m per standard deviation
    posedirs: Float[np.ndarray, "778 3 135"]  # m per unit of (rotation - identity), joints 1-15 row by row
    hands_components: Float[np.ndarray, "45 45"]  # rows: principal components of the finger pose
    hands_mean: Float[np.ndarray, "45"]  # rad, the mean finger pose
    side: Side = "right"
    name: str = "mano"  # "open" for the hand that is shipped
    tips: str = "manopth"  # key of skeleton.FINGERTIPS
    parents: tuple[int, ...] = MODEL_PARENTS
    wrist_loop: Int64[np.ndarray, "n"] = field(default_factory=lambda: np.zeros(0, np.int64))  # open boundary, in order
    hands_std: Float[np.ndarray, "45"] | None = None  # standard deviations along hands_components, where known
    render: RenderMesh | None = None

    @cached_property
    def fingerprint(self) -> int:
        """A nonzero signed 64-bit number from the SHA-256 of faces, template and joint regressor."""
        digest = hashlib.sha256()
        for array, dtype in ((self.faces, "<i8"), (self.v_template, "<f4"), (self.joint_regressor, "<f4")):
            digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
        return int.from_bytes(digest.digest()[:8], "big", signed=True) or 1

    @property
    def fingerprint_hex(self) -> str:
        """The fingerprint as 16 hexadecimal digits, for configs and file names."""
        return fingerprint_to_hex(self.fingerprint)

    @property
    def tip_vertices(self) -> tuple[int, ...]:
        """Vertices that stand for the fingertips, thumb first."""
        return FINGERTIPS[self.tips]


ARRAYS = {  # field of Hand -> (shape, dtype)
    "v_template": ((NUM_VERTICES, 3), np.float32),
    "faces": ((NUM_FACES, 3), np.int64),
    "weights": ((NUM_VERTICES, NUM_MODEL_JOINTS), np.float32),
    "joint_regressor": ((NUM_MODEL_JOINTS, NUM_VERTICES), np.float32),
    "shapedirs": ((NUM_VERTICES, 3, NUM_BETAS), np.float32),
    "posedirs": ((NUM_VERTICES, 3, NUM_POSEDIRS), np.float32),
    "hands_components": ((NUM_COMPONENTS, NUM_COMPONENTS), np.float32),
    "hands_mean": ((NUM_COMPONENTS,), np.float32),
}


def fingerprint_to_hex(fingerprint: int) -> str:
    """16 hexadecimal digits of a signed 64-bit fingerprint."""
    return f"{fingerprint & 0xFFFFFFFFFFFFFFFF:016x}"


def fingerprint_from_hex(text: str) -> int:
    """The signed 64-bit fingerprint that 16 hexadecimal digits stand for.

    Raises:
        ValueError: not 16 hexadecimal digits.
    """
    if len(text) != 16:
        raise ValueError(f"{text!r} is no hand fingerprint: 16 hexadecimal digits expected")
    return int.from_bytes(bytes.fromhex(text), "big", signed=True)


def boundary_loop(faces: Int64[np.ndarray, "f 3"]) -> Int64[np.ndarray, "n"]:
    """The longest open boundary of a mesh as vertices in order (MANO's wrist: 16 of them); empty for a closed mesh."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    present = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in sorted(present) if (b, a) not in present}
    best: list[int] = []
    while following:
        loop = [min(following)]
        while (vertex := following.pop(loop[-1], None)) is not None and vertex != loop[0]:
            loop.append(vertex)
        best = max(best, loop, key=len)
    return np.array(best, np.int64)


def mirrored(hand: Hand) -> Hand:
    """The same hand of the other side: points mirrored in x, axis-angles (x, y, z) -> (x, -y, -z).

    Principal components of the finger pose keep their meaning: the same coefficients give mirror images.
    """
    point = np.array([-1, 1, 1], np.float32)
    angle = np.tile(-point, 15)
    entry = np.tile(np.outer(point, point).ravel(), 15)  # of M R M, with M the mirror
    render = hand.render and replace(
        hand.render,
        vertices=hand.render.vertices * point,
        faces=np.ascontiguousarray(hand.render.faces[:, ::-1]),
        shapedirs=hand.render.shapedirs * point[:, None],
        posedirs=hand.render.posedirs * point[:, None] * entry,
    )
    return replace(
        hand,
        v_template=hand.v_template * point,
        faces=np.ascontiguousarray(hand.faces[:, ::-1]),
        shapedirs=hand.shapedirs * point[:, None],
        posedirs=hand.posedirs * point[:, None] * entry,
        hands_components=hand.hands_components * angle,
        hands_mean=hand.hands_mean * angle,
        side="left" if hand.side == "right" else "right",
        wrist_loop=hand.wrist_loop[::-1].copy(),
        render=render,
    )


def mirrored_pose(pose: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Axis-angles with which the `mirrored` hand, at the same shape, is the mirror image (x -> -x) of this one."""
    return pose * np.array([1, -1, -1], pose.dtype)


def load(source: str | Path = "auto", side: Side = "right") -> Hand:
    """A hand by name or by file.

    Args:
        source: "auto" (MANO_RIGHT.pkl in mano_assets/ if a user put it there, else the open hand), "open", a .pkl or
            .npz file, or a folder that holds MANO_RIGHT.pkl (manopth's and smplx's layouts).
        side: "left" takes MANO_LEFT.pkl, or mirrors the open hand.

    Raises:
        HandFileError: no such file, or one that is not a hand.
    """
    if side not in ("right", "left"):
        raise ValueError(f"side {side!r} should be 'right' or 'left'")
    path = locate(source, side)
    hand = _read(path, path.stat().st_mtime_ns)
    return hand if hand.side == side or path.suffix != ".npz" else _mirrored(hand)


def locate(source: str | Path, side: Side = "right") -> Path:
    """The file that `load` reads for `source`."""
    open_hand = paths.MANO_ASSETS / "open_hand.npz"
    name = f"MANO_{side.upper()}.pkl"
    if str(source) == "open":
        return _existing(open_hand)
    if str(source) == "auto":
        licensed = paths.MANO_ASSETS / name
        return licensed if licensed.is_file() else _existing(open_hand)
    path = Path(source)
    if path.is_dir():
        for candidate in (path / name, path / "mano" / name, path / "open_hand.npz"):
            if candidate.is_file():
                return candidate
        raise HandFileError(f"{path}: no {name} in this folder (nor in its subfolder mano/)")
    return _existing(path)


def find(fingerprint_hex: str) -> Hand:
    """The hand with this fingerprint among those in mano_assets/, shipped and dropped in.

    Raises:
        UnknownHandError: none of them has it; the message lists what was looked at.
    """
    seen = []
    for path in sorted([*paths.MANO_ASSETS.glob("*.npz"), *paths.MANO_ASSETS.glob("*.pkl")], key=_shipped_first):
        if path.name == "mano_downsampling.npz" or path.name.startswith(REGISTRATION):
            continue
        try:
            hand = _read(path, path.stat().st_mtime_ns)
        except HandFileError as error:
            seen.append(f"{path.name} (unreadable: {error})")
            continue
        for candidate in (hand, _mirrored(hand)) if path.suffix == ".npz" else (hand,):
            if candidate.fingerprint_hex == fingerprint_hex:
                return candidate
        seen.append(f"{path.name} ({hand.fingerprint_hex})")
    raise UnknownHandError(
        f"no hand with fingerprint {fingerprint_hex} in {paths.MANO_ASSETS}: found {', '.join(seen) or 'nothing'}. "
        "Put the hand that this model or data set was made with (for MANO: MANO_RIGHT.pkl) there."
    )


def _shipped_first(path: Path) -> tuple[bool, str]:
    return path.name != "open_hand.npz", path.name


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise HandFileError(f"{path}: no such hand file; see mano_assets/README.md for where MANO_RIGHT.pkl goes")
    return path


@lru_cache(maxsize=8)
def _read(path: Path, modified_ns: int) -> Hand:
    from . import io as files  # files builds Hand objects, so it imports this module

    del modified_ns  # part of the cache's key: a file that was replaced is read again
    return files.read_npz(path) if path.suffix == ".npz" else files.read_mano(path)


@lru_cache(maxsize=8)
def _mirrored(hand: Hand) -> Hand:
    return mirrored(hand)
