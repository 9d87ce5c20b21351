"""The fourth stage of the predictor: the network on crops of a photo, a bounded number at a time, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from ..config import ConfigError
from ..contracts import HandInputs, HandPrediction
from .crops import cut_crops, place_crops
from .detectors.base import Side

CROPS_PER_BATCH = 32
FINITE = ("joints", "joints_2d", "vertices", "camera", "mask", "left_logit", "presence_logit")


@dataclass(frozen=True)
class PhotoNetwork:
    """A network and the photo whose crops it sees."""

    model: nn.Module
    device: torch.device
    photo: UInt8[np.ndarray, "h w 3"]
    intrinsics: Float[np.ndarray, "3 3"]  # px

    def __call__(
        self, squares: Sequence[Float[Tensor, "3"]], sides: Sequence[Side]
    ) -> tuple[Float[Tensor, "b 3 3"], HandPrediction]:
        """photo_from_crop of each square shown as a hand of its side, and the network's prediction on the CPU.

        Raises:
            ConfigError: numbers that are not finite.
        """
        size = self.model.config.image_size
        placed = place_crops(squares, sides, self.intrinsics, size)
        batches = []
        for some in placed.split(CROPS_PER_BATCH):
            inputs = HandInputs(image=cut_crops(self.photo, some, size).to(self.device))
            batches.append(self.model(inputs).map(_to_cpu))
        prediction = batches[0] if len(batches) == 1 else HandPrediction.cat(batches)
        _check_finite(prediction, self.model.config.name)
        return placed, prediction


def _to_cpu(values: Shaped[Tensor, "..."]) -> Tensor:
    return values.cpu().float() if values.is_floating_point() else values.cpu()


def _check_finite(prediction: HandPrediction, name: str) -> None:
    for field in FINITE:
        if (values := getattr(prediction, field)) is not None and not values.isfinite().all():
            raise ConfigError(f"the model {name} gives {field} that are not finite: train it anew")
