"""Left or right: opinions as log-odds of a left hand, so that those of a detector and of a network add up.

A network with a handedness head says which side it sees in a crop (`HandPrediction.left_logit`); shown a mirrored crop,
it says the opposite of the person's own side. One without the head knows right hands only, and is less sure of a
left one: there the sharper of two looks, as it is and mirrored, tells the side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .detectors.base import Detection, Side

SIDE_SLOPE = 9.0  # 1/nat: log-odds of a side for each nat by which its heat maps are the sharper ones; virtual hands
UNTOLD_SCORE = 0.6  # of a side that a detector gives without a score
LARGEST_SCORE = 0.99  # that one opinion can have
SURE_ODDS = 3.0  # log-odds (0.95) from which one look at a hand is enough
OTHER: dict[Side, Side] = {"left": "right", "right": "left"}


def vote(side: Side | None, score: float | None) -> float:
    """Log-odds of a left hand by an opinion, `score` 0.5 to 1; 0 where there is none."""
    if side is None:
        return 0.0
    sure = min(max(score or UNTOLD_SCORE, 0.5), LARGEST_SCORE)
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
    votes = [vote(d.side, d.side_score) for d in detections]
    return [own + said for own, said in zip(own_side(left_logit, shown).tolist(), votes, strict=True)]


def agrees(left_odds: float, side: Side) -> bool:
    """Whether a hand is surely of the side that it was shown as."""
    return (left_odds if side == "left" else -left_odds) >= SURE_ODDS


def sharpness(heatmaps: Float[Tensor, "b j h w"]) -> Float[Tensor, "b"]:
    """How surely a model places the joints: minus the mean entropy of its maps of logits, nats. Lower for a hand of the
    side that the model does not know."""
    logs = heatmaps.flatten(2).log_softmax(-1)
    return (logs.exp() * logs).sum(-1).mean(-1)
