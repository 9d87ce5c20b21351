"""Least-squares alignment of corresponding point sets (Procrustes analysis). Any unit: what goes in comes out.

Two definitions are in use: HMR, HaMeR and Mesh Graphormer allow proper rotations only; FreiHAND's, HO-3D's and DexYCB's
own evaluations allow reflections too. Procrustes minimises the SQUARED error: an aligned mean distance may exceed the
unaligned one.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_EPS = 1e-12  # of the squared size of the source; a source of one point collapses onto the target's centroid


def procrustes(
    source: Float[Tensor, "*b n 3"],
    target: Float[Tensor, "*b n 3"],
    allow_reflection: bool = False,
    valid: Bool[Tensor, "*b n"] | None = None,
) -> Float[Tensor, "*b n 3"]:
    """`source` moved, rotated and scaled onto `target` (Umeyama 1991), the fit made on the `valid` points only.

    With `allow_reflection` the rotation may have determinant -1, as scipy.linalg.orthogonal_procrustes allows.
    """
    weight = torch.ones_like(source[..., :1]) if valid is None else valid[..., None].to(source)  # *b n 1
    count = weight.sum(-2, keepdim=True).clamp_min(1)
    source_mean = (weight * source).sum(-2, keepdim=True) / count
    target_mean = (weight * target).sum(-2, keepdim=True) / count
    centred = source - source_mean
    fitted = weight * centred
    u, singular, vh = torch.linalg.svd(fitted.transpose(-1, -2) @ (weight * (target - target_mean)))  # *b 3 3
    if not allow_reflection:
        sign = torch.ones_like(singular)
        sign[..., -1] = torch.where(torch.linalg.det(u @ vh) < 0, -1.0, 1.0)
        u, singular = u * sign[..., None, :], singular * sign
    scale = singular.sum(-1) / fitted.square().sum((-1, -2)).clamp_min(_EPS)  # *b
    return scale[..., None, None] * (centred @ (u @ vh)) + target_mean  # row vectors: aligned = x @ rotation
