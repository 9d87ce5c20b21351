"""Meshes of two hands (InterHand2.6M with MANO fits) as files, scored as IntagHand and InterWild do.

Its files are two_hands_truth.npz and two_hands_PREDICTOR.npz, which metrics/protocols/two_hands.py
reads: a frame is an annotation, the first of its hands is the right one. Joints of both are regressed from the meshes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from ..config import ConfigError
from ..contracts import HandBatch, HandPrediction
from ..data.axes import photo_cameras
from ..data.base import HandDataset
from ..geometry.viewing import turn_points
from ..mano.template import joint_regressor
from ..metrics.protocols.base import ScoreError, Scores
from ..metrics.protocols.two_hands import RULE_NAMES, write
from ..skeleton import WRIST
from .predictions import in_photo

RIGHT_LEFT = ("right", "left")  # of a frame's two hands
Rows = dict[str, list[np.ndarray]]  # parts of arrays, one row a hand


class TwoHands:
    """A callback of `evaluate` that keeps meshes: 9 kB a hand for the truth and for each predictor."""

    def __init__(self, dataset: HandDataset, who: tuple[str, ...]) -> None:
        """`who`: the predictors to keep.

        Raises:
            ConfigError: a data set without meshes of two hands.
        """
        if not hasattr(dataset, "interacting_ids") or not dataset.mesh:
            raise ConfigError(
                "--two-hands needs --data interhand26m with InterHand2.6M_*_MANO_NeuralAnnot.json, and MANO (mano=FILE)"
            )
        self.dataset, self.regressor = dataset, joint_regressor(dataset.mano).float().numpy()
        self.keys: list[str] = []
        self.truth: Rows = {}
        self.meshes: dict[str, list[np.ndarray]] = {name: [] for name in who}
        self.notes: list[str] = []

    def __call__(self, predictions: dict[str, HandPrediction], batch: HandBatch) -> None:
        """Keep a batch."""
        if not len(batch):
            return
        self.keys += batch.keys
        targets, axes = batch.targets, photo_cameras(batch)[1]
        known = {
            "vertices": turn_points(targets.vertices, axes),
            # the left hand is placed by the labelled wrists: a fit whose hand has none cannot be
            "valid": targets.vertices_valid & targets.joints_valid[:, WRIST],
            "joints_labelled": turn_points(targets.joints + targets.root[:, None], axes),
            "joints_valid": targets.joints_valid,
        }
        for name, values in known.items():
            self.truth.setdefault(name, []).append(values.cpu().numpy())
        for name in self.meshes.keys() & predictions.keys():
            if predictions[name].vertices is not None:
                self.meshes[name].append(in_photo(predictions[name], batch)[0]["vertices"].cpu().numpy())

    def scores(self, out: Path) -> dict[str, Scores]:
        """Write the files into `out` and score them: by predictor and rules."""
        from .score import score_files

        truth, found = out / "two_hands_truth.npz", {}
        write(truth, self._truth())
        for who, meshes in self.meshes.items():
            if not meshes:
                self.notes.append(f"no scores of two hands: {who} gives no mesh of the labels' hand")
                continue
            path = out / f"two_hands_{who}.npz"
            write(path, self._with_joints(self._framed(np.concatenate(meshes))))
            for rules in RULE_NAMES:
                try:
                    found[f"{who}, {rules}"] = score_files("two_hands", truth, path, {"rules": rules})
                except ScoreError as error:
                    self.notes.append(f"no scores by {rules}: {error}")
        return found

    def _truth(self) -> dict[str, np.ndarray]:
        arrays = {name: self._framed(np.concatenate(parts)) for name, parts in self.truth.items()}
        wrists = arrays["joints_labelled"][:, :, WRIST]
        names = np.array(self._frames()[0])
        interacting = np.isin(names.astype(np.int64), self.dataset.interacting_ids)
        about = {"interacting": interacting, "left_from_right": wrists[:, 1] - wrists[:, 0], "names": names}
        return self._with_joints(arrays.pop("vertices")) | arrays | about

    def _with_joints(self, vertices: Float[np.ndarray, "n 2 778 3"]) -> dict[str, np.ndarray]:
        return {"vertices": vertices, "joints": self.regressor @ vertices}

    def _framed(self, rows: Shaped[np.ndarray, "h ..."]) -> Shaped[np.ndarray, "n 2 ..."]:
        """One row a hand -> a frame's two hands; zeros for a hand that is no sample."""
        names, frame, side = self._frames()
        out = np.zeros((len(names), 2, *rows.shape[1:]), rows.dtype)
        out[frame, side] = rows
        return out

    def _frames(self) -> tuple[list[str], list[int], list[int]]:
        """The annotations, and each hand's place among them and its side."""
        numbers, sides = zip(*(key.rpartition("#")[2].split("_") for key in self.keys), strict=True)
        place = {number: i for i, number in enumerate(dict.fromkeys(numbers))}
        return list(place), [place[n] for n in numbers], [RIGHT_LEFT.index(s) for s in sides]
