"""What is measured, sample by sample and joint by joint.

mpjpe     mm, joints, each set minus its own wrist            mpvpe     mm, vertices, each set as it is (wrist-relative)
pa_mpjpe  mm, joints after a similarity alignment             pa_mpvpe  mm, vertices after an alignment of their own
auc       of the share of aligned joints within 0-50 mm, 100 thresholds (FreiHAND's definition)
f@5 f@15  F-score of the aligned vertices at 5 and 15 mm, nearest neighbours both ways (FreiHAND's definition)
pck@0.1   share of 2D joints nearer (strictly) than 0.1 of the longer side of the tight box of the labelled keypoints;
          also at 0.05 and 0.2
epe_2d    mean 2D distance as a fraction of that side         auc_2d    of the share within 0-0.2 of it, 100 thresholds
pckb@0.1  share of 2D joints within (<=) 0.1 of the diagonal of that box
mask_iou  intersection over union of the masks

Alignments are proper rotations unless `allow_reflection` (FreiHAND's, HO-3D's and DexYCB's own programs allow them).
Only labelled joints count; NaN says that a sample has no such label.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from ..geometry.alignment import procrustes
from ..mano.hand import fingerprint_to_hex
from ..skeleton import WRIST

MM_PER_M = 1000.0
AUC_MM = 50.0
AUC_2D = 0.2  # of the box's longer side
NUM_THRESHOLDS = 100
F_SCORES = {"f@5": 5.0, "f@15": 15.0}  # mm
PCK = {"pck@0.05": 0.05, "pck@0.1": 0.1, "pck@0.2": 0.2}  # of the box's longer side
PCKB = 0.1  # of the box's diagonal
RANKING = ("pa_mpjpe", "mpjpe", "epe_2d", "mask_iou")  # the first of these that was measured ranks samples
HIGHER_IS_BETTER = frozenset({"auc", "f@5", "f@15", *PCK, "pckb@0.1", "auc_2d", "mask_iou"})
_CHUNK = 16  # samples whose 778 x 778 distances are held at once
_MIN_ALIGNED = 3  # points that fix a similarity


class HandMismatchError(ValueError):
    """Vertices or mesh joints of two different hands were about to be compared."""


@dataclass
class Measured:
    """Results of one batch. `joints`: (b, 21) per joint, NaN where unlabelled; `samples`: (b,) per sample."""

    joints: dict[str, Float[Tensor, "b 21"]] = field(default_factory=dict)
    samples: dict[str, Float[Tensor, "b"]] = field(default_factory=dict)


def per_sample(
    prediction: HandPrediction, targets: HandTargets, allow_reflection: bool = False
) -> dict[str, Float[Tensor, "b"]]:
    """Every metric that this prediction and these targets support, one value per sample (NaN: not labelled).

    Raises:
        HandMismatchError: vertices, or joints that come from a mesh, of different hands.
        ValueError: a prediction that is not finite or of another shape, labels without their mask, vertices without a
            fingerprint.
    """
    measured = measure(prediction, targets, allow_reflection)
    return {**{name: torch.nanmean(v, -1) for name, v in measured.joints.items()}, **measured.samples}


@torch.no_grad()
def measure(prediction: HandPrediction, targets: HandTargets, allow_reflection: bool = False) -> Measured:
    """`per_sample`, with the joint metrics still joint by joint. Raises the same."""
    out = Measured()
    with torch.autocast(_device(prediction), enabled=False):
        if prediction.joints is not None and targets.joints is not None:
            valid = _labelled("joints_valid", targets)
            _check_hands(prediction, targets, valid.any(-1), "joints", unknown_allowed=True)
            _measure_joints(out, *_floats("joints", prediction, targets), valid, allow_reflection)
        if prediction.vertices is not None and targets.vertices is not None:
            valid = _labelled("vertices_valid", targets)
            _check_hands(prediction, targets, valid, "vertices", unknown_allowed=False)
            _measure_vertices(out, *_floats("vertices", prediction, targets), valid, allow_reflection)
        if prediction.joints_2d is not None and targets.joints_2d is not None:
            _measure_joints_2d(out, *_floats("joints_2d", prediction, targets), _labelled("joints_2d_valid", targets))
        if prediction.mask is not None and targets.mask is not None:
            out.samples["mask_iou"] = _unlabelled(_mask_iou(prediction, targets), _labelled("mask_valid", targets))
    return out


def area_under_curve(error: Float[Tensor, "*n"], limit: float) -> Float[Tensor, "*n"]:
    """Each error's share of the area under the curve of `error <= t` over 100 thresholds t in [0, limit] (trapezoids,
    over the area of a curve of ones). A mean of these is the AUC of the pooled errors. NaN stays NaN."""
    thresholds = torch.linspace(0.0, limit, NUM_THRESHOLDS, device=error.device, dtype=error.dtype)
    weight = torch.ones_like(thresholds)
    weight[[0, -1]] = 0.5
    within = (error[..., None] <= thresholds).to(error.dtype)
    return torch.where(error.isnan(), error, (within @ weight) / weight.sum())


def f_scores(predicted: Float[Tensor, "b n 3"], target: Float[Tensor, "b m 3"]) -> dict[str, Float[Tensor, "b"]]:
    """F-scores of two point clouds in metres: the harmonic mean of the shares, both ways, of points whose nearest
    neighbour in the other cloud is nearer (strictly) than the threshold; 0 where both are 0."""
    parts: dict[str, list[Tensor]] = {name: [] for name in F_SCORES}
    for a, b in zip(predicted.split(_CHUNK), target.split(_CHUNK), strict=True):
        distance = MM_PER_M * torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        to_target, to_predicted = distance.amin(2), distance.amin(1)
        for name, limit in F_SCORES.items():
            precision = (to_target < limit).to(a.dtype).mean(-1)
            recall = (to_predicted < limit).to(a.dtype).mean(-1)
            parts[name].append(2 * precision * recall / (precision + recall).clamp_min(torch.finfo(a.dtype).tiny))
    return {name: torch.cat(values) for name, values in parts.items()}


def _measure_joints(
    out: Measured,
    predicted: Float[Tensor, "b n 3"],
    target: Float[Tensor, "b n 3"],
    valid: Bool[Tensor, "b n"],
    allow_reflection: bool,
) -> None:
    wrist = slice(WRIST, WRIST + 1)
    rooted = _distance(predicted - predicted[:, wrist], target - target[:, wrist])
    out.joints["mpjpe"] = _unlabelled(rooted, valid & valid[:, wrist])  # without its wrist a hand cannot be rooted
    aligned = _distance(procrustes(predicted, target, allow_reflection, valid), target)
    enough = valid.sum(-1, keepdim=True) >= _MIN_ALIGNED
    out.joints["pa_mpjpe"] = _unlabelled(aligned, valid & enough)
    out.joints["auc"] = area_under_curve(out.joints["pa_mpjpe"], AUC_MM)


def _measure_vertices(
    out: Measured,
    predicted: Float[Tensor, "b n 3"],
    target: Float[Tensor, "b n 3"],
    valid: Bool[Tensor, "b"],
    allow_reflection: bool,
) -> None:
    aligned = procrustes(predicted, target, allow_reflection)
    values = {
        "mpvpe": _distance(predicted, target).mean(-1),
        "pa_mpvpe": _distance(aligned, target).mean(-1),
        **f_scores(aligned, target),
    }
    out.samples.update({name: _unlabelled(value, valid) for name, value in values.items()})


def _measure_joints_2d(
    out: Measured, predicted: Float[Tensor, "b n 2"], target: Float[Tensor, "b n 2"], valid: Bool[Tensor, "b n"]
) -> None:
    labelled = valid[..., None]
    high = torch.where(labelled, target, -torch.inf).amax(1)
    low = torch.where(labelled, target, torch.inf).amin(1)
    side = (high - low).amax(-1, keepdim=True)  # b 1, px; -inf where nothing is labelled
    diagonal = torch.linalg.vector_norm(high - low, dim=-1, keepdim=True)
    error = torch.linalg.vector_norm(predicted - target, dim=-1) / side
    error = _unlabelled(error, valid & (side > 0))
    for name, limit in PCK.items():
        out.joints[name] = torch.where(error.isnan(), error, (error < limit).to(error.dtype))
    share = error * side / diagonal
    out.joints["pckb@0.1"] = torch.where(share.isnan(), share, (share <= PCKB).to(share.dtype))
    out.joints["auc_2d"] = area_under_curve(error, AUC_2D)
    out.joints["epe_2d"] = error


def _mask_iou(prediction: HandPrediction, targets: HandTargets) -> Float[Tensor, "b"]:
    if prediction.mask.shape != targets.mask.shape:
        shapes = tuple(prediction.mask.shape), tuple(targets.mask.shape)
        raise ValueError(f"the predicted mask has shape {shapes[0]}, the target's {shapes[1]}")
    _check_finite("mask", prediction.mask)
    predicted, target = prediction.mask > 0, targets.mask.bool()
    union = (predicted | target).float().sum((-1, -2))
    shared = (predicted & target).float().sum((-1, -2))
    return torch.where(union > 0, shared / union.clamp_min(1), torch.ones_like(union))  # nothing, found as nothing


def _distance(a: Float[Tensor, "b n 3"], b: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n"]:
    return MM_PER_M * torch.linalg.vector_norm(a - b, dim=-1)  # mm


def _unlabelled(values: Tensor, valid: Tensor) -> Tensor:
    """`values` with NaN where there is no label."""
    return torch.where(valid, values, torch.nan)


def _labelled(name: str, targets: HandTargets) -> Tensor:
    """The mask `name` of the labels, which must come with them."""
    valid = getattr(targets, name)
    if valid is None:
        raise ValueError(f"targets.{name} is absent: labels come with a mask that says which of them count")
    return valid


def _floats(name: str, prediction: HandPrediction, targets: HandTargets) -> tuple[Tensor, Tensor]:
    """The field `name` of both in one precision (float32 at least), the prediction checked."""
    predicted, target = getattr(prediction, name), getattr(targets, name)
    if predicted.shape != target.shape:
        raise ValueError(f"the predicted {name} have shape {tuple(predicted.shape)}, the targets {tuple(target.shape)}")
    _check_finite(name, predicted)
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, target.dtype), torch.float32)
    return predicted.to(dtype), target.to(dtype)


def _check_finite(name: str, values: Tensor) -> None:
    finite = values.isfinite().flatten(1).all(1)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        raise ValueError(f"prediction.{name} is not finite for {len(rows)} of {len(finite)} samples (rows {rows[:8]})")


def _check_hands(
    prediction: HandPrediction, targets: HandTargets, labelled: Bool[Tensor, "b"], what: str, unknown_allowed: bool
) -> None:
    """Raise HandMismatchError for a labelled sample whose hand is not the prediction's. With `unknown_allowed`, labels
    or predictions of no parametric hand pass."""
    mine, theirs = prediction.hand, targets.hand
    if mine is None or theirs is None:
        if unknown_allowed or not labelled.any():
            return
        side = "prediction" if mine is None else "targets"
        raise ValueError(f"vertices without a hand: set {side}.hand to the fingerprint of the hand they belong to")
    wrong = labelled & (mine != theirs)
    wrong = wrong & (mine != 0) & (theirs != 0) if unknown_allowed else wrong | (labelled & (theirs == 0))
    if wrong.any():
        row = int(wrong.nonzero()[0, 0])
        names = fingerprint_name(int(mine[row])), fingerprint_name(int(theirs[row]))
        raise HandMismatchError(
            f"{what} of different hands cannot be compared: the model's is {names[0]}, the data's {names[1]}; "
            "choose the data's hand with `hand`, register the two once (tools/register_hand.py), or compare 2D joints "
            "only"
        )


def fingerprint_name(fingerprint: int) -> str:
    """A fingerprint as the 16 hexadecimal digits that people see."""
    return fingerprint_to_hex(fingerprint) if fingerprint else "0 (no parametric hand)"


def _device(prediction: HandPrediction) -> str:
    tensors = (getattr(prediction, name) for name in ("joints", "vertices", "joints_2d", "mask"))
    return next((t.device.type for t in tensors if t is not None), "cpu")
