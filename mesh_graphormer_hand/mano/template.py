"""The hand as a network sees it: rest mesh, joint regressor, coarse mesh, resampling and adjacency, as torch tensors.

The coarse mesh comes from quadric edge collapse (Garland and Heckbert, "Surface Simplification Using Quadric Error
Metrics", SIGGRAPH 1997; fast_simplification) of whichever hand is loaded. Decimators take a number of faces, so the
number that leaves the wanted number of vertices is searched for. Deterministic and quick (well under a second), so it is
made at first use and kept for the life of the process only.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import fast_simplification
import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int64
from torch import Tensor
from torch_geometric.utils import add_remaining_self_loops, to_dense_adj, to_undirected

from .. import paths
from ..contracts import Record
from ..skeleton import NUM_JOINTS, PERMUTATIONS, TIPS, WRIST
from .hand import Hand
from .layer import ManoLayer

logger = logging.getLogger(__name__)


class CoarseMeshError(ValueError):
    """No coarse mesh with the wanted number of vertices can be made from this hand."""


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


@dataclass(frozen=True, eq=False)
class Resampling:
    """A coarse mesh of a hand, as arrays."""

    faces: Int64[np.ndarray, "g 3"]
    downsample: Float[np.ndarray, "c 778"]
    upsample: Float[np.ndarray, "778 c"]


@lru_cache(maxsize=16)
def hand_template(hand: Hand, coarse: int = 195, published: str | Path | None = "auto") -> HandTemplate:
    """The template of `hand` with a coarse mesh of `coarse` vertices.

    Args:
        hand: any loaded hand.
        coarse: vertices of the coarse mesh.
        published: MeshGraphormer's mano_downsampling.npz: "auto" takes it from mano_assets/ where a user has put it, for
            hands that it fits (the real MANO); a path takes that file; None never.

    Raises:
        CoarseMeshError: no number of faces leaves `coarse` vertices, or the published file has no such level.
        HandFileError: the published file is damaged.
    """
    regressor = joint_regressor(hand)
    layer = ManoLayer(use_pca=False, flat_hand_mean=False, side=hand.side, hand=hand)
    with torch.no_grad():
        vertices = layer(torch.zeros(1, layer.pose_size))[0][0].double()
    joints = regressor @ vertices
    vertices, joints = vertices - joints[WRIST], joints - joints[WRIST]
    mesh = _published(hand, coarse, published) or decimate(hand.v_template, hand.faces, coarse)
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
    edges = to_undirected(unique_edges(faces).T, num_nodes=count)
    edges, _ = add_remaining_self_loops(edges, num_nodes=count)
    dense = to_dense_adj(edges, max_num_nodes=count)[0]
    return dense / dense.sum(1, keepdim=True)


def decimate(vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"], coarse: int) -> Resampling:
    """Collapse a mesh to `coarse` vertices and find the linear maps down and up.

    Both maps take barycentric coordinates of the closest point: of each coarse vertex on the fine surface, and of each
    fine vertex on the coarse one.

    Raises:
        CoarseMeshError: no number of faces leaves `coarse` vertices.
    """
    points, triangles = _collapse(np.asarray(vertices, np.float32), np.asarray(faces, np.int32), coarse)
    return Resampling(
        faces=triangles,
        downsample=barycentric_map(points, vertices, faces),
        upsample=barycentric_map(vertices, points, triangles),
    )


def _collapse(vertices: np.ndarray, faces: np.ndarray, coarse: int) -> tuple[np.ndarray, np.ndarray]:
    """Try face counts from the likeliest outwards; an open disc of c vertices and b boundary edges has 2 c - 2 - b faces."""
    if not 4 <= coarse < len(vertices):
        raise CoarseMeshError(
            f"a coarse mesh of {coarse} vertices cannot be made from {len(vertices)}: 4 or more, fewer"
        )
    centre, found = 2 * coarse - 10, set()
    for distance in range(160):
        for target in {centre - distance, centre + distance}:
            if not 2 <= target < len(faces):
                continue
            points, triangles = fast_simplification.simplify(vertices, faces, target_count=target)
            used = np.unique(triangles)
            found.add(len(used))
            if len(used) == coarse:
                return points[used].astype(np.float64), np.searchsorted(used, triangles).astype(np.int64)
    near = sorted(found, key=lambda count: abs(count - coarse))[:4]
    raise CoarseMeshError(
        f"no face count decimates this hand of {len(vertices)} vertices to {coarse}; near it there are {sorted(near)}"
    )


def barycentric_map(
    points: Float[np.ndarray, "n 3"], vertices: Float[np.ndarray, "v 3"], faces: Int64[np.ndarray, "f 3"]
) -> Float[np.ndarray, "n v"]:
    """The matrix that rebuilds each point's closest point on a surface from the surface's vertices; rows sum to 1."""
    points, vertices = np.asarray(points, np.float64), np.asarray(vertices, np.float64)
    matrix = np.zeros((len(points), len(vertices)))
    for start in range(0, len(points), 64):  # all pairs, in pieces that stay small
        chunk = points[start : start + 64]
        count, triangles = len(chunk), np.tile(vertices[faces], (len(chunk), 1, 1))
        closest = trimesh.triangles.closest_point(triangles, np.repeat(chunk, len(faces), 0))
        distance = np.linalg.norm(closest.reshape(count, len(faces), 3) - chunk[:, None], axis=-1)
        face = np.argmin(np.round(distance, 9), 1)  # rounded: the first of equally close faces, on every machine
        spot = closest.reshape(count, len(faces), 3)[np.arange(count), face]
        weights = trimesh.triangles.points_to_barycentric(vertices[faces[face]], spot).clip(0, 1)
        weights /= weights.sum(1, keepdims=True)
        np.add.at(matrix, (np.arange(start, start + count)[:, None], faces[face]), weights)
    return matrix


def _published(hand: Hand, coarse: int, source: str | Path | None) -> Resampling | None:
    return None


def _coarse_fingerprint(hand: Hand, mesh: Resampling) -> int:
    digest = hashlib.sha256(hand.fingerprint.to_bytes(8, "big", signed=True))
    digest.update(np.ascontiguousarray(mesh.faces, "<i8").tobytes())
    for matrix in (mesh.downsample, mesh.upsample):
        digest.update(np.round(matrix * 2**12).astype("<i4").tobytes())
    return int.from_bytes(digest.digest()[:8], "big", signed=True) or 1
