"""Left or right, as log-odds of a left hand, so that the opinions of a detector and of a network add up.

A network with a handedness head says which side it sees in a crop (`HandPrediction.left_logit`); of a mirrored crop it
says the opposite of the person's own side. A network without the head knows right hands only and places a left hand's
joints less sharply: of two predictions, unmirrored and mirrored, the one with the sharper heat maps tells the side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandPrediction
from .detectors.base import Detection, Side

SIDE_SLOPE = 9.0  # 1/nat: log-odds of a side for each nat by which its heat maps are sharper; from virtual hands
DEFAULT_SIDE_SCORE = 0.6  # of a side that a detector gives without a score
MAX_SIDE_SCORE = 0.99  # that one opinion can have
SURE_LOG_ODDS = 3.0  # 0.95: a side that is this sure needs no second prediction
OTHER: dict[Side, Side] = {"left": "right", "right": "left"}

Squares = Sequence[Float[Tensor, "3"]]
Network = Callable[[Squares, Sequence[Side]], tuple[Float[Tensor, "b 3 3"], HandPrediction]]


@dataclass(frozen=True)
class SidedPredictions:
    """Predictions on crops, each of the hand shown as one side, and how sure that side is."""

    sides: list[Side]
    scores: list[float | None]  # 0.5 to 1; None: the caller's side, or unknown
    photo_from_crop: Float[Tensor, "b 3 3"]
    prediction: HandPrediction


def infer_handedness(
    network: Network, squares: Squares, detections: Sequence[Detection], sides_given: bool
) -> SidedPredictions:
    """Predict on the squares with each hand shown as its likelier side.

    A hand is shown as the detector says, or as a right one. Where that side is not sure, it is shown once more,
    mirrored, and both predictions count. `sides_given`: the detections' sides are the caller's, and stay.
    """
    sides: list[Side] = [d.side or "right" for d in detections]
    scores = [None if sides_given else d.side_score if d.side else None for d in detections]
    placed, prediction = network(squares, sides)
    odds: list[float] | None = None
    unsure: list[int] = []
    if prediction.left_logit is not None and not sides_given:
        odds = combine(prediction.left_logit, sides, detections)
        scores = [score(left) for left in odds]
        unsure = [i for i, left in enumerate(odds) if not is_sure(left, sides[i])]
    elif prediction.heatmaps is not None:
        unsure = [i for i, d in enumerate(detections) if d.side is None]
    if not unsure:
        return SidedPredictions(sides, scores, placed, prediction)
    mirrored = [OTHER[sides[i]] for i in unsure]
    placed_again, again = network([squares[i] for i in unsure], mirrored)
    if odds is not None:
        second = combine(again.left_logit, mirrored, [detections[i] for i in unsure])
        final = [(odds[i] + left) / 2 for i, left in zip(unsure, second, strict=True)]
    else:
        final = (SIDE_SLOPE * (sharpness(again.heatmaps) - sharpness(prediction.heatmaps[unsure]))).tolist()
    rows = list(range(len(sides)))
    for k, (i, left) in enumerate(zip(unsure, final, strict=True)):
        scores[i] = score(left)
        if (left > 0) == (mirrored[k] == "left"):
            sides[i], rows[i] = mirrored[k], len(sides) + k
    placed, prediction = torch.cat([placed, placed_again]), HandPrediction.cat([prediction, again])
    return SidedPredictions(sides, scores, placed[rows], prediction[torch.tensor(rows)])


def side_log_odds(side: Side | None, score: float | None) -> float:
    """Log-odds of a left hand by an opinion, `score` 0.5 to 1; 0 where there is none."""
    if side is None:
        return 0.0
    sure = min(max(score or DEFAULT_SIDE_SCORE, 0.5), MAX_SIDE_SCORE)
    return math.log(sure / (1 - sure)) * (1 if side == "left" else -1)


def score(left_odds: float) -> float:
    """Probability, 0.5 to 1, of the likelier side."""
    return 1 / (1 + math.exp(-min(abs(left_odds), 30.0)))


def own_side(left_logit: Float[Tensor, "b"], shown: Sequence[Side]) -> Float[Tensor, "b"]:
    """Log-odds that each hand is the person's left one, where the network saw it as a hand of side `shown`: left hands
    are shown mirrored."""
    return left_logit * torch.tensor([-1.0 if side == "left" else 1.0 for side in shown])


def combine(left_logit: Float[Tensor, "b"], shown: Sequence[Side], detections: Sequence[Detection]) -> list[float]:
    """Log-odds of a left hand by the network and the detector together, as if they erred independently."""
    detected = [side_log_odds(d.side, d.side_score) for d in detections]
    return [own + other for own, other in zip(own_side(left_logit, shown).tolist(), detected, strict=True)]


def is_sure(left_odds: float, side: Side) -> bool:
    """Whether a hand is surely of the side that it was shown as."""
    return (left_odds if side == "left" else -left_odds) >= SURE_LOG_ODDS


def sharpness(heatmaps: Float[Tensor, "b j h w"]) -> Float[Tensor, "b"]:
    """How sharply a model places the joints: minus the mean entropy of its maps of logits, nats. Lower for a hand of
    the side that the model does not know."""
    logs = heatmaps.flatten(2).log_softmax(-1)
    return (logs.exp() * logs).sum(-1).mean(-1)
