"""Predictors whose answers are said of another hand, or only of the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import nn

from ..contracts import HandInputs, HandPrediction
from ..mano.registration.map import HandMap

Predict = Callable[[HandInputs], HandPrediction]


class Mapped(nn.Module):
    """`predict`, its vertices, joints and camera taken to another hand by the registered map."""

    def __init__(self, predict: Predict, to_data: HandMap) -> None:
        super().__init__()
        self.predict, self.to_data = predict, to_data

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """The prediction, said of the other hand."""
        return self.to_data.to(inputs.image.device).prediction(self.predict(inputs))


class OnlyImage(nn.Module):
    """`predict` without its 3D, which belongs to a hand that the labels know nothing of."""

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict = predict

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """The prediction without vertices and 3D joints."""
        none = dict.fromkeys(
            ("joints", "joints_token", "vertices", "vertices_coarse", "camera", "pose", "shape", "hand")
        )
        return replace(self.predict(inputs), **none)
