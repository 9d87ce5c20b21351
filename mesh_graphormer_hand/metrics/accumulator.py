"""Collects measurements over a data set and reduces them.

3D joint metrics, PCK and AUC are means over the joints of per-joint means (FreiHAND's and mmpose's reduction), so every
joint counts alike however often it is labelled; epe_2d is the flat mean over all labelled joints (mmpose's); vertex and
mask metrics are means over the samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from ..contracts import HandPrediction, HandTargets
from . import breakdown
from .measures import HIGHER_IS_BETTER, Measured, measure

_FLAT = frozenset({"epe_2d"})


class Accumulator:
    """Measurements of many samples, kept on the CPU. What a model does not produce is absent everywhere."""

    def __init__(self, allow_reflection: bool = False):
        self.allow_reflection = allow_reflection  # of the alignments, see `measures`
        self.keys: list[str] = []
        self._batches: list[tuple[Measured, int]] = []
        self._attributes: list[tuple[dict[str, Tensor], int]] = []

    def __len__(self) -> int:
        return sum(size for _, size in self._batches)

    def update(self, prediction: HandPrediction, targets: HandTargets, keys: Sequence[str] = ()) -> None:
        """Measure a batch; `keys` name its samples for `worst`. Raises what `per_sample` raises, naming the keys."""
        try:
            measured = measure(prediction, targets, self.allow_reflection)
        except ValueError as error:
            if keys:
                error.add_note(f"in the batch {keys[0]} ... {keys[-1]}")
            raise
        measured = Measured(*({n: v.cpu() for n, v in part.items()} for part in (measured.joints, measured.samples)))
        sizes = {len(v) for part in (measured.joints, measured.samples) for v in part.values()}
        size = sizes.pop() if sizes else len(keys)
        start = len(self)
        self.keys += list(keys) if keys else [str(i) for i in range(start, start + size)]
        self._batches.append((measured, size))
        self._attributes.append((breakdown.attributes(targets), size))

    def merge(self, other: Self) -> None:
        """Add what another process has collected."""
        self.keys += other.keys
        self._batches += other._batches
        self._attributes += other._attributes

    def values(self) -> dict[str, Tensor]:
        """Every metric's value per sample, (n,), in the order of `keys`; NaN where a sample has no such label."""
        joints = {name: torch.nanmean(v, -1) for name, v in self._stacked("joints").items()}
        return {**joints, **self._stacked("samples")}

    def summary(self) -> dict[str, float]:
        """Each metric over the data set; without any label it is absent."""
        joints = self._stacked("joints")
        means = {
            n: torch.nanmean(v) if n in _FLAT else torch.nanmean(torch.nanmean(v, 0)) for n, v in joints.items()
        } | {n: torch.nanmean(v) for n, v in self._stacked("samples").items()}
        return {name: float(value) for name, value in means.items() if not value.isnan()}

    def counts(self) -> dict[str, int]:
        """How many samples have a label for each metric."""
        return {name: int((~v.isnan()).sum()) for name, v in self.values().items()}

    def per_joint(self) -> dict[str, Tensor]:
        """Each joint metric's mean per joint, (21,)."""
        return {name: torch.nanmean(v, 0) for name, v in self._stacked("joints").items()}

    def by_joint(self) -> dict[str, Tensor]:
        """Each joint metric's value per sample and joint, (n, 21), NaN where unlabelled."""
        return self._stacked("joints")

    def attributes(self) -> dict[str, Tensor]:
        """What the labels know of each sample (see `breakdown`), (n,), NaN where one does not."""
        names = {name for known, _ in self._attributes for name in known}
        parts = {n: [k.get(n, torch.full((size,), torch.nan)) for k, size in self._attributes] for n in sorted(names)}
        return {name: torch.cat(values) for name, values in parts.items()}

    def breakdown(self) -> dict[str, dict[str, dict[str, float | int]]]:
        """Every metric by visible share, view, hand size, skin tone and light, where the labels know (`breakdown`)."""
        return breakdown.table(self.values(), self.attributes())

    def worst(self, metric: str, count: int = 20) -> list[tuple[str, float]]:
        """The keys and values of the `count` worst samples by `metric`, worst first."""
        values = self.values()
        if metric not in values:
            raise KeyError(f"no metric {metric!r} was measured; there are {', '.join(sorted(values))}")
        pairs = [(k, v) for k, v in zip(self.keys, values[metric].tolist(), strict=True) if v == v]
        return sorted(pairs, key=lambda pair: pair[1], reverse=metric not in HIGHER_IS_BETTER)[:count]

    def _stacked(self, part: str) -> dict[str, Tensor]:
        """All batches' values, float64; NaN for the samples of batches that lack a metric."""
        rows = [(getattr(measured, part), size) for measured, size in self._batches]
        shapes = {name: v.shape[1:] for values, _ in rows for name, v in values.items()}
        return {
            name: torch.cat(
                [v[name].double() if name in v else torch.full((n, *shape), torch.nan).double() for v, n in rows]
            )
            for name, shape in shapes.items()
        }
