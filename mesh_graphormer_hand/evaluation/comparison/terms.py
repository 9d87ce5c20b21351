"""A comparison file: the terms on which its rows are trained, its rows and its columns.

    samples: 60000            # hands that each row is trained on
    shared: [data.image_size=128]
    data: [virtual]           # columns, as --data names them
    rows:
      Stacked Hourglass (2016): baselines/hourglass                       # a config, trained on these terms
      PosePrior (2017): {config: baselines/pose_prior, settings: [model.noise=0.03]}
      PoseNet, PosePrior (2017): {chain: [PoseNet (2017), PosePrior (2017)]}   # two rows above, as one network
      graphormer_lite: {weights: graphormer_lite}                         # a saved model, as it is
      MediaPipe: {program: mediapipe, image_size: 256}                    # another program's predictions

Terms are equal: rows that are trained differ neither in EQUAL_KEYS nor in samples and seeds, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ... import assembly
from ... import config as configs
from ...config import ConfigError, Experiment
from ..row_runs import QUIET, run_of

# the same in all rows that are trained
EQUAL_KEYS = ("data.train", "data.image_size", "data.crop", "train.batch_size", "train.init")
ROW_KINDS = ("config", "weights", "chain", "program")


@dataclass
class Row:
    """A row; one of the first four says what it is."""

    config: str = ""  # trained on the comparison's terms
    weights: str = ""  # run, folder or shipped name of a saved model
    chain: list[str] = field(default_factory=list)  # rows of a 2D network and of one that lifts its joints
    program: str = ""  # whose predictions are exported once
    settings: list[str] = field(default_factory=list)  # of `config`
    image_size: int = 256  # px, side of the crops that a program sees
    CHOICES = {"program": ("", "mediapipe")}
    LIMITS = {"image_size": (16, 4096)}


@dataclass
class Comparison:
    """The content of a comparison file."""

    samples: int = 60000  # that a row is trained on, repetitions included
    seeds: int = 1  # runs of each row, whose scores are averaged
    shared: list[str] = field(default_factory=list)  # settings of all trained rows
    data: list[str] = field(default_factory=lambda: ["virtual"])  # columns
    rows: dict[str, Any] = field(default_factory=dict)  # heading -> Row, or the name of its config
    notes: list[str] = field(default_factory=list)  # for the reader of the table
    LIMITS = {"samples": (1, float("inf")), "seeds": (1, 1000)}


def read(path: str, overrides: list[str], samples: int | None = None) -> Comparison:
    """The comparison, every row of it checked as far as can be without building its network.

    Args:
        overrides: settings of all trained rows, on top of the file's.
        samples: instead of the file's.

    Raises:
        ConfigError: a mistake in the file or in the settings of a row, which the message names, or unequal terms.
    """
    made = configs.parse(Comparison, configs.read(path), where=str(path))
    made = replace(made, samples=made.samples if samples is None else samples, shared=[*made.shared, *overrides])
    configs.check_values(made, str(path))
    if not made.rows:
        raise ConfigError(f"{path}: give `rows`")
    rows: dict[str, Row] = {}
    for heading, raw in made.rows.items():
        try:
            rows[heading] = _row(raw, rows)
            if rows[heading].config:
                assembly.check(experiment(made, rows[heading], 0))
        except ConfigError as error:
            raise ConfigError(f"{path}, row {heading!r}: {error}") from None
    made = replace(made, rows=rows)
    _check_equal(made, path)
    return made


def _row(raw: Any, above: Mapping[str, Row]) -> Row:
    row = configs.parse(Row, {"config": raw} if isinstance(raw, str) else raw)
    given = [name for name in ROW_KINDS if getattr(row, name)]
    if len(given) != 1:
        raise ConfigError(f"give one of {', '.join(ROW_KINDS)}" + f", not {' and '.join(given)}" * bool(given))
    if row.settings and not row.config:
        raise ConfigError("`settings` are for a row with a `config`")
    if row.weights:
        assembly.find_model(row.weights)
    if row.chain:
        for name in row.chain:
            if name not in above or above[name].chain or above[name].program:
                known = [n for n, other in above.items() if other.config or other.weights]
                raise ConfigError(f"chain: no network {name!r} above{configs.nearest(name, known)}")
        if len(row.chain) != 2:
            raise ConfigError("chain: give two rows, a 2D network's and a lifter's")
    return row


def trained(comparison: Comparison) -> dict[str, Row]:
    """The rows that are trained here."""
    return {heading: row for heading, row in comparison.rows.items() if row.config}


def experiment(comparison: Comparison, row: Row, seed: int) -> Experiment:
    """A trained row's experiment.

    Raises:
        ConfigError: its settings are wrong.
    """
    return configs.load(row.config, [*overrides_of(comparison, row, seed), *QUIET])


def overrides_of(comparison: Comparison, row: Row, seed: int) -> list[str]:
    """The settings of a trained row: the shared ones, its own, and the budget."""
    settings = [*comparison.shared, *row.settings]
    batch = max(configs.load(row.config, settings).train.batch_size, 1)
    return [*settings, f"train.steps={-(-comparison.samples // batch)}", f"train.seed={seed}"]


def run_of_row(comparison: Comparison, out: Path, heading: str, seed: int) -> tuple[str, list[str]]:
    """The name of a row's run in `out`, and the settings to train it with. The name changes with the settings, not with
    the heading."""
    row = comparison.rows[heading]
    return run_of(row.config, overrides_of(comparison, row, seed), out, Path(row.config).stem, seed)


def _check_equal(comparison: Comparison, path: str) -> None:
    first: tuple[str, dict[str, Any]] | None = None
    for heading, row in trained(comparison).items():
        mapping = configs.to_mapping(experiment(comparison, row, 0))
        terms = {key: mapping[key.partition(".")[0]][key.partition(".")[2]] for key in EQUAL_KEYS}
        if first is None:
            first = heading, terms
        wrong = [key for key, value in terms.items() if value != first[1][key]]
        if wrong:
            key = wrong[0]
            raise ConfigError(
                f"{path}, row {heading!r}: unequal terms: {key} is {terms[key]}, that of {first[0]!r} {first[1][key]}; "
                f"put {key} into `shared`"
            )
