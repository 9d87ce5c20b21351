"""Predictions as files in the photo's own frame (unmirrored, the camera's axes, metres, pixels): in the layout of the
data set's protocol and as our table (metrics/protocols/base.py). Scores come from these files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .. import assembly
from .. import config as configs
from ..contracts import HandBatch, HandPrediction
from ..data.axes import photo_cameras
from ..data.base import HandDataset
from ..geometry.crops import apply_affine, homogeneous
from ..geometry.placement import place_wrist
from ..geometry.viewing import turn_points
from ..metrics.predictions import Predictions, table_rows, write_table
from ..metrics.protocols import keypoints_2d
from ..metrics.protocols.base import ScoreError, Scores
from .score import score_files


class Collector:
    """Keeps the predictions of an evaluation: a callback of `evaluate`."""

    def __init__(self, who: tuple[str, ...], vertices: bool, total: int = 0) -> None:
        """
        Args:
            who: names of the predictors to keep.
            vertices: whether to keep meshes, too (they are large).
            total: samples of the whole test set.
        """
        self.predictions = {name: Predictions(who=name, total=total) for name in who}
        self.vertices, self.placed = vertices, True
        self.left_out: list[str] = []  # broken samples
        self.no_hand: list[str] = []  # samples that show none, by their labels
        self.notes: list[str] = []
        self.labelled_px: list[np.ndarray] = []  # b 21 2, NaN where a joint is not labelled in the picture

    def __call__(self, predictions: dict[str, HandPrediction], batch: HandBatch) -> None:
        """Keep a batch."""
        self.left_out += batch.left_out
        self.no_hand += batch.no_hand
        if len(batch):
            self.labelled_px.append(labelled_px(batch).cpu().numpy())
        for name in self.predictions.keys() & predictions.keys():
            found, placed = in_photo(predictions[name], batch)
            self.placed &= placed
            kept = self.predictions[name]
            kept.keys += batch.keys
            for field, value in found.items():
                if field != "vertices" or self.vertices:
                    getattr(kept, field).append(value.cpu().numpy())


def labelled_px(batch: HandBatch) -> Float[Tensor, "b 21 2"]:
    """The 2D labels in pixels of the photo, NaN where there is none."""
    points, known = batch.targets.joints_2d, batch.targets.joints_2d_valid
    if points is None or known is None:
        return torch.full((len(batch), 21, 2), torch.nan)
    points = points if batch.image_from_crop is None else apply_affine(points, batch.image_from_crop)
    return torch.where(known[..., None], points, torch.nan)


def keypoint_scores_2d(collector: Collector) -> dict[str, Scores]:
    """mmpose's and PCKb's 2D scores in pixels of the photos, by predictor, of those that predict 2D joints.

    The box of a hand is that of its labelled keypoints.
    """
    found = {who: _score_keypoints(collector, predicted) for who, predicted in collector.predictions.items()}
    return {who: scores for who, scores in found.items() if scores is not None}


def _score_keypoints(collector: Collector, predictions: Predictions) -> Scores | None:
    predicted = predictions.joined("joints_px")
    if predicted is None:
        return None
    points = np.concatenate(collector.labelled_px).astype(np.float64)
    known = ~np.isnan(points).any(-1)
    rows = known.sum(1) > 1
    if not rows.any():
        return None
    high = np.where(known[..., None], points, -np.inf).max(1)[rows]
    low = np.where(known[..., None], points, np.inf).min(1)[rows]
    names = [key for key, row in zip(predictions.keys, rows, strict=True) if row]
    labels = keypoints_2d.Labels(names, points[rows], (high - low).max(-1), np.full(len(names), np.nan))
    scores = keypoints_2d.compare(labels, predicted[rows].astype(np.float64))
    scores.curves = {}  # in px of photos of any size: the report shows the relative error instead
    return scores


def in_photo(prediction: HandPrediction, batch: HandBatch) -> tuple[dict[str, Tensor], bool]:
    """joints, vertices (m, the camera's axes) and joints_px of a batch in the photo's frame, and whether every hand
    could be placed before its camera; one that could not (no intrinsics, no camera) has its wrist at the origin."""
    k, axes, known = photo_cameras(batch)
    found = {}
    for name in ("joints", "vertices"):
        if (points := getattr(prediction, name)) is not None:
            found[name] = turn_points(points, axes)
    wrists, placed = _wrists(prediction, found.get("joints"), batch, k, known)
    found = {name: points + wrists for name, points in found.items()}
    if prediction.joints_2d is not None:
        pixels = prediction.joints_2d
        found["joints_px"] = pixels if batch.image_from_crop is None else apply_affine(pixels, batch.image_from_crop)
    return found, placed


def _wrists(
    prediction: HandPrediction,
    joints: Float[Tensor, "b 21 3"] | None,
    batch: HandBatch,
    k: Float[Tensor, "b 3 3"],
    known: Bool[Tensor, "b"],
) -> tuple[Float[Tensor, "b 1 3"], bool]:
    """Where (m, the photos' cameras) the wrists stand, by the predictor's own rule, and whether all do."""
    size, device = batch.inputs.image.shape[-1], batch.inputs.image.device
    whole = torch.eye(2, 3).expand(len(batch), 2, 3)
    crops = whole if batch.image_from_crop is None else batch.image_from_crop.cpu()
    own, k, wrists, placed = prediction.map(Tensor.cpu), k.cpu().numpy(), torch.zeros(len(batch), 1, 3), True
    for i, has_camera in enumerate(known.tolist()):
        own_joints = None if joints is None else joints[i].cpu().numpy()
        wrist = place_wrist(own[i], own_joints, homogeneous(crops[i]), k[i], size) if has_camera else None
        placed &= wrist is not None
        if wrist is not None:
            wrists[i, 0] = torch.from_numpy(wrist)
    return wrists.to(device), placed


@dataclass
class Exported:
    """The files of one predictor: `path` holds everything, `official` is in the layout of the data set's protocol."""

    path: Path
    official: Path | None = None
    problem: ScoreError | None = None  # why the protocol has no file


def export(folder: Path, dataset: HandDataset, predictions: Predictions) -> Exported:
    """Write predictions in the layout of the data set's protocol, and as our table where that is no submission.

    A layout that an evaluation server takes is always written, another one only where the labels are known.
    """
    protocol = assembly.plugin("protocols", dataset.protocol) if dataset.protocol else None
    submission = has_submission(dataset)
    found = Exported(folder / f"predictions{predictions.suffix}.json")
    if protocol is not None and (submission or dataset.root is not None) and any_predicted(predictions):
        try:
            config = configs.parse(protocol.Config, dataset.protocol_options(), where=dataset.protocol)
            found.official = protocol.write(predictions, folder, dataset.root, config)
        except ScoreError as error:
            found.problem = error
    if submission and found.official is not None:
        found.path = found.official
    else:
        fields = ("joints", "joints_px", "vertices")
        write_table(table_rows(predictions, predictions.keys, fields), found.path)
    return found


def has_submission(dataset: HandDataset) -> bool:
    """Whether an evaluation server takes files of this data set's protocol; they hold meshes, too."""
    protocol = assembly.plugin("protocols", dataset.protocol) if dataset.protocol else None
    return getattr(protocol, "IS_SUBMISSION", False)


def any_predicted(predictions: Predictions) -> bool:
    """Whether there are joints in 3D or 2D."""
    return bool(predictions.joints or predictions.joints_px)


def score(dataset: HandDataset, exported: Exported, partial: bool) -> Scores | None:
    """The official scores of what was exported; None where no protocol or no label is known.

    Args:
        partial: not all of the test set was predicted; what is missing does not count.

    Raises:
        ScoreError: there is a protocol, and why it gives no scores.
    """
    if dataset.root is not None and exported.problem is not None:
        raise exported.problem
    if dataset.root is None or exported.official is None:
        return None
    options = dataset.protocol_options()
    return score_files(dataset.protocol, dataset.root, exported.official, options, skip_broken=partial)
