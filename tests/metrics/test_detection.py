"""Recall, precision and average precision, by hand."""

import math

import pytest
import torch

from mesh_graphormer_hand.metrics.detection import Frame, average_precision, calibration, compare, figures

HANDS = torch.tensor([[0.0, 0, 20, 20], [100, 100, 180, 180]])
LEFT, KNOWN = torch.tensor([True, False]), torch.tensor([True, False])


def frame(boxes, scores, sides=None, complete=True, hands=HANDS):
    n = len(hands)
    return compare(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(scores),
        sides or [None] * len(boxes),
        hands,
        LEFT[:n],
        KNOWN[:n],
        complete,
    )


def test_a_hand_is_found_once_by_the_surest():
    f = figures([frame([[1.0, 0, 21, 20], [0, 0, 20, 20], [300, 0, 340, 40]], [0.5, 0.9, 0.7], [False, True, None])])
    assert (f.hands, f.found, f.recall, f.side_right, f.false_per_frame) == (2, 3, 0.5, 1.0, 2.0)
    assert f.precision == pytest.approx(1 / 3) and f.average_precision == 0.5


def test_the_threshold_cuts_all_but_the_average_precision():
    seen = [frame([[0.0, 0, 20, 20], [300, 0, 340, 40], [100, 100, 180, 180]], [0.9, 0.6, 0.5])]
    low, high = figures(seen), figures(seen, 0.55)
    assert (low.recall, high.recall, high.precision) == (1.0, 0.5, 0.5)
    assert low.average_precision == high.average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_sizes_count_apart():
    seen = [frame([[0.0, 0, 20, 20], [300, 0, 340, 40], [100, 100, 180, 180]], [0.9, 0.6, 0.5])]
    small, middle, large = figures(seen, 0.0, 0.0, 32.0), figures(seen, 0.0, 32.0, 64.0), figures(seen, 0.0, 64.0)
    assert (small.hands, small.recall, small.precision) == (1, 1, 1)
    assert (middle.hands, middle.found) == (0, 1) and math.isnan(middle.recall) and middle.precision == 0
    assert (large.hands, large.recall, large.precision) == (1, 1, 1)


def test_what_an_incomplete_list_does_not_name_is_not_wrong():
    f = figures([frame([[0.0, 0, 20, 20], [300, 0, 340, 40]], [0.9, 0.6], complete=False)])
    assert f.precision == 1 and f.recall == 0.5


def test_nothing_found_and_nothing_there():
    none = figures([frame([], [], hands=torch.zeros(0, 4))])
    assert math.isnan(none.recall) and math.isnan(none.average_precision) and none.false_per_frame == 0
    assert figures([frame([], [])]).recall == 0 and figures([frame([], [])]).average_precision == 0
    assert figures([frame([[0.0, 0, 9, 9]], [0.5], hands=torch.zeros(0, 4))]).false_per_frame == 1


def test_calibrated_scores_are_how_often_they_are_right():
    """Scores that are right as often as their square says: logits that are doubled, and a little more."""
    torch.manual_seed(0)
    heat = torch.rand(20000) * 0.98 + 0.01
    hit = torch.rand(20000) < (2 * torch.logit(heat) - 1).sigmoid()
    none = torch.zeros(20000, dtype=torch.bool)
    seen = Frame(heat, hit.long() - 1, torch.ones(20000), torch.ones(20000), none, none, True)
    slope, shift = calibration([seen])
    assert slope == pytest.approx(2, abs=0.1) and shift == pytest.approx(-1, abs=0.1)


def test_average_precision_against_the_sum():
    right = torch.tensor([True, False, True, True, False])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    assert average_precision(scores, right, 4) == pytest.approx((1 + 3 / 4 + 3 / 4) / 4)
