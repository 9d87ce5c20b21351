"""Stages of response maps: one loss for all of them, the background, and how the last one is read."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helpers.turned_hands import turned_hands
from mesh_graphormer_hand.contracts import HandPrediction
from mesh_graphormer_hand.geometry.heatmaps import HeatmapCodec
from mesh_graphormer_hand.layers.response_maps import read_responses, stage_loss
from mesh_graphormer_hand.losses import TERMS, Context
from mesh_graphormer_hand.mano.hand import load

CODEC = HeatmapCodec(1.5)


@pytest.fixture(scope="module")
def targets():
    return turned_hands(load("open"))


def test_the_stages_add_up_to_the_public_term_of_each(targets):
    maps = torch.randn(4, 3, 21, 16, 16)
    each = [TERMS["heatmaps_mse"](HandPrediction(heatmaps=m), targets, Context(codec=CODEC)) for m in maps.unbind(1)]
    assert_close(stage_loss(maps, targets, CODEC), sum(each))


def test_the_background_is_what_no_joint_has_and_missing_labels_teach_nothing(targets):
    wanted = CODEC.encode(targets.joints_2d, targets.crop_size, (16, 16))
    right = torch.cat([wanted, 1 - wanted.amax(1, keepdim=True)], 1)[:, None].requires_grad_()
    assert_close(stage_loss(right, targets, CODEC), torch.zeros(4))
    valid = targets.joints_2d_valid.clone()
    valid[0, 5] = False
    joints_2d = targets.joints_2d.clone()
    joints_2d[0, 5] = torch.nan
    some = replace(targets, joints_2d=joints_2d, joints_2d_valid=valid)
    (slope,) = torch.autograd.grad(stage_loss(right + 0.1, some, CODEC).sum(), right)
    assert slope.isfinite().all() and slope[0, 0, [5, 21]].eq(0).all() and slope[1, 0, [5, 21]].ne(0).all()


def test_a_root_of_zero_has_a_finite_slope(targets):
    maps = CODEC.encode(targets.joints_2d, targets.crop_size, (16, 16))[:, None].requires_grad_()
    assert_close(stage_loss(maps + 0.1, targets, CODEC, root=True), torch.full((4,), 0.1))
    stage_loss(maps, targets, CODEC, root=True).sum().backward()
    assert maps.grad.isfinite().all()


def test_readout_of_the_confidence():
    maps = torch.zeros(1, 21, 4, 4)
    maps[0, 0, 1, 1], maps[0, 1, 1, 1] = 0.75, 7.0
    assert read_responses(maps, CODEC, 64.0)["confidence"][0, :3].tolist() == [0.75, 1.0, 0.0]
    softmax = read_responses(maps, CODEC, 64.0, "softmax")["confidence"]
    assert_close(softmax[0, 2], torch.tensor(1 / 16))
    assert softmax[0, 1] > 0.9
