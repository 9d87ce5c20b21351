"""Whether predicted spreads are true: the share of errors that lies within what each spread promises.

A network that predicts a density for each coordinate, with a spread sigma (`aux["sigma"]`, sides of the crop), promises
that a share p of the errors is at most r(p) sigma: r(p) = -log(1 - p) for a Laplace density, sqrt(2) erfinv(p) for a
normal one. A calibrated network's curve is the diagonal; above it errors are smaller than promised.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..config import ConfigError
from ..contracts import HandBatch, HandPrediction, HandTargets

DENSITIES = ("laplace", "gauss")
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


class CalibrationCurve:
    """Collects errors of 2D joints in units of their predicted spreads."""

    def __init__(self, density: str) -> None:
        """
        Raises:
            ConfigError: a density that is none of DENSITIES.
        """
        if density not in DENSITIES:
            raise ConfigError(f"no density {density!r} (there are: {', '.join(DENSITIES)})")
        self.density = density
        self._ratios: list[Float[Tensor, "n"]] = []

    def __call__(self, answers: dict[str, HandPrediction], batch: HandBatch) -> None:
        """As a callback of an evaluation: add the answer of the predictor "model"."""
        if "model" in answers:
            self.update(answers["model"], batch.targets)

    def update(self, prediction: HandPrediction, targets: HandTargets) -> None:
        """Add a batch; labelled joints count, each coordinate for itself."""
        if prediction.joints_2d is None or targets.joints_2d is None or "sigma" not in prediction.aux:
            return
        spread = prediction.aux["sigma"][..., :2] * targets.crop_size[:, None, None]
        ratio = (prediction.joints_2d - targets.joints_2d).abs() / spread
        self._ratios.append(ratio[targets.joints_2d_valid].detach().flatten().cpu())

    def shares(self) -> dict[float, float]:
        """For each promised share the true one; empty without any error."""
        ratios = torch.cat(self._ratios) if self._ratios else torch.zeros(0)
        if not len(ratios):
            return {}
        return {p: float((ratios <= radius).float().mean()) for p, radius in zip(LEVELS, self._radii(), strict=True)}

    def error(self) -> float:
        """Mean distance of the curve from the diagonal (expected calibration error); NaN without any error."""
        shares = self.shares()
        return sum(abs(true - p) for p, true in shares.items()) / len(shares) if shares else float("nan")

    def _radii(self) -> list[float]:
        """How many spreads from the place each promised share lies."""
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        radii = -torch.log1p(-levels) if self.density == "laplace" else 2**0.5 * torch.erfinv(levels)
        return radii.tolist()


def calibration_of(model: object) -> CalibrationCurve | None:
    """A curve for a network that says what its spreads mean (`sigma_density`), else None."""
    density = getattr(model, "sigma_density", None)
    return CalibrationCurve(density) if density else None
