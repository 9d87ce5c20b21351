"""What readers of official data sets share: one hand as its files have it becomes one sample; broken files.

A reader (data/datasets/NAME.py) subclasses `FileDataset` and says what its files know about sample i (`annotation`).
Everything after that happens here, once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ...config import ConfigError, check_values
from ...contracts import HandBatch, HandInputs, HandTargets
from ...mano.hand import Hand
from ...metrics.protocols.base import ScoreError
from ..axes import look_along_crops
from ..base import HandDataset
from ..images import DataError, cut_crop, read_image, to_tensor
from .annotation import Annotation, check, completed, crop_label_image, in_image, placement, to_sample
from .splits import SPLIT_NAMES, SplitConfig, check_split, in_split

ON_BROKEN = ("stop", "skip")
MAX_REPLACEMENTS = 100  # samples tried in the place of a broken one
REPLACEMENT_STRIDE = 7919  # between them: neighbours in a list are often broken together
logger = logging.getLogger(__name__)


@dataclass
class ReaderConfig(SplitConfig):
    """Options of every reader."""

    root: str = ""  # the data set's folder, as it is unpacked
    scale: float = 0.0  # side of the square crop over the longer side of the hand's box; 0: the model's
    on_broken: str = "stop"  # stop: a broken sample is an error | skip: it is left out (training: replaced) and logged
    cache: str = ""  # folder for indexes of large label files; empty: inside `root`
    CHOICES = SplitConfig.CHOICES | {"on_broken": ON_BROKEN}


class NoHandError(DataError):
    """The files are right and say that there is no hand here: left out by rule, whatever `on_broken`. The message ends
    in ": WHY"."""


class FileDataset(HandDataset):
    """Samples from files. `mesh`, `mask`, `depth`: which labels its batches have (whether or not each sample does)."""

    mesh = False
    mask = False
    depth = ""  # "": none | rendered: a label | sensor: an input
    splits: tuple[str, ...] = SPLIT_NAMES  # that the data set has officially
    name = ""  # of the data set in messages: its module's

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.__module__.rpartition(".")[2]

    def __init__(self, config: SplitConfig, split: str, image_size: int) -> None:
        """`config`: a ReaderConfig, or another one with `on_broken`."""
        self.config, self.image_size = config, image_size
        self.split = config.split or split
        self.training = split == "train"
        self.root = Path(config.root)
        self.rows = np.zeros(0, np.int64)  # of the index, one per sample: set by the reader

    @classmethod
    def build(cls, config: SplitConfig, split: str, hand: Hand, image_size: int) -> Self:
        """The data set of one split: the `build` of a reader's module.

        Raises:
            DataError: options that mean nothing, or a file that is missing, cut short or laid out otherwise.
        """
        check_config(config, split, cls.name, cls.splits)
        return cls(config, split, image_size)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def official(self) -> bool:
        """Whether the split is one of the data set's own."""
        return self.config.split_by == "official"

    @property
    def part(self) -> str:
        """The official part whose files are read: the split itself, or train, which the other splits divide."""
        return self.split if self.official else "train"

    def choose(
        self,
        keep: Bool[np.ndarray, "n"],
        groups: dict[str, Shaped[np.ndarray, "n"]],
        dropped: dict[str, int] | None = None,
        about: str = "",
    ) -> None:
        """Set `rows` to those entries to `keep` that belong to this split, and log their number.

        Args:
            groups: see `in_split`; official splits need none.
            dropped: why others are not kept -> how many; `about`: of the split, for the log.

        Raises:
            DataError: the set cannot be split so. ConfigError: nothing is left.
        """
        if not self.official:
            keep = keep & self.in_split(groups)
        self.rows = np.flatnonzero(keep)
        log_selection(f"{self.name} {self.split}{about}", len(self.rows), dropped or {})

    def in_split(self, groups: dict[str, Shaped[np.ndarray, "n"]]) -> Bool[np.ndarray, "n"]:
        """Which rows belong to this split, when it is not the official one; `groups`: what stays together, per way of
        splitting ("sample", "sequence").

        Raises:
            DataError: this set does not know its sequences.
        """
        return in_split(groups, self.config, self.split, self.name)

    def protocol_options(self) -> dict[str, Any]:
        """See `HandDataset`."""
        if (split_by := self.config.split_by) != "official":
            raise ScoreError(f"split_by={split_by}: the protocol is about the data set's own splits")
        return {}

    def annotation(self, index: int) -> Annotation:
        """What the files say about sample `index`.

        Raises:
            DataError: they cannot be read, or hold something else.
        """
        raise NotImplementedError

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """The samples; with `on_broken: skip` the broken ones are missing and named in `left_out`, those without a hand
        always, in `no_hand` (in training another one stands in their place).

        Raises:
            DataError: a broken sample, named by file and index.
        """
        samples, left_out, no_hand = [], [], []
        for index in indices:
            sample = self._sample_or_none(index, left_out, no_hand)
            for k in range(1, MAX_REPLACEMENTS + 1 if sample is None and self.training else 1):
                if sample is None:
                    sample = self._sample_or_none((index + k * REPLACEMENT_STRIDE) % len(self), left_out, no_hand)
            if sample is None and self.training:
                last = (left_out or no_hand)[-1]
                raise DataError(f"{self.name}: {MAX_REPLACEMENTS} samples in a row are broken, the last one: {last}")
            samples += [] if sample is None else [sample]
        batch = HandBatch.stack(samples) if samples else HandBatch(HandInputs(), HandTargets())
        return replace(look_along_crops(batch), left_out=tuple(left_out), no_hand=tuple(no_hand)).to(device)

    def _sample_or_none(self, index: int, left_out: list[str], no_hand: list[str]) -> HandBatch | None:
        try:
            return self.sample(index)
        except NoHandError as error:
            no_hand.append(f"{self.name}, sample {index}: {error}")
        except DataError as error:
            message = f"{self.name}, sample {index}: {error}"
            if self.config.on_broken == "stop":
                raise DataError(f"{message} (on_broken=skip leaves such samples out and lists them)") from None
            left_out.append(message)
            if self.training:
                logger.warning("replaced a broken sample: %s", message)
        return None

    def sample(self, index: int) -> HandBatch:
        """One sample, without a batch dimension."""
        annotation = completed(self.annotation(index))
        photo = self.read(annotation)
        check(annotation, photo.shape[1], photo.shape[0])
        if self.training and not in_image(annotation, photo.shape[1], photo.shape[0]):
            raise NoHandError(f"{annotation.where}: the hand is outside the picture")
        place = placement(annotation, photo.shape[1], photo.shape[0], self._margin(annotation), self.image_size)
        inputs, targets = to_sample(annotation, place, self.image_size, self.mesh)
        if self.mask:
            has_mask = annotation.mask is not None
            mask = crop_label_image(annotation.mask().astype(np.uint8), place, self.image_size) if has_mask else None
            blank = torch.zeros(self.image_size, self.image_size, dtype=torch.bool)
            mask = blank if mask is None else torch.from_numpy(mask).bool()
            targets = replace(targets, mask=mask, mask_valid=torch.tensor(has_mask))
        inputs, targets = self._with_depth(annotation, place, inputs, targets)
        image = to_tensor(cut_crop(photo, place, self.image_size))
        return HandBatch(replace(inputs, image=image), targets, [annotation.key], place)

    def _margin(self, annotation: Annotation) -> float:
        """The side of the crop over the longer side of the annotation's box."""
        return self.config.scale or self.crop.over(annotation.box_source if annotation.box is not None else "keypoints")

    def read(self, annotation: Annotation) -> np.ndarray:
        """The photo, RGB. Raises DataError."""
        try:
            return read_image(annotation.image)
        except DataError as error:
            raise DataError(f"{error} (image of {annotation.where})") from None

    def _with_depth(
        self, annotation: Annotation, place: Float[Tensor, "2 3"], inputs: HandInputs, targets: HandTargets
    ) -> tuple[HandInputs, HandTargets]:
        if not self.depth:
            return inputs, targets
        known = torch.tensor(annotation.depth is not None)
        depth = torch.zeros(self.image_size, self.image_size)
        if annotation.depth is not None:
            depth = torch.from_numpy(crop_label_image(annotation.depth().astype(np.float32), place, self.image_size))
        if self.depth == "sensor":
            return replace(inputs, depth=depth[None], depth_valid=known), targets
        return inputs, replace(targets, depth=depth, depth_valid=known)


def check_config(config: SplitConfig, split: str, name: str, known_splits: tuple[str, ...] = SPLIT_NAMES) -> None:
    """Refuse options that mean nothing.

    Raises:
        DataError: no root, or a word that is none of the possible ones.
    """
    if not config.root:
        raise DataError(
            f"data set {name}: `root` is missing; give the folder that holds its files as they are unpacked"
        )
    if not Path(config.root).is_dir():
        raise DataError(f"data set {name}: there is no folder {config.root}")
    check_options(config, name)
    check_split(config, split, name, known_splits)


def check_options(config: SplitConfig, name: str) -> None:
    """Refuse values that are none of the config's CHOICES. Raises DataError."""
    try:
        check_values(config, f"data set {name}")
    except ConfigError as error:
        raise DataError(str(error)) from None


def log_selection(name: str, kept: int, reasons: dict[str, int]) -> None:
    """Log how many hands a reader offers and how many its rules leave out, and why: nothing is dropped in silence."""
    dropped = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    logger.info("%s: %s hands%s", name, f"{kept:,}", f"; not among them: {dropped}" if dropped else "")
    if not kept:
        raise ConfigError(f"data set {name}: no hand is left" + (f"; left out: {dropped}" if dropped else ""))
