"""Nearest points of triangles, in barycentric coordinates."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def nearest_shares(p: Float[np.ndarray, "*n 3"], triangle: Float[np.ndarray, "*m 3 3"]) -> Float[np.ndarray, "*k 3"]:
    """Shares of a triangle's corners in its nearest point to `p`: inside, or on its nearest edge. Both broadcast."""
    a, b, c = triangle[..., 0, :], triangle[..., 1, :], triangle[..., 2, :]
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-24)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = np.stack([1 - v - w, v, w], -1)
    best, best_distance = inside, np.where((inside >= 0).all(-1), -1.0, np.inf)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = triangle[..., i, :], triangle[..., j, :] - triangle[..., i, :]
        t = (((p - start) * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-24)).clip(0, 1)
        share = np.zeros_like(inside)
        share[..., i], share[..., j] = 1 - t, t
        distance = np.linalg.norm(start + t[..., None] * along - p, axis=-1)
        nearer = distance < best_distance
        best = np.where(nearer[..., None], share, best)
        best_distance = np.where(nearer, distance, best_distance)
    return best
