"""Small networks: Mesh Graphormer at a hundredth of its size, and how a test builds any model for small crops."""

from __future__ import annotations

from typing import Any

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import Experiment
from mesh_graphormer_hand.mano.hand import Hand, load
from mesh_graphormer_hand.models.base import HandModel

GRAPHORMER = {
    "name": "mesh_graphormer",
    "backbone": {"name": "hrnet_w18_small"},
    "head_planes": [2, 4, 4, 8],
    "feature": 24,
    "widths": [16, 16, 16],
    "outputs": [16, 12],
    "layers": 1,
    "heads": 2,
}

LITE = GRAPHORMER | {"name": "graphormer_lite", "keypoints": 8, "coarse": 98}


def build(options: dict[str, Any], hand: Hand | None = None, size: int = 64) -> HandModel:
    """A fresh model from the section `model` of a config, for the open hand by default and crops of `size` px."""
    experiment = Experiment(model=options)
    experiment.data.image_size = size
    return assembly.build_model(experiment, hand or load("open"))
