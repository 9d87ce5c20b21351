"""2.5D joints: a place in the crop and a depth relative to the joints' mean, in one unit (Iqbal et al., ECCV 2018).

The unit is the crop's half side: depth is metres times the scale s of the weak-perspective camera (s, tx, ty). So 2.5D
joints are the hand up to a similarity, and one known length gives the metres. `joints_from_25d` takes the palm's, whose
joints move as one; `crop_camera` gives the camera of labelled samples.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandTargets
from ..skeleton import PALM, WRIST
from .fitting import fit_similarity, fit_weak_perspective


def joints_from_25d(
    uvz: Float[Tensor, "b 21 3"], palm: Float[Tensor, "6 3"]
) -> tuple[Float[Tensor, "b 21 3"], Float[Tensor, "b 3"]]:
    """Joints (m, wrist-relative, camera axes) and the camera (s, tx, ty) of 2.5D joints.

    `palm`: the palm's joints (skeleton.PALM) of the hand at rest, m. Its size gives the scale: a hand of another size
    comes out in that of `palm`.
    """
    seen = uvz[:, list(PALM)]
    scale, _, _ = fit_similarity(palm.to(uvz.dtype).expand_as(seen), seen, torch.ones_like(seen[..., 0]))
    wrist = uvz[:, WRIST]
    camera = torch.cat([scale[:, None], wrist[:, :2] / scale[:, None]], -1)
    return (uvz - wrist[:, None]) / scale[:, None, None], camera


def crop_camera(t: HandTargets) -> tuple[Float[Tensor, "b 21 2"], Float[Tensor, "b 3"], Bool[Tensor, "b 21"]]:
    """The labelled joints' places in crop units, the camera that fits the 3D ones to them, and which have both
    labels."""
    uv = t.joints_2d * (2 / t.crop_size[..., None, None]) - 1
    labelled = t.joints_valid & t.joints_2d_valid
    weights = labelled.to(uv) + 1e-6  # no sample without any weight
    return uv, fit_weak_perspective(t.joints, uv, weights), labelled


def root_depth(
    rays: Float[Tensor, "b n 2"], depth: Float[Tensor, "b n"], bone: tuple[int, int], limits: tuple[float, float]
) -> Float[Tensor, "b"]:
    """Depth of the root, in lengths of one bone (Iqbal et al., ECCV 2018).

    Joints lie at (root + depth_j) (x_j, y_j, 1); the bone's length of 1 is a quadratic equation for the root.

    Args:
        rays: x, y of the joints at depth 1, K^-1 (u, v, 1).
        depth: of the joints less the root's, in lengths of the bone.
        bone: its two joints.
        limits: least and largest depth of the root; also the answer where the bone points at the camera.
    """
    (n, m), (xn, xm) = bone, (rays[:, bone[0]], rays[:, bone[1]])
    zn, zm = depth[:, n, None], depth[:, m, None]
    across, along = xn - xm, xn * zn - xm * zm
    a = across.square().sum(-1).clamp_min(1e-8)
    half_b = (across * along).sum(-1)
    c = along.square().sum(-1) + (zn - zm)[:, 0].square() - 1
    root = (half_b.square() - a * c).clamp_min(1e-8).sqrt()
    return ((root - half_b) / a).clamp(*limits)
