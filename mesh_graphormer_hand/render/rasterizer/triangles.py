"""The rasteriser's front end: project vertices, drop what cannot be seen, clip at the near plane, compact the rest.

Conventions of the whole rasteriser (`triangles`, `spans`, `raster`):

* Camera axes are OpenCV's: x right, y down, z forward; vertices are in metres.
* Cameras are (B, 4): fx, fy, cx, cy in pixels. The image's top-left CORNER is (0, 0), so the sample of pixel
  (row, column) lies at (column + 0.5, row + 0.5).
* A sample belongs to a triangle by the half-open rule: left and top edges are in, right and bottom edges are out, so
  triangles that share an edge neither leave a gap nor both claim a sample on it.
* Letters in shapes: b images, v vertices, f faces, t triangles that survive culling, r row spans, n fragments,
  p output pixels that something covers, s = supersample ** 2 samples a pixel. "Samples" are pixels of the supersampled
  image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

CULL = ("none", "back", "front")


@dataclass(frozen=True)
class Settings:
    """What to rasterise and how much memory to spend on it.

    `cull`: "none", "back" (drop faces whose outward, counter-clockwise normal points away) or "front". `near`: m; faces
    wholly nearer are dropped, faces that cross it are clipped (`clip`) or dropped. `supersample`: samples a pixel along
    one axis, a power of two; with `one_surface` only the nearest of them is resolved (s = 1 in the result) and the rest
    give `coverage`, which is what edges need. `max_faces` and `max_fragments` bound what one chunk holds (None: a
    default for the device, of a cache's size on a CPU).
    """

    cull: str = "none"
    near: float = 0.01
    clip: bool = True
    supersample: int = 1
    one_surface: bool = False
    max_faces: int | None = None
    max_fragments: int | None = None

    def __post_init__(self) -> None:
        if self.cull not in CULL:
            raise ValueError(f"cull is {self.cull!r}, should be one of {', '.join(CULL)}")
        if self.supersample < 1 or self.supersample & (self.supersample - 1):
            raise ValueError(f"supersample is {self.supersample}, should be a power of two")


Corners = tuple[Tensor, Tensor, Tensor]  # one value (t,) for each corner


class Triangles(NamedTuple):
    """Screen triangles left after culling, each (t,)."""

    x: Corners  # samples
    y: Corners  # samples
    w: Corners  # inverse depth, 1 / m
    owner: Tensor  # image * f + face, int64
    row0: Tensor  # image * rows + first row, int64
    rows: Tensor  # number of rows, int64


def triangles(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    cameras: Float[Tensor, "b 4"],
    height: int,
    width: int,
    s: Settings,
) -> Triangles:
    """Project, cull, clip and compact: the triangles worth rasterising at `height` x `width` samples."""
    count = vertices.shape[1]
    px, py, pw = project(vertices, cameras, s.near, s.supersample)
    corner = [faces[:, k].contiguous() for k in range(3)]
    x = tuple(px.index_select(1, c) for c in corner)
    y = tuple(py.index_select(1, c) for c in corner)
    keep, rows = _visible(x, y, height, width, s.cull)
    owner = keep.flatten().nonzero().squeeze(1)
    image = owner.div(faces.shape[0], rounding_mode="floor")
    face = owner - image * faces.shape[0]
    w = tuple(pw.flatten().index_select(0, c.index_select(0, face) + image * count) for c in corner)
    x, y, rows = (tuple(v.flatten().index_select(0, owner) for v in group) for group in (x, y, rows))
    inside = _triangles(x, y, w, owner, image, rows, height)
    if not s.clip:
        return inside
    behind = pw.isnan()
    if not bool(behind.any()):
        return inside
    return _join(inside, _clip_near(vertices, faces, cameras, behind, height, width, s))


def project(
    vertices: Float[Tensor, "b v 3"], cameras: Float[Tensor, "b 4"], near: float, scale: int = 1
) -> tuple[Float[Tensor, "b v"], Float[Tensor, "b v"], Float[Tensor, "b v"]]:
    """x, y in samples (NaN nearer than `near`) and inverse depth 1/m of every vertex."""
    x, y, z = vertices.unbind(-1)
    fx, fy, cx, cy = (cameras * scale).unsqueeze(1).unbind(-1)
    w = torch.where(z >= near, z, float("nan")).reciprocal()
    return x * fx * w + cx, y * fy * w + cy, w


def first_sample(v: Float[Tensor, "*n"], limit: int) -> Tensor:
    """Index of the first sample centre at or after coordinate `v`, clamped to [0, limit]; NaN stays NaN."""
    return (v - 0.5).ceil_().clamp_(0, limit)


def min3(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"], c: Float[Tensor, "*n"]) -> Tensor:
    """Elementwise least of three (`amin` over an axis of length 3 is many times slower)."""
    return torch.minimum(torch.minimum(a, b), c)


def max3(a: Float[Tensor, "*n"], b: Float[Tensor, "*n"], c: Float[Tensor, "*n"]) -> Tensor:
    """Elementwise greatest of three."""
    return torch.maximum(torch.maximum(a, b), c)


def _visible(x: Corners, y: Corners, height: int, width: int, cull: str) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Which triangles have a sample in their bounding box and face the wanted way; first and one-past-last row."""
    c0, c1 = first_sample(min3(*x), width), first_sample(max3(*x), width)
    r0, r1 = first_sample(min3(*y), height), first_sample(max3(*y), height)
    keep = (c0 < c1) & (r0 < r1)  # False for NaN
    # Twice the signed area: negative for a front face, outward counter-clockwise, because y points down.
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    keep &= {"none": area != 0, "back": area < 0, "front": area > 0}[cull]
    return keep, (r0, r1)


def _triangles(
    x: Corners,
    y: Corners,
    w: Corners,
    owner: Int64[Tensor, "t"],
    image: Int64[Tensor, "t"],
    rows: tuple[Float[Tensor, "t"], Float[Tensor, "t"]],
    height: int,
) -> Triangles:
    r0, r1 = (r.long() for r in rows)
    return Triangles(x, y, w, owner, r0 + image * height, r1 - r0)


def _join(a: Triangles, b: Triangles) -> Triangles:
    def pair(p: Tensor | Corners, q: Tensor | Corners) -> Tensor | Corners:
        return torch.cat((p, q)) if isinstance(p, Tensor) else tuple(map(pair, p, q))

    return Triangles(*map(pair, a, b))


def _clip_near(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    cameras: Float[Tensor, "b 4"],
    behind: Bool[Tensor, "b v"],
    height: int,
    width: int,
    s: Settings,
) -> Triangles:
    """Triangles (up to two each) of the parts beyond `near` of the faces that cross it."""
    n_behind = sum(behind.index_select(1, faces[:, k]).long() for k in range(3))
    image, face = ((n_behind == 1) | (n_behind == 2)).nonzero().unbind(1)
    corners, extra = _cut(vertices[image[:, None], faces[face]], s.near)
    image, face = torch.cat((image, image[extra])), torch.cat((face, face[extra]))
    camera = cameras[image] * s.supersample
    w = corners[..., 2].clamp_min(s.near).reciprocal()
    x = (corners[..., 0] * camera[:, 0:1] * w + camera[:, 2:3]).unbind(1)
    y = (corners[..., 1] * camera[:, 1:2] * w + camera[:, 3:4]).unbind(1)
    keep, rows = _visible(x, y, height, width, s.cull)
    x, y, w, rows = (tuple(u[keep] for u in group) for group in (x, y, w.unbind(1), rows))
    return _triangles(x, y, w, (image * faces.shape[0] + face)[keep], image[keep], rows, height)


def _cut(v: Float[Tensor, "k 3 3"], near: float) -> tuple[Float[Tensor, "k2 3 3"], Bool[Tensor, "k"]]:
    """Cut triangles that cross the plane z = `near`: what is beyond it, one triangle each and then a second one for
    those that leave a quad, which the mask names. The cyclic order of the corners is kept."""
    hidden = v[..., 2] < near
    two_hidden = hidden.sum(1) == 2
    lone = torch.where(two_hidden[:, None], ~hidden, hidden).long().argmax(1)  # the corner alone on its side
    order = (lone[:, None] + torch.arange(3, device=v.device)) % 3
    a, b, c = v.gather(1, order[..., None].expand(-1, -1, 3)).unbind(1)
    ab, ac = _at_near(a, b, near), _at_near(a, c, near)
    # The lone corner visible: (a, ab, ac). The lone corner hidden: the quad (ab, b, c, ac), as two triangles.
    first = torch.where(two_hidden[:, None, None], torch.stack((a, ab, ac), 1), torch.stack((ab, b, c), 1))
    return torch.cat((first, torch.stack((ab, c, ac), 1)[~two_hidden])), ~two_hidden


def _at_near(a: Float[Tensor, "k 3"], b: Float[Tensor, "k 3"], near: float) -> Float[Tensor, "k 3"]:
    """Point of segment a-b at depth `near`, the same bits whichever end is named first."""
    swap = (a[:, 2] > b[:, 2])[:, None]
    low, high = torch.where(swap, b, a), torch.where(swap, a, b)
    return low + (near - low[:, 2:]) / (high[:, 2:] - low[:, 2:]) * (high - low)
