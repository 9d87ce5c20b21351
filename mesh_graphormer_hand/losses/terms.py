"""The terms. Each takes (prediction, targets, context), gives one value per sample and is 0 without gradient where
nothing is labelled. Means run over the labelled joints of a sample, all vertices, and the coordinates.

3D errors are in metres (L1) or square metres (MSE), 2D errors in crop units (the crop is [-1, 1]).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.heatmaps import inside_crop
from ..geometry.normals import edge_lengths, edge_vectors, face_normals
from ..geometry.rotations import axis_angle_to_matrix
from ..skeleton import WRIST
from .common import Context, masked, masked_mean, same_joints, same_mesh

_SHORT_EDGE = 1e-4  # m; shorter predicted edges have no direction worth a gradient


def vertices(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the full mesh."""
    return _mesh(p, t, (p.vertices - t.vertices).abs().mean((-1, -2)))


def vertices_coarse(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the coarse mesh against the target vertices down-sampled by the hand's own matrix."""
    target = context.template.downsample.to(t.vertices) @ t.vertices
    return _mesh(p, t, (p.vertices_coarse - target).abs().mean((-1, -2)))


def edge_length(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Mean difference of the edges' lengths, as in Pose2Mesh (ECCV 2020)."""
    edges = context.template.edges.to(p.vertices.device)
    return _mesh(p, t, (edge_lengths(p.vertices, edges) - edge_lengths(t.vertices, edges)).abs().mean(-1))


def normal(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Mean |cosine| between a face's predicted edges and its target normal (Pixel2Mesh, ECCV 2018; Pose2Mesh)."""
    faces = context.template.faces.to(p.vertices.device)
    normals = face_normals(t.vertices, faces)  # b f 3
    cosines = [
        (F.normalize(edge_vectors(p.vertices, faces[:, corners]), dim=-1, eps=_SHORT_EDGE) * normals).sum(-1).abs()
        for corners in ([0, 1], [1, 2], [2, 0])
    ]
    return _mesh(p, t, torch.cat(cosines, -1).mean(-1))


def joints(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joints that count, each set minus its own wrist."""
    return _joints(p, t, p.joints, torch.square)


def joints_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joints that count, each set minus its own wrist."""
    return _joints(p, t, p.joints, torch.abs)


def joints_token(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joint queries' joints, each set minus its own wrist."""
    return _joints(p, t, p.joints_token, torch.square)


def joints_token_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' joints, each set minus its own wrist."""
    return _joints(p, t, p.joints_token, torch.abs)


def joints_2d(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the 2D joints, in crop units."""
    return _joints_2d(t, p.joints_2d, torch.square)


def joints_2d_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the 2D joints, in crop units."""
    return _joints_2d(t, p.joints_2d, torch.abs)


def joints_token_2d(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """MSE of the joint queries' projected joints, in crop units."""
    return _joints_2d(t, p.joints_token_2d, torch.square)


def joints_token_2d_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' projected joints, in crop units."""
    return _joints_2d(t, p.joints_token_2d, torch.abs)


def rotation(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """1 - cos(angle) between the learned camera rotation and the wrist's known one: a quarter of the squared
    Frobenius norm of their difference. Of the same hand only: another's rest pose turns its wrist's frame."""
    return masked((p.rotation - _known_rotation(t)).square().sum((-1, -2)) / 4, t.mano_valid & same_mesh(p, t))


def vertices_local(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the full mesh in the hand's own frame, whatever the rotation: the pose can be learned before the view."""
    error = (_local(p.vertices, p.rotation) - _local(t.vertices, _known_rotation(t))).abs().mean((-1, -2))
    return masked(error, t.vertices_valid & t.mano_valid & same_mesh(p, t))


def joints_local_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joints that count in the hand's own frame, each set minus its own wrist."""
    return _joints_local(p, t, p.joints)


def joints_token_local_l1(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """L1 of the joint queries' joints in the hand's own frame, each set minus its own wrist."""
    return _joints_local(p, t, p.joints_token)


def heatmaps(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Cross-entropy (nats) between each map's spatial softmax and a normalised Gaussian, less the Gaussian's own
    entropy, so that 0 is perfect."""
    shape = tuple(p.heatmaps.shape[-2:])
    target = context.codec.encode_distribution(t.joints_2d, t.crop_size, shape).flatten(-2)  # b j cells
    log_q = p.heatmaps.flatten(-2).log_softmax(-1)
    divergence = (torch.xlogy(target, target) - target * log_q).sum(-1)
    return masked_mean(divergence, t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size))


def heatmaps_mse(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Half the squared error to Gaussians of height 1, mean over the cells (SimpleBaseline, ECCV 2018)."""
    target = context.codec.encode(t.joints_2d, t.crop_size, tuple(p.heatmaps.shape[-2:]))
    error = 0.5 * (p.heatmaps - target).square().mean((-1, -2))  # b j
    return masked_mean(error, t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size))


def mask(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of the mask's logits, mean over the pixels."""
    if p.mask.shape != t.mask.shape:
        raise ValueError(f"the predicted mask has shape {tuple(p.mask.shape)}, the target's {tuple(t.mask.shape)}")
    error = F.binary_cross_entropy_with_logits(p.mask, t.mask.to(p.mask), reduction="none").mean((-1, -2))
    return masked(error, t.mask_valid)


def handedness(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of "the crop shows a left hand", where enough of a hand is in it."""
    left = torch.zeros_like(p.left_logit) if t.shows_left is None else t.shows_left.to(p.left_logit)
    return masked(F.binary_cross_entropy_with_logits(p.left_logit, left, reduction="none"), _shows_hand(t))


def presence(p: HandPrediction, t: HandTargets, context: Context) -> Float[Tensor, "b"]:
    """Binary cross-entropy of "the crop shows a hand"; a crop that shows a scrap of one is neither."""
    hand = _shows_hand(t)
    error = F.binary_cross_entropy_with_logits(p.presence_logit, hand.to(p.presence_logit), reduction="none")
    return masked(error, hand if t.no_hand is None else hand | t.no_hand)


def _shows_hand(t: HandTargets) -> Bool[Tensor, "b"]:
    """Whether at least half of the labelled joints lie in the crop."""
    inside = (t.joints_2d_valid & inside_crop(t.joints_2d, t.crop_size)).sum(-1)
    return (inside > 0) & (2 * inside >= t.joints_2d_valid.sum(-1))


def _mesh(p: HandPrediction, t: HandTargets, error: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    return masked(error, t.vertices_valid & same_mesh(p, t))


def _joints(
    p: HandPrediction, t: HandTargets, predicted: Float[Tensor, "b 21 3"], power: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b"]:
    # Targets are relative to their wrist already; where the wrist has no label its entry is 0 and changes nothing.
    wrist = [points[..., WRIST : WRIST + 1, :] for points in (predicted, t.joints)]
    error = power((predicted - wrist[0]) - (t.joints - wrist[1])).mean(-1)  # b 21
    return masked_mean(error, _rows(t.joints_valid, same_joints(p, t)))


def _joints_2d(
    t: HandTargets, predicted: Float[Tensor, "b 21 2"], power: Callable[[Tensor], Tensor]
) -> Float[Tensor, "b"]:
    units_per_px = 2.0 / t.crop_size[..., None, None]
    valid = t.joints_2d_valid if t.shows_left is None else t.joints_2d_valid & ~t.shows_left[:, None]  # no right hand's
    return masked_mean(power((predicted - t.joints_2d) * units_per_px).mean(-1), valid)


def _rows(valid: Bool[Tensor, "b n"], samples: Bool[Tensor, "b"] | bool) -> Bool[Tensor, "b n"]:
    return valid & samples[..., None] if isinstance(samples, Tensor) else valid


def _joints_local(p: HandPrediction, t: HandTargets, predicted: Float[Tensor, "b 21 3"]) -> Float[Tensor, "b"]:
    labelled = t.joints_valid & (t.mano_valid & same_mesh(p, t))[:, None]
    local = replace(t, joints=_local(t.joints, _known_rotation(t)), joints_valid=labelled)
    return _joints(p, local, _local(predicted, p.rotation), torch.abs)


def _local(points: Float[Tensor, "b n 3"], rotation: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b n 3"]:
    """Points in camera axes, turned back by `rotation` (camera from the hand's own frame)."""
    return points @ rotation


def _known_rotation(t: HandTargets) -> Float[Tensor, "b 3 3"]:
    return axis_angle_to_matrix(t.pose[..., WRIST, :])
