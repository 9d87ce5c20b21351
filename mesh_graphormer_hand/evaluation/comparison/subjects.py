"""What the rows of a comparison predict with: saved networks, two of them in a chain, another program's export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import assembly
from ...config import ConfigError
from ..cost import count_parameters, forward_flops
from ..row_runs import column_of, score_model
from ..run import EvaluationSettings

if TYPE_CHECKING:
    from ...models.base import HandModel

ATTRIBUTES = ("view", "visible", "hand_size", "size_in_crop")  # that scores are broken down by
BY_BIN = ("pck@0.1", "pa_mpjpe")  # of the metrics
GIVES = {"2D": ("joints_2d",), "3D": ("joints",), "mesh": ("vertices",)}


@dataclass(frozen=True)
class Network:
    """A row's network with one seed."""

    ident: str  # changes with the weights
    load: Callable[[], HandModel]


def saved(folder: Path, ident: str = "") -> Network:
    """The network of a folder; `ident`: of a run, whose name changes with its settings; else the weights' file."""
    stamp = ident or f"{folder}|{(folder / 'model.safetensors').stat().st_mtime_ns}"
    return Network(stamp, lambda: assembly.load_model(folder))


def chained(first: Network, second: Network) -> Network:
    """A 2D network and a lifter as one."""

    def load() -> HandModel:
        chain = assembly.plugin("models", "chain").Chain
        return chain.of(first.load(), second.load()).eval()

    return Network(f"{first.ident} + {second.ident}", load)


def score(network: Network, name: str, raw: dict[str, Any], settings: EvaluationSettings) -> dict[str, Any]:
    """The scores of a network on a test set: metrics, and BY_BIN by ATTRIBUTES.

    Raises:
        ConfigError: of a data set or of weights that cannot be read.
    """
    found = score_model(network.load(), name, raw, settings)
    return {"metrics": found.summary(), "breakdown": found.breakdown(), "samples": len(found)}


def shown(scores: dict[str, Any]) -> dict[str, Any]:
    """The part of scores that the tables show."""
    bins = {
        attribute: {
            label: {name: v for name, v in row.items() if name in ("samples", *BY_BIN)} for label, row in rows.items()
        }
        for attribute, rows in scores["breakdown"].items()
        if attribute in ATTRIBUTES
    }
    return {**scores, "breakdown": bins}


def about(model: HandModel, name: str, raw: dict[str, Any]) -> dict[str, Any]:
    """Parameters, multiply-adds (GMAC) of one crop of the test set `name`, what the network gives and reads."""
    inputs = column_of(model, name, raw).load([0]).inputs_for(model)
    return {
        "parameters": sum(count_parameters(model).values()),
        "gmac": forward_flops(model, inputs) / 2e9,
        "gives": [word for word, fields in GIVES.items() if set(fields) <= set(model.produces)],
        "lifts": "joints_2d" in model.reads,
    }


def forward_call(model: HandModel, name: str, raw: dict[str, Any]) -> Callable[[], object]:
    """A call that runs the network on one crop of the test set `name`."""
    inputs = column_of(model, name, raw).load([0]).inputs_for(model)
    return lambda: model(inputs)


def check_columns(names: list[str]) -> None:
    """
    Raises:
        ConfigError: an unknown data set.
    """
    if not names:
        raise ConfigError("give one data set at least, such as --data virtual")
    for name in names:
        assembly.plugin("datasets", name, where="--data")
