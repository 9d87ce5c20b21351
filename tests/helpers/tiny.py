"""Small networks: Mesh Graphormer at a hundredth of its size, and how a test builds any model for small crops."""

from __future__ import annotations

from typing import Any

from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.backbones import hrnet, resnet
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

MACHINE = {"width": 16, "context": 8, "wide": 16, "kernel": 3}
HOURGLASS = {"width": 16, "stem": [8, 16], "order": 1}
# Trunks that take milliseconds; of tests alone
resnet.RESNETS["tiny"] = resnet.Variant((1, 1, 1, 1), width=8)
hrnet.HRNETS["tiny"] = hrnet.Variant(8, stem_planes=8, stem_blocks=1, modules=(1, 1, 1), blocks=1)
RESNET = {"backbone": {"name": "resnet_tiny"}}
HRNET = {"backbone": {"name": "hrnet_tiny"}}
# Cases of the systems to compare with, by the name of the plug-in
BASELINES: dict[str, list[dict[str, Any]]] = {
    "deep_pose": [RESNET | {"trunk": "backbone", "stages": 2, "window": 8, "window_trunk": "small"}],
    "hourglass": [HOURGLASS | {"stacks": 2}],
    "pose_machine": [MACHINE | {"stages": 2, "trunk": [5, 3, 3], "norm": True, "dropout": 0.0}],
    "pose_net": [
        {
            "convolutions": [1, 1, 1, 1],
            "channels": [8, 16, 16, 32],
            "middle": [32],
            "encoding": 16,
            "head": 32,
            "refinements": 1,
            "refinement_layers": 1,
            "refinement_kernel": 3,
            "refinement_width": 16,
        }
    ],
    "hrnet": [HRNET | {"head": "all"}, HRNET, RESNET | {"output": "3d", "head_planes": [2, 4, 4, 8], "feature": 24}],
    "rle": [RESNET, RESNET | {"density": "gauss", "depth": True}],
    "mano_encoder": [RESNET | {"rotation": "6d", "components": 0}, RESNET],
    "volumetric": [HOURGLASS | {"residuals": 1, "bins": [1, 8]}],
    "joint_tokens": [{k: v for k, v in LITE.items() if k not in ("name", "keypoints", "coarse")} | RESNET],
    "heatmaps_25d": [HRNET, {"variant": "iqbal", "hourglass": HOURGLASS}],
    "pose_prior": [
        {
            "cells": 16,
            "prior_channels": [8, 16, 16],
            "prior_hidden": [32],
            "view_channels": [8, 16, 16],
            "view_hidden": [32],
        }
    ],
}
BASELINES["chain"] = [{f: {"name": n, **BASELINES[n][0]} for f, n in (("first", "pose_net"), ("second", "pose_prior"))}]


def build(options: dict[str, Any], hand: Hand | None = None, size: int = 64) -> HandModel:
    """A fresh model from the section `model` of a config, for the open hand by default and crops of `size` px."""
    experiment = Experiment(model=options)
    experiment.data.image_size = size
    return assembly.build_model(experiment, hand or load("open"))
