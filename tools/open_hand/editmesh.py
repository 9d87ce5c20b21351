"""A triangle mesh that can be edited: split, collapse and flip edges without breaking the manifold.

The order in which sets are walked decides the result; it depends on the history of the edits alone, so that equal input
gives an equal mesh.
"""

from __future__ import annotations

import numpy as np

Face = tuple[int, int, int]
MAX_VALENCE = 10
MIN_COSINE_COLLAPSE = 0.45  # a collapse may turn no face further than this
MIN_COSINE_FLIP = 0.5
MIN_SHAPE_FLIP = 0.22  # twice the area over the longest edge squared, of a flipped face


class EditMesh:
    """Vertices, faces by number, and the faces around each vertex. A vertex without faces is dead."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray):
        self.vertices = [np.array(v, float) for v in vertices]
        self.faces: dict[int, Face] = {i: tuple(int(x) for x in f) for i, f in enumerate(faces)}
        self.next_face = len(faces)
        self.around: list[set[int]] = [set() for _ in vertices]
        for i, face in self.faces.items():
            for v in face:
                self.around[v].add(i)
        self.locked: set[int] = set()  # vertices that nothing moves
        self.boundary: set[int] = set()  # vertices on the open rim

    # ------------------------------------------------------------------ looking
    def compact(self) -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
        """Vertices and faces as arrays without the dead, and old -> new vertex numbers."""
        alive = sorted(v for v in range(len(self.vertices)) if self.around[v])
        number = {v: i for i, v in enumerate(alive)}
        faces = np.array([[number[v] for v in face] for face in self.faces.values()])
        return np.array([self.vertices[v] for v in alive]), faces, number

    def count(self) -> int:
        """Living vertices."""
        return sum(1 for faces in self.around if faces)

    def edges(self) -> set[tuple[int, int]]:
        """Each edge once, its lower vertex first."""
        return {
            (min(a, b), max(a, b)) for f in self.faces.values() for a, b in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))
        }

    def beside(self, a: int, b: int) -> set[int]:
        """The one or two faces on edge ab."""
        return self.around[a] & self.around[b]

    def neighbours(self, v: int) -> set[int]:
        """Vertices that share an edge with v."""
        return {x for f in self.around[v] for x in self.faces[f]} - {v}

    def find_boundary(self) -> set[int]:
        """Vertices on edges with one face."""
        return {v for edge in self.edges() if len(self.beside(*edge)) == 1 for v in edge}

    def boundary_loop(self) -> list[int]:
        """The open rim's vertices, one after another, from the lowest number on."""
        following = {
            a: b
            for f in self.faces.values()
            for a, b in ((f[0], f[1]), (f[1], f[2]), (f[2], f[0]))
            if len(self.beside(a, b)) == 1
        }
        loop = [min(following)]
        while following[loop[-1]] != loop[0]:
            loop.append(following[loop[-1]])
        return loop

    def length(self, a: int, b: int) -> float:
        """Of edge ab."""
        return np.linalg.norm(self.vertices[a] - self.vertices[b])

    def face_normal(self, face: Face, moved: tuple[int, np.ndarray] | None = None) -> np.ndarray:
        """Twice the area along the normal, with one vertex `moved` to a new place if given."""
        p = [self.vertices[v] if moved is None or v != moved[0] else moved[1] for v in face]
        return np.cross(p[1] - p[0], p[2] - p[0])

    # ------------------------------------------------------------------ editing
    def _add(self, face: Face) -> None:
        self.faces[self.next_face] = face
        for v in face:
            self.around[v].add(self.next_face)
        self.next_face += 1

    def _remove(self, number: int) -> None:
        for v in self.faces[number]:
            self.around[v].discard(number)
        del self.faces[number]

    def _replace(self, numbers: set[int], old: int, new: int) -> None:
        for i in list(numbers):
            face = self.faces[i]
            self._remove(i)
            self._add(tuple(new if v == old else v for v in face))

    def split(self, a: int, b: int, position: np.ndarray) -> int:
        """Put a new vertex on edge ab; its number."""
        new = len(self.vertices)
        self.vertices.append(position)
        self.around.append(set())
        for i in list(self.beside(a, b)):
            face = self.faces[i]
            self._remove(i)
            self._add(tuple(new if v == a else v for v in face))
            self._add(tuple(new if v == b else v for v in face))
        return new

    def collapse(self, a: int, b: int, position: np.ndarray, max_length: float | None = None) -> bool:
        """Merge b into a at `position`; refuse what breaks the manifold, turns a face or makes too long an edge."""
        if not self._may_merge(a, b):
            return False
        shared = self.beside(a, b)
        for v in (a, b):
            for i in self.around[v] - shared:
                before, after = self.face_normal(self.faces[i]), self.face_normal(self.faces[i], (v, position))
                size_before, size_after = np.linalg.norm(before), np.linalg.norm(after)
                if size_after < 1e-9 or before @ after < MIN_COSINE_COLLAPSE * size_before * size_after:
                    return False
        if max_length is not None:
            for x in (self.neighbours(a) | self.neighbours(b)) - {a, b}:
                if np.linalg.norm(self.vertices[x] - position) > max_length:
                    return False
        for i in shared:
            self._remove(i)
        self._replace(self.around[b], b, a)
        self.vertices[a] = position
        return True

    def _may_merge(self, a: int, b: int) -> bool:
        shared = self.beside(a, b)
        if not shared or len(self.neighbours(a) & self.neighbours(b)) != len(shared):
            return False
        if a in self.boundary and b in self.boundary and len(shared) == 2:
            return False
        opposite = {v for i in shared for v in self.faces[i]} - {a, b}
        if any(len(self.around[v]) <= (2 if v in self.boundary else 3) for v in opposite):
            return False
        return len(self.around[a]) + len(self.around[b]) - 2 * len(shared) <= MAX_VALENCE

    def flip(self, a: int, b: int) -> bool:
        """Turn edge ab to the other diagonal of its two faces if that evens out valences (or shortens it)."""
        pair = list(self.beside(a, b))
        if len(pair) != 2:
            return False
        f, g = (self.faces[i] for i in pair)
        c = next(v for v in f if v not in (a, b))
        d = next(v for v in g if v not in (a, b))
        if not self._improves(a, b, c, d) or d in self.neighbours(c):
            return False
        forward = f[(f.index(a) + 1) % 3] == b
        new = ((c, a, d), (d, b, c)) if forward else ((d, a, c), (c, b, d))
        if not self._well_shaped(new, self.face_normal(f) + self.face_normal(g)):
            return False
        for i in pair:
            self._remove(i)
        self._add(new[0])
        self._add(new[1])
        return True

    def _improves(self, a: int, b: int, c: int, d: int) -> bool:
        excess = [len(self.around[v]) - (3 if v in self.boundary else 6) for v in (a, b, c, d)]
        before = sum(x * x for x in excess)
        after = sum((x + y) ** 2 for x, y in zip(excess, (-1, -1, 1, 1), strict=True))
        return after < before or (after == before and self.length(c, d) < 0.98 * self.length(a, b))

    def _well_shaped(self, faces: tuple[Face, Face], facing: np.ndarray) -> bool:
        for face in faces:
            normal = self.face_normal(face)
            size = np.linalg.norm(normal)
            if size < 1e-9 or normal @ facing < MIN_COSINE_FLIP * size * np.linalg.norm(facing):
                return False
            longest = max(self.length(face[i], face[(i + 1) % 3]) for i in range(3))
            if size / longest**2 < MIN_SHAPE_FLIP:
                return False
        return True
