"""How well a detector finds hands: recall, precision and average precision at an overlap, by the hands' size.

A detection is right if it overlaps a hand that no surer one has taken by an IoU of at least `MATCH_IOU`. As COCO counts
by size: a hand outside the range is neither missed nor found, and what finds it, or finds nothing and is itself outside
the range, does not count. On a photo that does not list all its hands, a detection of nothing listed does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..geometry.boxes import match

MATCH_IOU = 0.5


@dataclass(frozen=True)
class Frame:
    """One photo's n detections, the surest first, and m hands."""

    scores: Float[Tensor, "n"]
    hand: Int64[Tensor, "n"]  # which hand a detection finds; -1: none
    found_sizes: Float[Tensor, "n"]  # px, longer sides of the boxes
    hand_sizes: Float[Tensor, "m"]
    side_labelled: Bool[Tensor, "n"]  # whether its hand's side is known
    side_right: Bool[Tensor, "n"]  # and is the one that the detector says
    complete: bool


@dataclass(frozen=True)
class Figures:
    """Of a threshold and a range of sizes; NaN where there is nothing to count."""

    hands: int
    found: int
    recall: float
    precision: float
    average_precision: float  # area under the precision that is kept from a recall on
    side_right: float  # of the hands found whose side is known
    false_per_frame: float


def compare(
    boxes: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    left: list[bool | None],
    wanted: Float[Tensor, "m 4"],
    wanted_left: Bool[Tensor, "m"],
    left_valid: Bool[Tensor, "m"],
    complete: bool = True,
) -> Frame:
    """Detections (px; `left`: the side they tell, None: none) against a photo's hands."""
    order = scores.argsort(descending=True, stable=True)
    boxes, scores = boxes[order], scores[order]
    hand = torch.full((len(boxes),), -1)
    for found, one in match(boxes, wanted.to(boxes), MATCH_IOU):
        hand[found] = one
    labelled = (hand >= 0) & left_valid[hand] if len(wanted) else hand >= 0
    right = torch.tensor([left[k] is not None for k in order.tolist()], dtype=torch.bool)
    if len(wanted):
        right &= torch.tensor([bool(left[k]) for k in order.tolist()], dtype=torch.bool) == wanted_left[hand]
    return Frame(scores, hand, _longer(boxes), _longer(wanted), labelled, labelled & right, complete)


def figures(
    frames: list[Frame], threshold: float = 0.0, smallest: float = 0.0, largest: float = float("inf")
) -> Figures:
    """The figures of detections with a score of `threshold` or more, of hands from `smallest` px to below `largest`.
    The average precision is that of all detections."""
    inside = lambda v: (v >= smallest) & (v < largest)  # noqa: E731
    hands = sum(int(inside(f.hand_sizes).sum()) for f in frames)
    scores, right, labelled, side = [], [], [], []
    for f in frames:
        hits = f.hand >= 0
        size = f.found_sizes.clone()
        size[hits] = f.hand_sizes.to(size)[f.hand[hits]]
        counts = inside(size) & (hits | torch.tensor(f.complete))
        for values, own in ((scores, f.scores), (right, hits), (labelled, f.side_labelled), (side, f.side_right)):
            values.append(own[counts])
    score, hit = torch.cat(scores), torch.cat(right)
    sure = score >= threshold
    found, hits_kept, labelled_kept = int(sure.sum()), int((hit & sure).sum()), int((torch.cat(labelled) & sure).sum())
    return Figures(
        hands,
        found,
        _share(hits_kept, hands),
        _share(hits_kept, found),
        average_precision(score, hit, hands),
        _share(int((torch.cat(side) & sure).sum()), labelled_kept),
        _share(found - hits_kept, len(frames)),
    )


def calibration(frames: list[Frame], steps: int = 50) -> tuple[float, float]:
    """Slope and shift for which sigmoid(slope logit(score) + shift) is how often a score is right: logistic
    regression by Newton's method. (Platt, "Probabilistic outputs for support vector machines", 1999.)"""
    score, right = torch.cat([f.scores for f in frames]).double(), torch.cat([f.hand >= 0 for f in frames]).double()
    x = torch.stack([torch.logit(score, 1e-6), torch.ones_like(score)], 1)
    w = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(steps):
        p = (x @ w).sigmoid()
        slack = 1e-6 * torch.eye(2, dtype=x.dtype)
        w = w - torch.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) + slack, x.T @ (p - right))
    return float(w[0]), float(w[1])


def average_precision(scores: Float[Tensor, "n"], right: Bool[Tensor, "n"], hands: int) -> float:
    """Area under the best precision at each recall or more; NaN without hands."""
    if not hands:
        return float("nan")
    hits = right[scores.argsort(descending=True, stable=True)].double()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    best = precision.flip(0).cummax(0).values.flip(0) if len(hits) else precision
    return float((best * hits).sum() / hands)


def _share(part: int, of: int) -> float:
    return part / of if of else float("nan")


def _longer(boxes: Float[Tensor, "n 4"]) -> Float[Tensor, "n"]:
    return (boxes[:, 2:] - boxes[:, :2]).amax(1) if len(boxes) else boxes.new_zeros(0)
