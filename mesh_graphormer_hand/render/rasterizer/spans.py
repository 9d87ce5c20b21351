"""The rasteriser's core: triangles -> row spans -> exactly the covered samples -> depth test. Conventions: `triangles`.

Nothing loops over faces, rows or pixels, and no fragment is ever masked or sorted: a span lists its own samples, and
the depth test is one `scatter_reduce(amin)` on 64-bit keys (depth bits above, triangle below).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from .triangles import Corners, Settings, Triangles, first_sample, max3, min3

EMPTY = 0x7F800000 << 32  # key of a sample that nothing covers: depth +inf, so that every hit wins
LOW32 = (1 << 32) - 1

Fragments = Iterator[tuple[Int64[Tensor, "n"], Float[Tensor, "n"], Int64[Tensor, "n"]]]


class Spans(NamedTuple):
    """Runs of covered samples within one row, each (r,)."""

    start: Tensor  # sample_index of the row's column 0, int64
    column: Tensor  # first column, int64
    count: Tensor  # samples, int64, may be 0
    w: Tensor  # inverse depth at the first sample, 1 / m
    step: Tensor  # of the inverse depth from one sample to the next
    triangle: Tensor  # index into Triangles, int64


def visibility(
    t: Triangles, samples: int, height: int, width: int, s: Settings, limit: int
) -> tuple[Int64[Tensor, "pixels s"], Int64[Tensor, "p"]]:
    """Depth test over `samples` samples: keys of the nearest fragments (EMPTY where none) and the covered pixels."""
    log2 = s.supersample.bit_length() - 1
    keys = torch.full((samples,), EMPTY, dtype=torch.int64, device=t.owner.device)
    touched = torch.zeros(samples >> 2 * log2, dtype=torch.bool, device=keys.device) if log2 else None
    for sample, w, triangle in fragments(t, height, width, s.supersample, limit):
        keys.scatter_reduce_(0, sample, _pack(w, triangle), "amin")
        if touched is not None:
            touched.index_fill_(0, sample >> 2 * log2, True)
    keys = keys.view(-1, 1 << 2 * log2)
    return keys, (keys[:, 0] < EMPTY if touched is None else touched).nonzero().squeeze(1)


def fragments(t: Triangles, height: int, width: int, supersample: int, limit: int) -> Fragments:
    """Yield sample index, inverse depth 1/m and index into `t` of the covered samples alone, about `limit` at once."""
    spans = spans_of(t, height, width, supersample)
    for part in _pieces(spans.count, limit):
        p = Spans(*(v[part] for v in spans))
        owner, local = expand(p.count)
        w = p.w.index_select(0, owner) + p.step.index_select(0, owner) * local
        column = local.add_(p.column.index_select(0, owner))
        yield _add_column(p.start.index_select(0, owner), column, supersample), w, p.triangle.index_select(0, owner)


def spans_of(t: Triangles, height: int, width: int, supersample: int) -> Spans:
    """Exact row spans of every triangle.

    An edge's crossing of a row is computed from its upper end, whichever triangle asks, so two triangles on an edge get
    bit-equal crossings: no gaps and no double hits.
    """
    (x0, x1, x2), (y0, y1, y2), w = _sort_by_y(t.x, t.y, t.w)
    gx, gy = _depth_plane((x0, x1, x2), (y0, y1, y2), w)
    m01, m12, m02 = (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1), (x2 - x0) / (y2 - y0)
    triangle, local = expand(t.rows)

    def at(v: Shaped[Tensor, "t"]) -> Tensor:
        return v.index_select(0, triangle)

    row = at(t.row0) + local
    y = (row % height).to(x0.dtype) + 0.5
    ax, dy = at(x0), y - at(y0)
    on_long = ax + dy * at(m02)
    # Exactly one of the two short edges crosses this row.
    on_short = torch.where(y < at(y1), ax + dy * at(m01), at(x1) + (y - at(y1)) * at(m12))
    c0 = first_sample(torch.minimum(on_long, on_short), width)
    c1 = first_sample(torch.maximum(on_long, on_short), width)
    low, high, slope = at(min3(*w)), at(max3(*w)), at(gx)
    base = at(w[0]) + dy * at(gy) - slope * (ax - 0.5)
    first = _clamp(base + slope * c0, low, high)  # clamped, because the gradient of a sliver is huge
    last = _clamp(base + slope * (c1 - 1), low, high)
    step = (last - first) / (c1 - c0 - 1).clamp_min_(1)
    return Spans(sample_index(row, width, supersample), c0.long(), (c1 - c0).long(), first, step, triangle)


def expand(counts: Int64[Tensor, "k"]) -> tuple[Int64[Tensor, "total"], Int64[Tensor, "total"]]:
    """Ragged arange: for each of sum(counts) items its owner and its position within the owner."""
    ends = counts.cumsum(0)
    total = int(ends[-1]) if counts.numel() else 0
    owner = torch.repeat_interleave(counts, output_size=total)
    local = torch.arange(total, device=counts.device) - (ends - counts).index_select(0, owner)
    return owner, local


def sample_index(row: Int64[Tensor, "k"], width: int, supersample: int) -> Int64[Tensor, "k"]:
    """Where column 0 of supersampled row `row` (image * rows + row) is kept; `width` in samples.

    The samples of one output pixel are neighbours: index = pixel * ss**2 + (row % ss) * ss + column % ss.
    """
    if supersample == 1:
        return row * width
    log2 = supersample.bit_length() - 1
    return (row >> log2) * (width * supersample) + (row & (supersample - 1)) * supersample


def _add_column(start: Int64[Tensor, "n"], column: Int64[Tensor, "n"], supersample: int) -> Tensor:
    """Index of column `column` of the row that starts at `start`."""
    if supersample == 1:
        return start + column
    return start + column * supersample - (column & (supersample - 1)) * (supersample - 1)


def _pieces(counts: Int64[Tensor, "k"], limit: int) -> Iterator[slice]:
    """Slices of `counts` whose sums stay near `limit` (one oversized entry is a slice of its own)."""
    total = int(counts.sum())
    if total <= limit:
        yield slice(0, counts.numel())
        return
    marks = torch.arange(limit, total + limit, limit, device=counts.device)
    cuts = torch.searchsorted(counts.cumsum(0), marks).add_(1).clamp_max_(counts.numel()).unique().tolist()
    begin = 0
    for cut in cuts:
        yield slice(begin, cut)
        begin = cut


def _pack(w: Float[Tensor, "n"], triangle: Int64[Tensor, "n"]) -> Int64[Tensor, "n"]:
    """Key that sorts by depth, then by triangle: positive floats sort like their bits."""
    return w.reciprocal().view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(triangle)


def _depth_plane(x: Corners, y: Corners, w: Corners) -> tuple[Float[Tensor, "t"], Float[Tensor, "t"]]:
    """Gradient of inverse depth over the screen (per sample) along x and y: it is linear there."""
    ax, ay, aw = x[1] - x[0], y[1] - y[0], w[1] - w[0]
    bx, by, bw = x[2] - x[0], y[2] - y[0], w[2] - w[0]
    inverse = (ax * by - bx * ay).reciprocal()
    return (aw * by - bw * ay) * inverse, (bw * ax - aw * bx) * inverse


def _sort_by_y(x: Corners, y: Corners, w: Corners) -> tuple[Corners, Corners, Corners]:
    """Reorder each triangle's corners by rising y (a three-step sorting network)."""
    x, y, w = list(x), list(y), list(w)
    for i, j in ((0, 1), (1, 2), (0, 1)):
        swap = y[i] > y[j]
        for v in (x, y, w):
            v[i], v[j] = torch.where(swap, v[j], v[i]), torch.where(swap, v[i], v[j])
    return tuple(x), tuple(y), tuple(w)


def _clamp(v: Float[Tensor, "r"], low: Float[Tensor, "r"], high: Float[Tensor, "r"]) -> Tensor:
    return torch.minimum(torch.maximum(v, low), high)
