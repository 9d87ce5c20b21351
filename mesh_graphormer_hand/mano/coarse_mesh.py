"""Coarse meshes of a hand: made by edge collapse, or read from MeshGraphormer's mano_downsampling.npz.

The collapse is by quadric error (Garland and Heckbert, "Surface Simplification Using Quadric Error Metrics", SIGGRAPH
1997; fast_simplification). Decimators take a number of faces: the one that leaves the wanted vertices is searched for.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import fast_simplification
import numpy as np
from jaxtyping import Float, Int, Int64

from . import pickles
from .hand import HandFileError
from .nearest import nearest_shares

_FITS = 0.01  # m, mean distance of a hand from its down- and upsampled self: 1-2 mm where the matrices are its own


class CoarseMeshError(ValueError):
    """No coarse mesh with the wanted number of vertices can be made from this hand."""


@dataclass(frozen=True, eq=False)
class Resampling:
    """A coarse mesh of a hand and the linear maps to it and back, float64."""

    faces: Int64[np.ndarray, "g 3"]
    downsample: Float[np.ndarray, "c v"]  # rows sum to 1
    upsample: Float[np.ndarray, "v c"]  # rows sum to 1


def decimate(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], coarse: int) -> Resampling:
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


def _collapse(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], coarse: int
) -> tuple[np.ndarray, np.ndarray]:
    """Try face counts from the likeliest outwards: a disc of c vertices and b boundary edges has 2 c - 2 - b faces."""
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
    matrix, corners = np.zeros((len(points), len(vertices))), vertices[faces]
    for start in range(0, len(points), 64):  # all pairs, in pieces that stay small
        chunk = points[start : start + 64]
        shares = nearest_shares(chunk[:, None], corners[None])
        distance = np.linalg.norm((shares[..., None] * corners).sum(-2) - chunk[:, None], axis=-1)
        face = np.argmin(np.round(distance, 9), 1)  # rounded: the first of equally close faces, on every machine
        rows = np.arange(len(chunk))
        np.add.at(matrix, (start + rows[:, None], faces[face]), shares[rows, face])
    return matrix


def read_published(path: Path, vertices: Float[np.ndarray, "v 3"], coarse: int) -> Resampling:
    """Read MeshGraphormer's mano_downsampling.npz, which knows the real MANO's vertices and no other hand's.

    The file holds lists of sparse matrices (A adjacency, D down, U up), pickled; they are read without executing
    anything. It has no faces: they are the triangles of A's graph.

    Args:
        path: the file.
        vertices: of the hand, rest pose, m; used to check that the file is about this hand.
        coarse: the wanted level (195 or 49 in the published file).

    Raises:
        HandFileError: the file is damaged or holds something else.
        CoarseMeshError: it has no such level, or belongs to another hand.
    """
    matrices = {key: _matrices(path, key) for key in "ADU"}
    count = len(vertices)
    adjacency, down, up = (
        next((m for m in matrices[key] if m.shape == shape), None)
        for key, shape in (("A", (coarse, coarse)), ("D", (coarse, count)), ("U", (count, coarse)))
    )
    if adjacency is None or down is None or up is None:
        levels = sorted({m.shape[0] for m in matrices["D"]})
        raise CoarseMeshError(f"{path}: no level of {coarse} vertices for a mesh of {count} (levels: {levels})")
    if max(np.abs(m.sum(1) - 1).max() for m in (down, up)) > 1e-3:
        raise HandFileError(f"{path}: rows of the resampling matrices should sum to 1")
    error = np.linalg.norm(up @ (down @ vertices) - vertices, axis=1).mean()
    if error > _FITS:
        raise CoarseMeshError(f"{path} belongs to another hand: it moves this one's vertices by {1e3 * error:.0f} mm")
    return Resampling(_triangles(adjacency, down @ vertices), down.astype(np.float64), up.astype(np.float64))


def _matrices(path: Path, key: str) -> list[np.ndarray]:
    """The matrices in one entry of the archive; never through numpy's allow_pickle, which would execute the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            stream = BytesIO(archive.read(f"{key}.npy"))
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        dtype = read_header(stream)[2]
    except KeyError:
        raise HandFileError(f"{path}: key `{key}` is missing; this is not MeshGraphormer's file") from None
    except Exception as error:  # of zip, zlib and numpy
        raise HandFileError(f"{path}: not a readable .npz ({error})") from None
    what = f"{path}: `{key}`"
    matrices = pickles.to_array(pickles.load(stream.read(), what), what) if dtype.hasobject else []
    if not matrices or any(not isinstance(m, np.ndarray) or m.ndim != 2 for m in matrices):
        raise HandFileError(f"{what} should be a list of matrices")
    return list(matrices)


def _triangles(adjacency: Float[np.ndarray, "c c"], points: Float[np.ndarray, "c 3"]) -> Int64[np.ndarray, "g 3"]:
    """All triples of mutual neighbours, turned so that edges shared by two of them run both ways, normals outward."""
    import trimesh  # takes longer to load than a hand does, and only the published file needs it

    linked = (adjacency != 0) | (adjacency.T != 0)
    faces = [
        (a, b, c)
        for a in range(len(linked))
        for b in np.flatnonzero(linked[a, a + 1 :]) + a + 1
        for c in np.flatnonzero(linked[a, b + 1 :] & linked[b, b + 1 :]) + b + 1
    ]
    mesh = trimesh.Trimesh(points, np.array(faces, np.int64).reshape(-1, 3), process=False)
    trimesh.repair.fix_winding(mesh)
    if mesh.volume < 0:
        mesh.invert()
    return np.ascontiguousarray(mesh.faces, np.int64)
