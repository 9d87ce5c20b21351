"""Predictors of one hand made comparable to labels of another: through the registered map, or without their 3D."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from ..contracts import HandInputs, HandPrediction
from ..mano.registration import map as registration
from ..mano.registration.map import HandMap

if TYPE_CHECKING:
    from ..data.base import HandDataset

Predict = Callable[[HandInputs], HandPrediction]


class MappedPredictor(nn.Module):
    """`predict`, with vertices, joints and camera mapped to another hand by the registered map."""

    def __init__(self, predict: Predict, to_data: HandMap) -> None:
        super().__init__()
        self.predict, self.to_data = predict, to_data

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """The prediction for the other hand."""
        return self.to_data.to(inputs.image.device).prediction(self.predict(inputs))


class PredictorWithout3D(nn.Module):
    """`predict` without its 3D, which is of a hand that has no map to the labels' hand."""

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict = predict

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """The prediction without vertices and 3D joints."""
        none = dict.fromkeys(
            ("joints", "joints_token", "vertices", "vertices_coarse", "camera", "pose", "shape", "hand")
        )
        return replace(self.predict(inputs), **none)


def map_predictors_to_hand(
    predictors: dict[str, Callable], dataset: HandDataset, fingerprint: int
) -> tuple[dict[str, Callable], list[str]]:
    """The predictors for the hand of the data set's labels, and a note about it.

    Predictions of another hand go through the registered map; without one their 3D is left out, since it cannot be
    compared. `fingerprint`: of the predictors' hand.
    """
    if dataset.hand in (0, fingerprint):
        return predictors, []
    to_data = registration.find(fingerprint, dataset.hand)
    if to_data is not None:
        return {name: MappedPredictor(predict, to_data).eval() for name, predict in predictors.items()}, [
            "the labels are of another hand than the model's: predictions went through the registered map"
        ]
    note = "3D is not compared: the labels are of another hand than the model's; "
    return {name: PredictorWithout3D(predict).eval() for name, predict in predictors.items()}, [
        note + registration.registration_hint(fingerprint, dataset.hand)
    ]
