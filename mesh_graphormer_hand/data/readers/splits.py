"""How a data set is divided into training, validation and test samples."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Shaped

from ..images import DataError

SPLIT_NAMES = ("train", "val", "test")
SPLIT_BY = ("official", "sample", "sequence")


@dataclass(kw_only=True)
class SplitConfig:
    """How a data set is divided."""

    split: str = ""  # train | val | test; empty: the one that data.train or data.test names
    # official: the data set's own splits | sample: of all labelled training data, by `split_seed`, so that pictures of
    # one moment stay on one side | sequence: the same, with whole recordings on one side
    split_by: str = "official"
    shares: list[float] = field(default_factory=lambda: [0.7, 0.15, 0.15])  # of train, val and test
    split_seed: int = 0
    CHOICES = {"split": ("", *SPLIT_NAMES), "split_by": SPLIT_BY}


def check_split(config: SplitConfig, split: str, name: str, known_splits: tuple[str, ...] = SPLIT_NAMES) -> None:
    """Refuse splits that there are not.

    Raises:
        DataError: a split that the set does not have, or shares that divide nothing.
    """
    chosen = config.split or split
    if config.split_by == "official" and chosen not in known_splits:
        has = " and ".join(known_splits) or "none"
        raise DataError(
            f"data set {name} has no official split {chosen!r}, only {has}; split_by=sample makes one of train"
        )
    if len(config.shares) != 3 or min(config.shares) < 0 or sum(config.shares) <= 0:
        raise DataError(f"data set {name}: shares {config.shares} should be three numbers, none negative, not all 0")


def in_split(
    groups: dict[str, Shaped[np.ndarray, "n"]], config: SplitConfig, split: str, name: str
) -> Bool[np.ndarray, "n"]:
    """Which samples belong to `split`; `groups`: what stays together, per way of splitting ("sample", "sequence").

    Raises:
        DataError: the data set `name` cannot be split in this way.
    """
    if config.split_by not in groups:
        raise DataError(f"data set {name} cannot be split by {config.split_by}: try {', '.join(groups)}")
    return split_groups(groups[config.split_by], config, split)


def split_groups(groups: Shaped[np.ndarray, "n"], config: SplitConfig, split: str) -> Bool[np.ndarray, "n"]:
    """Which samples belong to `split`, when all samples with equal `groups` stay together.

    Groups are shuffled by `split_seed` and dealt out until each part has its share of the samples; at least one group
    goes to every part with a share, as long as there are enough. The same seed gives the same parts on every machine.
    """
    values, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shares = np.array(config.shares, float) / sum(config.shares)
    order = np.random.default_rng([config.split_seed, 0x5EED]).permutation(len(values))
    middles = np.cumsum(counts[order]) - counts[order] / 2
    parts = np.searchsorted(np.cumsum(shares)[:-1] * counts.sum(), middles, side="right")
    wanted = [p for p in range(3) if shares[p] > 0]
    for p in wanted if len(values) >= len(wanted) else ():
        if not (parts == p).any():  # few groups: take one from the part that has most
            largest = np.bincount(parts, minlength=3).argmax()
            parts[np.flatnonzero(parts == largest)[-1 if p > largest else 0]] = p
    of_group = np.empty(len(values), int)
    of_group[order] = parts
    return of_group[inverse.reshape(-1)] == SPLIT_NAMES.index(split)
