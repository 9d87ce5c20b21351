"""The calibration curve: the diagonal for errors that are as wide as promised, and to which side the others lie."""

import pytest
import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandPrediction, HandTargets
from mesh_graphormer_hand.metrics.calibration import CalibrationCurve

COUNT, SIDE = 200, 64.0


def curve(density: str, factor: float) -> CalibrationCurve:
    """Of errors of `density` whose spread is `factor` times the promised one; half of the joints have no label."""
    draw = torch.distributions.Laplace if density == "laplace" else torch.distributions.Normal
    sigma = 0.01 + 0.02 * torch.rand(COUNT, 21, 2)
    errors = factor * SIDE * draw(torch.zeros_like(sigma), sigma).sample()
    valid = torch.arange(21).expand(COUNT, 21) % 2 == 0
    found = CalibrationCurve(density)
    targets = HandTargets(
        joints_2d=torch.zeros(COUNT, 21, 2), joints_2d_valid=valid, crop_size=torch.full((COUNT,), SIDE)
    )
    errors[~valid] = 1e3
    found.update(HandPrediction(joints_2d=errors, aux={"sigma": sigma}), targets)
    return found


@pytest.mark.parametrize("density", ["laplace", "gauss"])
def test_true_spreads_give_the_diagonal_and_false_ones_do_not(density):
    assert curve(density, 1.0).error() < 0.02
    too_sure, too_modest = curve(density, 2.0).shares(), curve(density, 0.5).shares()
    assert too_sure[0.5] < 0.4 and too_modest[0.5] > 0.6


def test_nothing_measured_and_unknown_densities():
    empty = CalibrationCurve("laplace")
    empty.update(HandPrediction(), HandTargets())
    assert empty.shares() == {} and empty.error() != empty.error()
    with pytest.raises(ConfigError, match="no density 'cauchy'"):
        CalibrationCurve("cauchy")
