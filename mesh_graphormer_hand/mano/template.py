"""The hand as a network sees it: rest mesh, joint regressor, coarse mesh, resampling and adjacency, as torch tensors.

Deterministic and quick (a quarter of a second), so it is made at first use and kept for the life of the process only.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .. import paths
from ..contracts import Record
from ..skeleton import NUM_JOINTS, PERMUTATIONS, TIPS, WRIST
from .coarse_mesh import CoarseMeshError, Resampling, decimate, read_published
from .hand import Hand
from .layer import ManoLayer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class HandTemplate(Record):
    """Constants of one hand's mesh. Rest pose: zero pose of a layer with flat_hand_mean=False, wrist at the origin."""

    vertices: Float[Tensor, "778 3"]  # m
    joints: Float[Tensor, "21 3"]  # m, regressed from `vertices`
    joint_regressor: Float[Tensor, "21 778"]  # canonical order, rows sum to 1, fingertips one-hot
    faces: Int64[Tensor, "1538 3"]
    edges: Int64[Tensor, "e 2"]  # of `faces`, each once
    coarse_vertices: Float[Tensor, "c 3"]  # m, downsample @ vertices
    coarse_faces: Int64[Tensor, "g 3"]
    downsample: Float[Tensor, "c 778"]  # rows sum to 1
    upsample: Float[Tensor, "778 c"]  # rows sum to 1
    adjacency: Float[Tensor, "c c"]  # of the coarse mesh, with self-loops, rows sum to 1
    fingerprint: int = 0  # of the hand
    coarse_fingerprint: int = 0  # of the hand and its resampling: networks trained on one coarse mesh fit no other


def hand_template(hand: Hand, coarse: int = 195, published: str | Path | None = "auto") -> HandTemplate:
    """The template of `hand` with a coarse mesh of `coarse` vertices.

    Args:
        hand: any loaded hand.
        coarse: vertices of the coarse mesh.
        published: MeshGraphormer's mano_downsampling.npz: "auto" takes it from mano_assets/ where a user has put it,
            for a MANO hand that it fits; a path takes that file; None never.

    Raises:
        CoarseMeshError: no number of faces leaves `coarse` vertices, or the published file has no such level.
        HandFileError: the published file is damaged.
    """
    # Whoever asks first may do so on the meta device or in inference mode; what is kept serves everybody.
    with torch.device("cpu"), torch.inference_mode(False), torch.no_grad():
        return _hand_template(hand, coarse, published)


@lru_cache(maxsize=16)
def _hand_template(hand: Hand, coarse: int, published: str | Path | None) -> HandTemplate:
    regressor = joint_regressor(hand)
    layer = ManoLayer(use_pca=False, flat_hand_mean=False, side=hand.side, hand=hand)
    vertices = layer(torch.zeros(1, layer.pose_size, dtype=torch.float32))[0][0].double()
    joints = regressor @ vertices
    vertices, joints = vertices - joints[WRIST], joints - joints[WRIST]
    mesh = _resampling(hand, coarse, published)
    downsample = torch.from_numpy(mesh.downsample)
    faces = torch.from_numpy(hand.faces)
    return HandTemplate(
        vertices=vertices.float(),
        joints=joints.float(),
        joint_regressor=regressor.float(),
        faces=faces,
        edges=unique_edges(faces),
        coarse_vertices=(downsample @ vertices).float(),
        coarse_faces=torch.from_numpy(mesh.faces),
        downsample=downsample.float(),
        upsample=torch.from_numpy(mesh.upsample).float(),
        adjacency=normalised_adjacency(torch.from_numpy(mesh.faces), coarse),
        fingerprint=hand.fingerprint,
        coarse_fingerprint=_coarse_fingerprint(hand, mesh),
    )


def joint_regressor(hand: Hand) -> Float[Tensor, "21 778"]:
    """Vertices -> the 21 joints in canonical order: MANO's regressor, and one vertex for each fingertip (float64)."""
    rows = np.zeros((NUM_JOINTS, hand.v_template.shape[0]))
    rows[:16] = hand.joint_regressor.astype(np.float64)
    rows = rows[list(PERMUTATIONS["mano"])]
    for joint, vertex in zip(TIPS, hand.tip_vertices, strict=True):
        rows[joint] = 0
        rows[joint, vertex] = 1
    return torch.from_numpy(rows)


def unique_edges(faces: Int64[Tensor, "f 3"]) -> Int64[Tensor, "e 2"]:
    """Every edge of a triangle mesh once, smaller vertex first, sorted."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return edges.sort(1).values.unique(dim=0)


def normalised_adjacency(faces: Int64[Tensor, "f 3"], count: int) -> Float[Tensor, "n n"]:
    """D^-1 (A + I) of a mesh's edge graph: each row averages a vertex and its neighbours."""
    first, second = unique_edges(faces).T
    dense = torch.eye(count, dtype=torch.float32)
    dense[first, second] = dense[second, first] = 1
    return dense / dense.sum(1, keepdim=True)


def _resampling(hand: Hand, coarse: int, published: str | Path | None) -> Resampling:
    if published is not None and published != "auto":
        return read_published(Path(published), hand.v_template, coarse)
    dropped = paths.MANO_ASSETS / "mano_downsampling.npz"
    if published == "auto" and hand.name == "mano" and dropped.is_file():
        try:
            return read_published(dropped, hand.v_template, coarse)
        except CoarseMeshError as error:
            logger.info("%s; making a coarse mesh instead", error)
    return decimate(hand.v_template, hand.faces, coarse)


def _coarse_fingerprint(hand: Hand, mesh: Resampling) -> int:
    digest = hashlib.sha256(hand.fingerprint.to_bytes(8, "big", signed=True))
    digest.update(np.ascontiguousarray(mesh.faces, "<i8").tobytes())
    for matrix in (mesh.downsample, mesh.upsample):
        digest.update(np.round(matrix * 2**12).astype("<i4").tobytes())
    return int.from_bytes(digest.digest()[:8], "big", signed=True) or 1
