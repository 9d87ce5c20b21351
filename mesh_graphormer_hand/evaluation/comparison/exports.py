"""Predictions of another program, exported once and read again: what it finds in each crop of a data set.

An export is JSON: {"program", "image_size", "of" (what it is about), "hands": {key of a sample: null where the program
finds no hand, or {"points": 21 x [x, y], shares of the crop's side; "world": 21 x [x, y, z], m, or null}}}.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from ...config import ConfigError
from ...contracts import HandBatch, HandPrediction
from ...files import write_json
from ...metrics import Accumulator, breakdown
from ...skeleton import NUM_JOINTS, WRIST
from ..evaluate import evaluate

if TYPE_CHECKING:
    from ...data.base import HandDataset

Finder = Callable[[UInt8[np.ndarray, "h w 3"]], list[dict[str, Any]]]  # crop -> hands with "points" and "world"
FOUND, ALL = "found only", "all"  # the two ways to count a hand that was not found
MISSED_AT = -1e3  # sides of the crop: where joints that were not found count as, outside of every threshold


def pixels(batch: HandBatch, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """A crop as RGB bytes."""
    image = (255 * batch.inputs.image[row]).round().clamp(0, 255).to(torch.uint8)
    return image.permute(1, 2, 0).contiguous().cpu().numpy()


def export(find: Finder, dataset: HandDataset, samples: int, workers: int, path: Path, of: list[Any]) -> None:
    """Write what `find` finds in the crops of a data set: of several hands the one nearest to the crop's middle.

    Args:
        samples: only the first ones, 0: all.
        path: of the file.
        of: what the file is about, which `read` compares.
    """
    hands: dict[str, Any] = {}

    def watch(_: dict[str, HandPrediction], batch: HandBatch) -> None:
        for i, key in enumerate(batch.keys):
            hands[key] = _middle_one(find(pixels(batch, i)))

    evaluate({}, dataset, samples=samples, workers=workers, watch=watch)
    write_json(path, {"of": of, "hands": hands})


def _middle_one(hands: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not hands:
        return None
    centres = [np.asarray(hand["points"], np.float64) for hand in hands]
    apart = [np.linalg.norm((points.min(0) + points.max(0)) / 2 - 0.5) for points in centres]
    chosen = hands[int(np.argmin(apart))]
    return {"points": np.round(chosen["points"], 6).tolist(), "world": chosen.get("world")}


def read(path: Path, of: list[Any]) -> dict[str, Any] | None:
    """The hands of an export by sample; None: there is none about `of`.

    Raises:
        ConfigError: a damaged file.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["hands"] if content["of"] == json.loads(json.dumps(of)) else None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error!r}): delete it, and it is made anew") from None


def score(hands: dict[str, Any], dataset: HandDataset, samples: int, workers: int) -> dict[str, dict[str, Any]]:
    """The scores of an export, FOUND: of the samples in which a hand was found, ALL: those without one are failures of
    every threshold (distances are then unknown and left out)."""
    found, everything, missed = Accumulator(), Accumulator(), []

    def watch(_: dict[str, HandPrediction], batch: HandBatch) -> None:
        prediction, known = _prediction(hands, batch)
        everything.update(prediction, batch.targets, batch.keys)
        missed.append(~known)
        if known.any():
            rows = known.nonzero().flatten()
            found.update(prediction[rows], batch.targets[rows], [batch.keys[i] for i in rows.tolist()])

    evaluate({}, dataset, samples=samples, workers=workers, watch=watch)
    away = torch.cat(missed) if missed else torch.zeros(0, dtype=torch.bool)
    values, attributes = everything.values(), everything.attributes()
    counted = {name for name in values if name == "auc_2d" or name.startswith("pck")}
    only_found = {name: v.masked_fill(away, torch.nan) for name, v in values.items()}
    count = {"samples": len(away), "found": int((~away).sum())}
    summary = {name: v for name, v in everything.summary().items() if name in counted}
    return {
        FOUND: {"metrics": found.summary(), "breakdown": breakdown.table(only_found, attributes), **count},
        ALL: {
            "metrics": summary,
            "breakdown": breakdown.table({n: v for n, v in values.items() if n in counted}, attributes),
            **count,
        },
    }


def _prediction(hands: dict[str, Any], batch: HandBatch) -> tuple[HandPrediction, Bool[Tensor, "b"]]:
    """The exported hands of a batch in px of its crops, and where there is one."""
    size, of_batch = batch.inputs.image.shape[-1], [hands.get(key) for key in batch.keys]
    nowhere = np.full((NUM_JOINTS, 2), MISSED_AT)
    points = [nowhere if hand is None else np.asarray(hand["points"], np.float64) for hand in of_batch]
    anything = np.eye(NUM_JOINTS, 3)  # of samples without a hand, whose 3D is not counted
    worlds = [hand["world"] for hand in of_batch if hand is not None]
    joints = None
    if worlds and all(world is not None for world in worlds):
        metres = [anything if hand is None else np.asarray(hand["world"], np.float64) for hand in of_batch]
        joints = torch.from_numpy(np.stack(metres)).float()
        joints = joints - joints[:, WRIST : WRIST + 1]
    prediction = HandPrediction(joints=joints, joints_2d=size * torch.from_numpy(np.stack(points)).float())
    return prediction, torch.tensor([hand is not None for hand in of_batch])
