"""How much of its volume each phalanx keeps when joints bend: the check against collapsing fingers.

A phalanx is the piece of skin between its two joints (the first one: from half its length, where the webs end), its
cuts closed by fans. Needs no more than the package itself.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.spatial.transform import Rotation

from mesh_graphormer_hand.skeleton import MODEL_PARENTS

from . import poses
from .anatomy import CHAINS, FINGERS, TIP_VERTICES, Skeleton

Arrays = dict[str, np.ndarray]
WEB = 0.5  # share of a first phalanx that the webs hide
BENT: dict[str, poses.Angles] = {
    **{f"{f} knuckle 90": {f: (90, 0, 0, 0)} for f in FINGERS},
    **{f"{f} middle joint 90": {f: (0, 0, 90, 0)} for f in FINGERS},
    **{f"{f} last joint 90": {f: (0, 0, 0, 90)} for f in FINGERS},
    "all knuckles 90": dict.fromkeys(FINGERS, (90, 0, 0, 0)),
    "all 90, 90, 60": dict.fromkeys(FINGERS, (90, 0, 90, 60)),
    "thumb middle joint 60": {"thumb": (0, 0, 0, 60, 0)},
    "thumb last joint 90": {"thumb": (0, 0, 0, 0, 90)},
    "thumb opposed": {"thumb": (40, 30, 45, 0, 0)},
    "fist": poses.NAMED["fist"],
}
DIGITS = np.array([digit for digit in CHAINS for _ in range(2 if digit == "thumb" else 3)])  # of the 14 phalanges


def changes(arrays: Arrays, prefix: str = "hi_") -> dict[str, Float[np.ndarray, "14"]]:
    """Pose -> relative change of the volume of the 14 phalanges (MANO's joints but the wrist and the thumb's base).

    Args:
        arrays: the open hand's.
        prefix: "hi_" for the render mesh, "" for the template.
    """
    vertices = arrays[f"{prefix}v" if prefix else "v_template"].astype(float)
    faces = arrays[f"{prefix}faces"].astype(np.int64)
    pieces = _pieces(arrays, vertices, faces, arrays[f"{prefix}weights"])
    rest = np.array([_volume(vertices, faces[piece]) for piece in pieces])
    skeleton, out = Skeleton(), {}
    for name, angles in BENT.items():
        bent = posed(arrays, poses.axis_angles(skeleton, angles), prefix)
        out[name] = np.array([_volume(bent, faces[piece]) for piece in pieces]) / rest - 1
    return out


def posed(arrays: Arrays, axis_angles: Float[np.ndarray, "16 3"], prefix: str = "hi_") -> Float[np.ndarray, "v 3"]:
    """Vertices (m) of the mean hand after blend skinning with correctives."""
    return posed_by(arrays, Rotation.from_rotvec(axis_angles).as_matrix(), prefix)


def posed_by(
    arrays: Arrays,
    rotations: Float[np.ndarray, "16 3 3"],
    prefix: str = "hi_",
    shape: Float[np.ndarray, "10"] | None = None,
) -> Float[np.ndarray, "v 3"]:
    """The same of rotations relative to the parent joints, and of another hand than the mean one."""
    shape = np.zeros(10) if shape is None else shape
    rest = arrays[f"{prefix}v" if prefix else "v_template"] + arrays[f"{prefix}shapedirs"].astype(float) @ shape
    rest = rest + arrays[f"{prefix}posedirs"].astype(float) @ (rotations[1:] - np.eye(3)).ravel()
    joints = arrays["J_regressor"].astype(float) @ (arrays["v_template"] + arrays["shapedirs"].astype(float) @ shape)
    turn, shift = np.empty((16, 3, 3)), np.empty((16, 3))
    turn[0], shift[0] = rotations[0], joints[0] - rotations[0] @ joints[0]
    for j in range(1, 16):
        parent = MODEL_PARENTS[j]
        turn[j] = turn[parent] @ rotations[j]
        shift[j] = turn[parent] @ joints[j] + shift[parent] - turn[j] @ joints[j]
    weights = arrays[f"{prefix}weights"].astype(float)
    return np.einsum("vj,vja->va", weights, np.einsum("jab,vb->vja", turn, rest) + shift)


def _pieces(
    arrays: Arrays, vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], weights: np.ndarray
) -> list[Bool[np.ndarray, "f"]]:
    """Faces of each phalanx, in the order of MANO's joints 1-14 without 13."""
    centres = vertices[faces].mean(1)
    owner = np.sort(np.where(weights.argmax(1) == 0, -1, (weights.argmax(1) - 1) // 3)[faces], 1)[:, 1]
    joints, out = arrays["J"].astype(float), []
    for k, (digit, chain) in enumerate(CHAINS.items()):
        ends = [*joints[list(chain)], arrays["v_template"][TIP_VERTICES[digit]].astype(float)]
        along = np.stack([(centres - a) @ (b - a) / ((b - a) @ (b - a)) for a, b in zip(ends, ends[1:], strict=False)])
        bounds = [(WEB, 1.0), (0.0, 1.0), (0.0, 9.0)]
        for bone in range(3):
            low, high = bounds[bone]
            piece = (owner == k) & (along[bone] > low) & (along[bone] <= high)
            if bone < 2:
                piece &= along[bone + 1] < 0.5
            if digit != "thumb" or bone:
                out.append(piece)
    return out


def _volume(vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]) -> float:
    """Enclosed volume, every open edge closed towards the middle of all open edges of its end."""
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    code = directed[:, 0] * len(vertices) + directed[:, 1]
    back = directed[:, 1] * len(vertices) + directed[:, 0]
    rim = directed[~np.isin(code, back)]
    p = vertices - vertices[np.unique(faces)].mean(0)
    volume = np.einsum("ni,ni->", p[faces[:, 0]], np.cross(p[faces[:, 1]], p[faces[:, 2]])) / 6
    for loop in _ends(rim):
        middle = p[loop].mean((0, 1))
        volume -= (np.cross(p[loop[:, 0]], p[loop[:, 1]]) @ middle).sum() / 6
    return float(volume)


def _ends(rim: Int64[np.ndarray, "n 2"]) -> list[Int64[np.ndarray, "m 2"]]:
    """Open edges by connected end."""
    group = {int(v): int(v) for v in rim.ravel()}

    def root(v: int) -> int:
        while group[v] != v:
            v = group[v]
        return v

    for a, b in rim.tolist():
        group[root(a)] = root(b)
    roots = np.array([root(int(a)) for a in rim[:, 0]])
    return [rim[roots == r] for r in np.unique(roots)]
