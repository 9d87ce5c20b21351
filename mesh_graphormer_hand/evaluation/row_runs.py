"""Rows of a table that are trained alike: what a row's run is called, and how its model is scored on a column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as configs
from .run import EvaluationSettings

if TYPE_CHECKING:
    from ..contracts import HandBatch, HandPrediction
    from ..data.base import HandDataset
    from ..metrics import Accumulator
    from ..models.base import HandModel

QUIET = ["data.test={}", "train.pictures=0", "train.evaluate_every=0"]  # rows are scored when trained, all alike


def run_of(config: str, overrides: list[str], out: Path, heading: str, seed: int) -> tuple[str, list[str]]:
    """The name of a row's run in the folder `out`, which changes with its settings, and the settings to train it with.

    Raises:
        ConfigError: no such config or key.
    """
    content = json.dumps([configs.to_mapping(configs.load(config, [*overrides, *QUIET]))], sort_keys=True)
    name = f"{slug(heading)}_{seed}_{hashlib.sha256(content.encode()).hexdigest()[:6]}"
    return name, [*overrides, *QUIET, f"train.output={out}", f"train.name={name}"]


def slug(text: str) -> str:
    """`text` as a part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in text).strip("_")


def mixture(train: dict[str, dict[str, Any] | None]) -> str:
    """The section `data.train` in words: data sets with their shares."""
    weights = {name: float((raw or {}).get("weight", 1.0)) for name, raw in train.items()}
    total = sum(weights.values()) or 1.0
    shares = [name if len(weights) == 1 else f"{name} {100 * w / total:.0f} %" for name, w in weights.items() if w > 0]
    return " + ".join(shares)


def column_of(model: HandModel, name: str, raw: dict[str, Any]) -> HandDataset:
    """The test set `name` with the options `raw`, cut and labelled as the model needs it.

    Raises:
        ConfigError: an unknown data set or option.
    """
    from .. import assembly
    from ..mano import hand as hands

    hand = hands.find(model.config.hand)
    size, crop = model.config.image_size, model.config.crop_spec
    dataset = assembly.build_dataset(name, dict(raw), "test", hand, size, crop, where=f"--data {name}")
    return assembly.mask_foreign_3d(assembly.map_labels_to_hand(dataset, hand), hand)


def score_model(
    model: HandModel,
    name: str,
    raw: dict[str, Any],
    settings: EvaluationSettings,
    watch: Callable[[dict[str, HandPrediction], HandBatch], None] | None = None,
) -> Accumulator:
    """The measurements of a model on the test set `name` with the options `raw`; `watch` as in `evaluate`."""
    import torch

    from ..data.loader import worker_count
    from .evaluate import evaluate

    device = settings.device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = evaluate(
        {"model": model.to(device)},
        column_of(model, name, raw),
        device=device,
        batch_size=settings.batch_size,
        workers=worker_count(settings.workers),
        samples=settings.samples,
        watch=watch,
    )
    return found["model"]
