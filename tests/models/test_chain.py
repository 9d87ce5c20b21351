"""The whole system of Zimmermann and Brox: the mask's box, the crop, 2D joints, 3D joints, through the predictor."""

import numpy as np
import pytest
import torch

from helpers import tiny
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandInputs, HandPrediction
from mesh_graphormer_hand.inference.detectors.mask_detector import MaskDetector, grow
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.models.chain import Chain


def part(name: str) -> torch.nn.Module:
    return tiny.build({"name": name, **tiny.BASELINES[name][0]}).eval()


def test_a_chain_gives_what_its_parts_give_one_after_the_other(tmp_path):
    first, second = part("pose_net"), part("pose_prior")
    chain = Chain.of(first, second).eval()
    chain.save_pretrained(tmp_path)
    inputs = HandInputs(image=torch.rand(2, 3, 64, 64))
    with torch.inference_mode():
        seen = first(inputs)
        known = torch.ones(2, 21, dtype=torch.bool)
        lifted = second(HandInputs(image=inputs.image, joints_2d=seen.joints_2d, joints_2d_valid=known))
        for model in (chain, assembly.load_model(tmp_path)):
            found = model(inputs)
            assert torch.equal(found.joints, lifted.joints) and torch.equal(found.heatmaps, seen.heatmaps)
    with pytest.raises(ConfigError, match="produce joints_2d"):
        Chain.of(second, second)
    with pytest.raises(ConfigError, match="no model named 'posenet'"):
        tiny.build({"name": "chain", "first": {"name": "posenet"}})


def test_a_region_grows_over_small_gaps_and_leaves_other_regions_alone():
    odds = np.full((64, 64), -1.0, np.float32)
    odds[10:20, 10:20] = 2.0
    odds[15, 12] = 3.0
    odds[10:20, 26:30] = 1.0  # beyond a gap of 6 px
    odds[50:60, 50:60] = 2.5
    region = grow(odds)
    assert region[10:20, 10:20].all() and region[10:20, 26:30].all() and not region[50:60].any()
    assert not grow(np.full((8, 8), -1.0, np.float32)).any()


class BrightPixels(torch.nn.Module):
    """Stands in for HandSegNet: bright pixels are hand."""

    produces = ("mask",)

    def __init__(self, config) -> None:
        super().__init__()
        self.config = config

    def forward(self, inputs: HandInputs) -> HandPrediction:
        return HandPrediction(mask=10 * (inputs.image.mean(1) - 0.5))


def test_the_predictor_lifts_what_the_mask_found():
    chain = Chain.of(part("pose_net"), part("pose_prior"))
    photo = np.zeros((96, 128, 3), np.uint8)
    photo[30:70, 40:90] = 255
    detector = MaskDetector(BrightPixels(chain.config))
    (detection,) = detector.detect(photo)
    assert np.abs(detection.box - [40, 30, 90, 70]).max() <= 3  # px; the network's image has half the size
    (found,) = HandPredictor(chain, detector=detector).predict(photo)
    assert found.joints.shape == (21, 3) and found.detector == "mask"
    assert not detector.detect(np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(ConfigError, match="no mask"):
        MaskDetector(chain)
