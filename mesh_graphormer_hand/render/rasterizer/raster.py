"""Batched z-buffer triangle rasteriser in plain PyTorch, on any device, without a compiled extension.

Project -> cull -> compact -> row spans -> depth test on 64-bit keys -> barycentrics of the winners only. The
conventions (axes, pixels, the half-open rule, letters in shapes) are those of `triangles`. Agrees with PyTorch3D's
rasteriser pixel for pixel (but for samples exactly on an edge) at about 100 times its speed on a CPU.

The work is some hundred small operations, so one thread a process is the fast way on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from .spans import EMPTY, LOW32, visibility
from .triangles import Settings, Triangles, triangles

__all__ = ["Raster", "Settings", "interpolate", "rasterize"]


@dataclass
class Raster:
    """The visible surface, held for the p covered pixels only, in order of image, row and column.

    `depth` is metres along z; `bary` is perspective-correct; both are 0 and `face` is -1 where a sample is empty.
    """

    pixel: Int64[Tensor, "p"]  # (image * height + row) * width + column
    face: Int64[Tensor, "p s"]
    depth: Float[Tensor, "p s"]
    bary: Float[Tensor, "p s 3"]
    coverage: Float[Tensor, "p"]  # share of the pixel's samples that are covered, in (0, 1]
    batch: int
    height: int
    width: int

    @property
    def image(self) -> Int64[Tensor, "p"]:
        """Which image of the batch each covered pixel is in."""
        return self.pixel.div(self.height * self.width, rounding_mode="floor")

    def scatter(self, values: Shaped[Tensor, "p *c"], fill: float | int = 0) -> Shaped[Tensor, "b h w *c"]:
        """Spread values of covered pixels over images, `fill` elsewhere."""
        total = self.batch * self.height * self.width
        out = torch.full((total, *values.shape[1:]), fill, dtype=values.dtype, device=values.device)
        return out.index_copy(0, self.pixel, values).view(self.batch, self.height, self.width, *values.shape[1:])

    def dense(self) -> tuple[Float[Tensor, "b h w"], Int64[Tensor, "b h w"], Float[Tensor, "b h w 3"]]:
        """First sample of every pixel: depth m, face, barycentrics; -1 where empty."""
        hit = self.face[:, 0] >= 0
        depth = torch.where(hit, self.depth[:, 0], -1.0)
        bary = torch.where(hit[:, None], self.bary[:, 0], -1.0)
        return self.scatter(depth, -1), self.scatter(self.face[:, 0], -1), self.scatter(bary, -1)


class Meshes(NamedTuple):
    """b meshes that share their faces, each before its camera; see `rasterize`."""

    vertices: Float[Tensor, "b v 3"]
    faces: Int64[Tensor, "f 3"]
    cameras: Float[Tensor, "b 4"]


def rasterize(
    vertices: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    cameras: Float[Tensor, "b 4"],
    size: tuple[int, int],
    settings: Settings | None = None,
) -> Raster:
    """Visible surface of b meshes that share `faces`.

    Args:
        vertices: m, OpenCV camera axes; visibility is decided in float32 whatever their type.
        cameras: fx, fy, cx, cy in px, from the image's corner.
        size: height and width in px.

    Gradients flow to `vertices` through barycentrics and depth, at fixed visibility.

    Raises:
        ValueError: arguments of the wrong shape.
    """
    _check(vertices, faces, cameras)
    s = settings or Settings()
    max_faces, max_fragments = _limits(s, vertices.device)
    step = max(1, max_faces // max(1, faces.shape[0]))
    chunks = zip(vertices.split(step), cameras.split(step), strict=True)
    parts = [_rasterize_chunk(Meshes(v, faces, c), size, s, max_fragments) for v, c in chunks]
    return parts[0] if len(parts) == 1 else _concatenate(parts)


def interpolate(
    raster: Raster, faces: Int64[Tensor, "f 3"], attributes: Float[Tensor, "b v c"] | Float[Tensor, "v c"]
) -> Float[Tensor, "p s c"]:
    """Vertex attributes at every sample, 0 where empty; differentiable in the attributes and in the barycentrics."""
    samples = raster.face.shape[1]
    corner = faces.index_select(0, raster.face.flatten().clamp_min(0))  # p*s 3
    if attributes.dim() == 3:
        image = raster.image if samples == 1 else raster.image.repeat_interleave(samples)
        corner = corner + (image * attributes.shape[1])[:, None]
    table = attributes.reshape(-1, attributes.shape[-1])
    # A weighted embedding_bag is a fused gather: 30 times the speed of indexing, multiplying and summing.
    out = F.embedding_bag(corner, table, mode="sum", per_sample_weights=raster.bary.reshape(-1, 3))
    return out.view(-1, samples, attributes.shape[-1])


def _check(vertices: Tensor, faces: Tensor, cameras: Tensor) -> None:
    if vertices.dim() != 3 or vertices.shape[-1] != 3:
        raise ValueError(f"vertices have shape {tuple(vertices.shape)}, should be (images, vertices, 3)")
    if cameras.shape != (vertices.shape[0], 4):
        raise ValueError(f"cameras have shape {tuple(cameras.shape)}, should be ({vertices.shape[0]}, 4)")
    if faces.dim() != 2 or faces.shape[-1] != 3 or faces.dtype != torch.int64:
        raise ValueError(f"faces are {faces.dtype} {tuple(faces.shape)}, should be int64 (faces, 3)")


def _limits(s: Settings, device: torch.device) -> tuple[int, int]:
    on_cpu = device.type == "cpu"
    return s.max_faces or (1 << 16 if on_cpu else 1 << 22), s.max_fragments or (1 << 19 if on_cpu else 1 << 25)


def _rasterize_chunk(m: Meshes, size: tuple[int, int], s: Settings, limit: int) -> Raster:
    height, width = size[0] * s.supersample, size[1] * s.supersample
    with torch.no_grad():
        t = triangles(m.vertices.detach().float(), m.faces, m.cameras.detach().float(), height, width, s)
        keys, pixel = visibility(t, len(m.vertices) * height * width, height, width, s, limit)
    return _resolve(keys, pixel, t, m, size, s)


def _concatenate(parts: list[Raster]) -> Raster:
    """Join rasters of consecutive sub-batches into one."""
    area, shift, pixels = parts[0].height * parts[0].width, 0, []
    for p in parts:
        pixels.append(p.pixel + shift)
        shift += p.batch * area
    joined = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Raster)[1:5]}
    return Raster(torch.cat(pixels), **joined, batch=shift // area, height=parts[0].height, width=parts[0].width)


def _resolve(
    keys: Int64[Tensor, "pixels s"],
    pixel: Int64[Tensor, "p"],
    t: Triangles,
    m: Meshes,
    size: tuple[int, int],
    s: Settings,
) -> Raster:
    """Turn keys into the visible surface at the covered pixels."""
    vertices = m.vertices
    n_samples = s.supersample**2
    rows = keys.index_select(0, pixel)
    hit = rows < EMPTY
    coverage = hit.to(vertices.dtype) @ vertices.new_full((n_samples,), 1 / n_samples)
    if n_samples == 1 or s.one_surface:
        key, sub = nearest(rows)
        full = coverage > 1 - 1e-6 if n_samples > 1 else None
        face, bary, depth = _surface(key, pixel, sub, full, t, m, size, s.supersample)
        n_samples = 1
    else:
        live = hit.flatten().nonzero().squeeze(1)
        key = rows.flatten().index_select(0, live)
        where, sub = pixel.index_select(0, live >> 2 * (s.supersample.bit_length() - 1)), live & (n_samples - 1)
        found = _surface(key, where, sub, None, t, m, size, s.supersample)
        face = torch.full((rows.numel(),), -1, device=rows.device).index_copy_(0, live, found[0])
        bary = vertices.new_zeros(rows.numel(), 3).index_copy(0, live, found[1])
        depth = vertices.new_zeros(rows.numel()).index_copy(0, live, found[2])
    shape = (-1, n_samples)
    return Raster(pixel, face.view(shape), depth.view(shape), bary.view(*shape, 3), coverage, vertices.shape[0], *size)


def nearest(keys: Shaped[Tensor, "p s"]) -> tuple[Tensor, Int64[Tensor, "p"]]:
    """Least value of each row of (p, s) and its column (a loop over s: reductions over short rows are slow)."""
    best, column = keys[:, 0].contiguous(), torch.zeros(len(keys), dtype=torch.int64, device=keys.device)
    for k in range(1, keys.shape[1]):
        closer = keys[:, k] < best
        best, column = torch.where(closer, keys[:, k], best), column.masked_fill_(closer, k)
    return best, column


def _surface(
    key: Int64[Tensor, "n"],
    pixel: Int64[Tensor, "n"],
    sub: Int64[Tensor, "n"],
    full: Bool[Tensor, "n"] | None,
    t: Triangles,
    m: Meshes,
    size: tuple[int, int],
    supersample: int,
) -> tuple[Int64[Tensor, "n"], Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Face, barycentrics and depth of the winning `key` at sub-sample `sub` of each pixel.

    With `full`, a mask of pixels that are wholly covered, those are resolved at the pixel's centre, or at the nearest
    point of the face to it: one sample then stands for the pixel without shifting it.
    """
    height, width = size
    owner = t.owner.index_select(0, key & LOW32)
    image = owner.div(len(m.faces), rounding_mode="floor")
    face = owner - image * len(m.faces)
    line = pixel.div(width, rounding_mode="floor")
    dx = ((sub & (supersample - 1)) + 0.5) / supersample
    dy = ((sub >> supersample.bit_length() - 1) + 0.5) / supersample
    if full is not None:
        dx, dy = dx.masked_fill_(full, 0.5), dy.masked_fill_(full, 0.5)
    px = (pixel - line * width).to(m.vertices.dtype) + dx
    py = (line - image * height).to(m.vertices.dtype) + dy
    return face, *_barycentrics(m, image, face, px, py, full is not None)


def _barycentrics(
    m: Meshes,
    image: Int64[Tensor, "n"],
    face: Int64[Tensor, "n"],
    px: Float[Tensor, "n"],
    py: Float[Tensor, "n"],
    clamp: bool,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n"]]:
    """Perspective-correct barycentrics and depth m of the ray through (px, py) with each face's plane.

    Uses homogeneous coordinates relative to the ray, q = (fx X + (cx - px) Z, fy Y + (cy - py) Z): no division by z, so
    also right for faces that cross the camera plane. Differentiable in vertices. `clamp` brings rays that pass beside
    the face back to it.
    """
    base = image * m.vertices.shape[1]
    columns = [v.contiguous() for v in m.vertices.reshape(-1, 3).unbind(1)]
    fx, fy, cx, cy = (c.index_select(0, image) for c in m.cameras.unbind(1))
    dx, dy = cx - px, cy - py
    qx, qy, z = [], [], []
    for k in range(3):
        corner = base + m.faces[:, k].index_select(0, face)
        x, y, zk = (v.index_select(0, corner) for v in columns)
        qx.append(fx * x + dx * zk)
        qy.append(fy * y + dy * zk)
        z.append(zk)
    w = [qx[i] * qy[j] - qx[j] * qy[i] for i, j in ((1, 2), (2, 0), (0, 1))]
    total = w[0] + w[1] + w[2]
    w = [v / torch.where(total == 0, 1.0, total) for v in w]
    if clamp:
        w = [v.clamp_min(0) for v in w]
        total = w[0] + w[1] + w[2]
        w = [v / torch.where(total == 0, 1.0, total) for v in w]
    return torch.stack(w, 1), w[0] * z[0] + w[1] * z[1] + w[2] * z[2]
