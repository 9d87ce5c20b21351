"""Adaptive isotropic remeshing of an open surface: split, collapse, flip and relax until edges have the wanted length.

After Botsch and Kobbelt ("A remeshing approach to multiresolution modeling", SGP 2004), with a size field, a boundary
of a given number of edges, locked points and, if asked for, an exact number of vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .editmesh import EditMesh
from .primitives import Points, Values

SPLIT_ABOVE, COLLAPSE_BELOW = 4 / 3, 0.8  # of the wanted edge length


@dataclass(frozen=True)
class Goal:
    """What the new mesh should be.

    Attributes:
        size: points -> relative edge length there.
        project: points -> points on the surface.
        project_rim: points -> points on the boundary curve.
        rim: boundary edges.
        count: vertices in all.
        locked: points that must be vertices.
        rounds: of split, collapse, flip and relax.
        exact: meet `count` to the vertex, and take more care; else about.
    """

    size: Callable[[Points], Values]
    project: Callable[[Points], Points]
    project_rim: Callable[[Points], Points]
    rim: int
    count: int
    locked: list[np.ndarray] = field(default_factory=list)
    rounds: int = 12
    exact: bool = True


def remesh(vertices: np.ndarray, faces: np.ndarray, goal: Goal) -> tuple[np.ndarray, np.ndarray, list[int], list[int]]:
    """Returns vertices, faces, the boundary loop, and the locked vertices in the order of `goal.locked`.

    Raises:
        RuntimeError: the boundary cannot be brought to `goal.rim` edges.
    """
    mesh = EditMesh(vertices, faces)
    loop = _make_rim(mesh, goal)
    locked = [_lock(mesh, point) for point in goal.locked]
    scale = _initial_scale(mesh, goal)
    for step in range(goal.rounds):
        _split_long(mesh, goal, scale)
        _collapse_short(mesh, goal, scale)
        _flip_all(mesh)
        _relax(mesh, goal, scale, 4 if goal.exact else 2)
        count = mesh.count()
        if step >= 2 and abs(count - goal.count) > 3:
            scale *= (count / goal.count) ** 0.5
    if goal.exact:
        _meet_count(mesh, goal, scale)
    for _ in range(8 if goal.exact else 1):
        _flip_all(mesh)
        _relax(mesh, goal, scale, 5 if goal.exact else 2)
    out_vertices, out_faces, number = mesh.compact()
    return out_vertices, out_faces, [number[v] for v in loop], [number[v] for v in locked]


def _make_rim(mesh: EditMesh, goal: Goal) -> list[int]:
    """Collapse the boundary to the wanted number of edges and space them evenly; the loop of its vertices."""
    mesh.boundary = mesh.find_boundary()
    while len(mesh.boundary) > goal.rim:
        rim = [edge for edge in mesh.edges() if len(mesh.beside(*edge)) == 1]
        rim.sort(key=lambda edge: mesh.length(*edge))
        for a, b in rim:
            if mesh.collapse(a, b, goal.project_rim(0.5 * (mesh.vertices[a] + mesh.vertices[b])[None])[0]):
                break
        else:
            raise RuntimeError(f"the boundary stays at {len(mesh.boundary)} edges, {goal.rim} wanted")
        mesh.boundary = mesh.find_boundary()
    loop = mesh.boundary_loop()
    for _ in range(60):
        p = np.array([mesh.vertices[v] for v in loop])
        p = goal.project_rim(0.5 * p + 0.25 * (np.roll(p, 1, 0) + np.roll(p, -1, 0)))
        for v, position in zip(loop, p, strict=True):
            mesh.vertices[v] = position
    mesh.boundary = set(loop)
    return loop


def _lock(mesh: EditMesh, point: np.ndarray) -> int:
    """Move the nearest vertex to `point` for good."""
    distances = [np.linalg.norm(x - point) if mesh.around[v] else 1e9 for v, x in enumerate(mesh.vertices)]
    nearest = int(np.argmin(distances))
    mesh.vertices[nearest] = np.array(point)
    mesh.locked.add(nearest)
    return nearest


def _initial_scale(mesh: EditMesh, goal: Goal) -> float:
    """mm per unit of the size field, so that equilateral triangles of that size would cover the surface."""
    total = sum(
        np.linalg.norm(mesh.face_normal(f)) / goal.size(np.mean([mesh.vertices[v] for v in f], 0)[None])[0] ** 2
        for f in mesh.faces.values()
    )
    return np.sqrt(2 * total * 0.5 / (np.sqrt(3) / 2) / (2 * goal.count) / 1.0)


def _sizes(mesh: EditMesh, goal: Goal, scale: float) -> Values:
    return goal.size(np.array(mesh.vertices)) * scale


def _relative_edges(mesh: EditMesh, sizes: Values) -> list[tuple[float, int, int]]:
    """(length over wanted length, a, b) of each edge."""
    return [(mesh.length(a, b) / (0.5 * (sizes[a] + sizes[b])), a, b) for a, b in mesh.edges()]


def _split_long(mesh: EditMesh, goal: Goal, scale: float) -> None:
    new = []
    for ratio, a, b in sorted(_relative_edges(mesh, _sizes(mesh, goal, scale)), reverse=True):
        if ratio < SPLIT_ABOVE:
            break
        if len(mesh.beside(a, b)) == 2:
            new.append(mesh.split(a, b, 0.5 * (mesh.vertices[a] + mesh.vertices[b])))
    if new:
        for v, position in zip(new, goal.project(np.array([mesh.vertices[v] for v in new])), strict=True):
            mesh.vertices[v] = position


def _collapse_short(mesh: EditMesh, goal: Goal, scale: float) -> None:
    sizes = _sizes(mesh, goal, scale)
    for ratio, a, b in sorted(_relative_edges(mesh, sizes)):
        if ratio > COLLAPSE_BELOW:
            break
        if mesh.beside(a, b):
            _collapse(mesh, a, b, goal.project if goal.exact else np.array, SPLIT_ABOVE * sizes[a])


def _collapse(
    mesh: EditMesh, a: int, b: int, project: Callable[[Points], Points], max_length: float | None = None
) -> bool:
    """Merge the ends of an edge halfway, or at the one that must not move."""
    a_fixed, b_fixed = (v in mesh.locked or v in mesh.boundary for v in (a, b))
    if a_fixed and b_fixed:
        return False
    if b_fixed:
        a, b, a_fixed = b, a, True
    position = mesh.vertices[a] if a_fixed else project(0.5 * (mesh.vertices[a] + mesh.vertices[b])[None])[0]
    return mesh.collapse(a, b, position, max_length)


def _flip_all(mesh: EditMesh) -> None:
    for _ in range(3):
        flipped = 0
        for a, b in list(mesh.edges()):
            if len(mesh.beside(a, b)) == 2:
                flipped += mesh.flip(a, b)
        if not flipped:
            break


def _relax(mesh: EditMesh, goal: Goal, scale: float, times: int, rate: float = 0.6) -> None:
    """Move vertices along the surface towards the centres of the triangles around them, weighted by relative area."""
    vertices = np.array(mesh.vertices)
    alive = [v for v in range(len(mesh.vertices)) if mesh.around[v]]
    faces = np.array(list(mesh.faces.values()))
    moving = np.array([v for v in alive if v not in mesh.boundary and v not in mesh.locked])
    for _ in range(times):
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        centres, normals = (a + b + c) / 3, np.cross(b - a, c - a)
        weights = np.linalg.norm(normals, axis=1) / (goal.size(centres) * scale) ** 2
        pull, total, facing = np.zeros_like(vertices), np.zeros(len(vertices)), np.zeros_like(vertices)
        for k in range(3):
            np.add.at(pull, faces[:, k], weights[:, None] * centres)
            np.add.at(total, faces[:, k], weights)
            np.add.at(facing, faces[:, k], normals)
        facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
        step = pull / np.maximum(total, 1e-12)[:, None] - vertices
        step -= (step * facing).sum(1, keepdims=True) * facing
        vertices[moving] = goal.project(vertices[moving] + rate * step[moving])
    for v in alive:
        mesh.vertices[v] = vertices[v]


def _meet_count(mesh: EditMesh, goal: Goal, scale: float, limit: int = 200) -> None:
    """Collapse the shortest or split the longest inner edge until the count is right."""
    for _ in range(limit):
        count = mesh.count()
        if count == goal.count:
            break
        sizes = _sizes(mesh, goal, scale)
        inner = sorted(edge for edge in _relative_edges(mesh, sizes) if len(mesh.beside(*edge[1:])) == 2)
        if count > goal.count:
            for _, a, b in inner:
                if _collapse(mesh, a, b, goal.project):
                    break
        else:
            _, a, b = inner[-1]
            mesh.split(a, b, goal.project(0.5 * (mesh.vertices[a] + mesh.vertices[b])[None])[0])
        _flip_all(mesh)
