"""What readers of official data sets share: one hand as its files have it -> one sample; splits; broken files.

A reader (data/datasets/NAME.py) subclasses `FileDataset` and says what its files know about sample i (`annotation`).
Everything after that happens here, once: checks, the square crop, the mirror for left hands, masks of what is unknown.

Pixels: official labels are taken as they stand, measured from the image's corner; most of these sets do not say whether
they mean a pixel's corner or its centre, which is half a pixel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..config import ConfigError, nearest
from ..contracts import HandBatch, HandInputs, HandTargets
from ..geometry.crops import (
    apply_affine,
    box_to_square,
    compose_affine,
    crop_affine,
    homogeneous,
    invert_affine,
    mirror_affine,
)
from ..metrics.protocols.base import ScoreError
from ..skeleton import NUM_JOINTS, NUM_VERTICES
from . import plausibility
from .axes import look_along_crops
from .base import HandDataset
from .images import DataError, cut_crop, read_image, to_tensor

PARTS = ("train", "val", "test")
SPLIT_BY = ("official", "sample", "sequence")
ON_BROKEN = ("stop", "skip")
TRIES = 100  # samples tried in the place of a broken one
STRIDE = 7919  # between them: neighbours in a list are often broken together
SMALLEST_BOX = 2.0  # px
logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class SplitConfig:
    """How a data set is divided."""

    split: str = ""  # train | val | test; empty: the one that is asked for
    # official: the data set's own splits | sample: of all labelled training data, by `split_seed`, so that pictures of
    # one moment stay on one side | sequence: the same, with whole recordings on one side
    split_by: str = "official"
    shares: list[float] = field(default_factory=lambda: [0.7, 0.15, 0.15])  # of train, val and test
    split_seed: int = 0


@dataclass
class ReaderConfig(SplitConfig):
    """What every reader can be told."""

    root: str = ""  # the data set's folder, as it is unpacked
    scale: float = 1.25  # side of the square crop: longer side of the hand's box times this
    on_broken: str = "stop"  # stop: a broken sample is an error | skip: it is left out (training: replaced), and told
    cache: str = ""  # folder for indexes of large label files; empty: inside `root`


@dataclass
class Annotation:
    """One hand in one image, as its files have it: px of the image, m, camera axes, canonical order, not mirrored.

    Joints that the files do not know are False in the masks; whatever is True there has to be a number.
    """

    key: str  # names the sample in predictions and reports
    where: str  # file and index, for messages
    image: Path
    size: tuple[int, int] = (0, 0)  # width and height of the image by its labels, px; 0: they do not say
    own: bool = False  # labels of one's own: see `plausibility.find`
    is_left: bool = False
    box: Float[np.ndarray, "4"] | None = None  # x0, y0, x1, y1; None: round the known 2D joints
    scale: float | None = None  # of the box, instead of the config's
    whole: bool = False  # the image is a crop already: take all of it
    elsewhere: bool = False  # labelled from other cameras, too: the hand may lie outside this image
    points: Float[np.ndarray, "21 2"] | None = None  # None: projected joints
    points_valid: Bool[np.ndarray, "21"] | None = None  # None: all
    joints: Float[np.ndarray, "21 3"] | None = None
    joints_valid: Bool[np.ndarray, "21"] | None = None
    visible: Bool[np.ndarray, "21"] | None = None
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    vertices: Float[np.ndarray, "778 3"] | None = None
    mesh_joints: Float[np.ndarray, "21 3"] | None = None  # the vertices' own, where `joints` have another definition
    pose: Float[np.ndarray, "16 3"] | None = None  # of the hand's own side, mean pose included, wrist in camera axes
    shape: Float[np.ndarray, "10"] | None = None
    hand: int = 0  # fingerprint of vertices, pose and shape
    mask: Callable[[], Bool[np.ndarray, "h w"]] | None = None
    depth: Callable[[], Float[np.ndarray, "h w"]] | None = None  # m


class NoHandError(DataError):
    """The files are right and say that there is no hand here: left out by rule, whatever `on_broken`. The message ends
    in ": WHY"."""


class FileDataset(HandDataset):
    """Samples from files. `mesh`, `mask`, `depth`: which labels its batches have (whether or not each sample does)."""

    mesh = False
    mask = False
    depth = ""  # "": none | rendered: a label | sensor: an input

    def __init__(self, config: SplitConfig, split: str, image_size: int) -> None:
        """`config`: a ReaderConfig, or another one with `on_broken`."""
        self.config, self.image_size = config, image_size
        self.part = config.split or split
        self.training = split == "train"
        self.rows = np.zeros(0, np.int64)  # of the index, one per sample: set by the reader

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """The data set's name in messages: its module's."""
        return type(self).__module__.rpartition(".")[2]

    def in_part(self, groups: dict[str, np.ndarray]) -> Bool[np.ndarray, "n"]:
        """Which rows belong to this split, when it is not the official one; `groups`: what stays together, per way of
        splitting ("sample", "sequence").

        Raises:
            DataError: this set does not know its sequences.
        """
        return in_part(groups, self.config, self.part, self.name)

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
            for k in range(1, TRIES + 1 if sample is None and self.training else 1):
                if sample is None:
                    sample = self._sample_or_none((index + k * STRIDE) % len(self), left_out, no_hand)
            if sample is None and self.training:
                last = (left_out or no_hand)[-1]
                raise DataError(f"{self.name}: {TRIES} samples in a row are broken, the last one: {last}")
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
        place = placement(annotation, photo.shape[1], photo.shape[0], self.config.scale, self.image_size)
        inputs, targets = labels(annotation, place, self.image_size, self.mesh)
        if self.mask:
            has_mask = annotation.mask is not None
            mask = cut_labels(annotation.mask().astype(np.uint8), place, self.image_size) if has_mask else None
            blank = torch.zeros(self.image_size, self.image_size, dtype=torch.bool)
            mask = blank if mask is None else torch.from_numpy(mask).bool()
            targets = replace(targets, mask=mask, mask_valid=torch.tensor(has_mask))
        inputs, targets = self._with_depth(annotation, place, inputs, targets)
        image = to_tensor(cut_crop(photo, place, self.image_size))
        return HandBatch(replace(inputs, image=image), targets, [annotation.key], place)

    def read(self, annotation: Annotation) -> np.ndarray:
        """The photo, RGB. Raises DataError."""
        try:
            return read_image(annotation.image)
        except DataError as error:
            raise DataError(f"{error} (image of {annotation.where})") from None

    def _with_depth(
        self, annotation: Annotation, place: Tensor, inputs: HandInputs, targets: HandTargets
    ) -> tuple[HandInputs, HandTargets]:
        if not self.depth:
            return inputs, targets
        known = torch.tensor(annotation.depth is not None)
        depth = torch.zeros(self.image_size, self.image_size)
        if annotation.depth is not None:
            depth = torch.from_numpy(cut_labels(annotation.depth().astype(np.float32), place, self.image_size))
        if self.depth == "sensor":
            return replace(inputs, depth=depth[None], depth_valid=known), targets
        return inputs, replace(targets, depth=depth, depth_valid=known)


def check_config(config: ReaderConfig, split: str, name: str, known_parts: tuple[str, ...] = PARTS) -> None:
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
    check_split(config, split, name, known_parts)
    choose(name, "on_broken", config.on_broken, ON_BROKEN)


def check_split(config: SplitConfig, split: str, name: str, known_parts: tuple[str, ...] = PARTS) -> None:
    """Refuse splits that there are not.

    Raises:
        DataError: an unknown word, a split that the set does not have, or shares that divide nothing.
    """
    choose(name, "split_by", config.split_by, SPLIT_BY)
    part = choose(name, "split", config.split or split, PARTS)
    if config.split_by == "official" and part not in known_parts:
        has = " and ".join(known_parts)
        raise DataError(
            f"data set {name} has no official split {part!r}, only {has}; split_by=sample makes one of train"
        )
    if len(config.shares) != 3 or min(config.shares) < 0 or sum(config.shares) <= 0:
        raise DataError(f"data set {name}: shares {config.shares} should be three numbers, none negative, not all 0")


def choose(name: str, key: str, value: str, known: tuple[str, ...] | list[str]) -> str:
    """`value`, one of `known`.

    Raises:
        DataError: it is none of them.
    """
    if value not in known:
        hint = nearest(str(value), list(known))
        raise DataError(f"data set {name}: {key} {value!r}{hint} (there are: {', '.join(known)})")
    return value


def in_part(groups: dict[str, np.ndarray], config: SplitConfig, part: str, name: str) -> Bool[np.ndarray, "n"]:
    """Which samples belong to `part`; `groups`: what stays together, per way of splitting ("sample", "sequence").

    Raises:
        DataError: the data set `name` cannot be split in this way.
    """
    if config.split_by not in groups:
        raise DataError(f"data set {name} cannot be split by {config.split_by}: try {', '.join(groups)}")
    return split_groups(groups[config.split_by], config, part)


def split_groups(groups: np.ndarray, config: SplitConfig, part: str) -> Bool[np.ndarray, "n"]:
    """Which samples belong to `part`, when all samples with equal `groups` stay together.

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
    return of_group[inverse.reshape(-1)] == PARTS.index(part)


def require(path: Path, rows: int, wanted: int, what: str) -> None:
    """Refuse a wrong count.

    Raises:
        DataError: `rows` is not `wanted`.
    """
    if rows != wanted:
        raise DataError(f"{path} has {rows} entries, {what} has {wanted}; files of two versions, or one is cut short")


def array(value: object, shape: tuple[int, ...], where: str) -> Float[np.ndarray, "..."]:
    """A label as float64.

    Raises:
        DataError: it is no array of numbers of this shape.
    """
    try:
        found = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"{where} should be {' x '.join(map(str, shape))} numbers") from None
    if found.size == np.prod(shape) and found.ndim > len(shape):
        found = found.reshape(shape)  # singletons: 42 x 1, 1 x 61
    if found.shape != shape:
        raise DataError(f"{where} has shape {list(found.shape)}, it should be {list(shape)}")
    return found


def image_size(entry: dict) -> tuple[int, int]:
    """Width and height that an entry of COCO's `images` gives, px; 0, 0: it does not say."""
    return int(entry.get("width") or 0), int(entry.get("height") or 0)


def project(joints: Float[np.ndarray, "n 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    """Pixels of points (m, camera axes); behind the camera: where they would be, for `check` to refuse."""
    uvw = joints @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return uvw[:, :2] / uvw[:, 2:]


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """The matrix of a pinhole camera, px."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], float)


def completed(a: Annotation) -> Annotation:
    """The annotation with every mask there, and projected joints where it has no 2D ones."""
    joints_valid = a.joints_valid
    if a.joints is not None and joints_valid is None:
        joints_valid = np.ones(NUM_JOINTS, bool)
    points, points_valid = a.points, a.points_valid
    if points is None and a.joints is not None and a.intrinsics is not None:
        points = project(a.joints, a.intrinsics)
        points_valid = joints_valid if points_valid is None else points_valid
    if points is not None and points_valid is None:
        points_valid = np.ones(NUM_JOINTS, bool)
    return replace(a, joints_valid=joints_valid, points=points, points_valid=points_valid)


def check(a: Annotation, width: int, height: int) -> None:
    """Refuse labels that cannot be true; see `plausibility`.

    Raises:
        DataError: NaN, joints behind the camera, another unit, other axes, another image size, a hand outside the
            image, an empty box; names file and index.
    """
    known = {}
    for what, values, valid in (("joints", a.joints, a.joints_valid), ("2D joints", a.points, a.points_valid)):
        if values is not None and (wrong := np.flatnonzero(valid & ~np.isfinite(values).all(-1))).size:
            # a NaN in 3D makes one in 2D: the first is the cause
            raise DataError(f"{a.where}: joint {wrong[0]} of the {what} is NaN or infinite")
        known[what] = None if values is None else np.where(valid[:, None], values, np.nan)
    parts = (("K", a.intrinsics), ("vertices", a.vertices), ("pose", a.pose), ("shape", a.shape), ("box", a.box))
    for what, values in parts:
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{a.where}: {what} holds NaN or infinity")
    if a.box is not None and not (a.box[2:] > a.box[:2]).all():
        raise DataError(f"{a.where}: the hand's box {a.box.tolist()} is empty")
    size, joints = (width, height), known["joints"]
    points = known["2D joints"] if in_image(a, width, height) or not a.elsewhere else None
    problem = plausibility.of_size(a.size, size) if all(a.size) else None
    problem = problem or plausibility.find(
        points=points, joints=joints, K=a.intrinsics, box=a.box, size=size, own=a.own
    )
    problem = problem or (plausibility.of_vertices(a.vertices, joints) if a.vertices is not None else None)
    problem = problem or plausibility.of_fit(a.mesh_joints, joints)
    if problem := problem or plausibility.of_parameters(a.pose, a.shape):
        raise DataError(f"{a.where}: {problem.message}")
    if a.box is not None and not (np.minimum(a.box[2:], size) > np.maximum(a.box[:2], 0)).all():
        raise DataError(f"{a.where}: the hand's box {a.box.tolist()} lies outside the {width} x {height} image")
    if a.box is None and not a.whole and not (a.points is not None and a.points_valid.any()):
        raise DataError(f"{a.where}: nothing says where the hand is")


def in_image(a: Annotation, width: int, height: int) -> bool:
    """Whether a known 2D joint lies in the image; True where none is known."""
    if a.points is None or not a.points_valid.any():
        return True
    return bool((((a.points >= 0) & (a.points <= [width, height])).all(-1) & a.points_valid).any())


def placement(a: Annotation, width: int, height: int, scale: float, size: int) -> Float[Tensor, "2 3"]:
    """image_from_crop of the annotation's square, mirrored for a left hand."""
    if a.whole:
        box, scale = np.array([0.0, 0.0, width, height]), 1.0
    elif a.box is not None:
        box, scale = a.box, scale if a.scale is None else a.scale
    else:
        known = a.points[a.points_valid]
        box = np.concatenate([known.min(0), known.max(0)])
    centre, side = box_to_square(torch.as_tensor(np.asarray(box, np.float32)), scale)
    place = crop_affine(centre, side.clamp_min(SMALLEST_BOX), size)
    return compose_affine(place, mirror_affine(size, place)) if a.is_left else place


def labels(a: Annotation, place: Float[Tensor, "2 3"], size: int, mesh: bool) -> tuple[HandInputs, HandTargets]:
    """Every label in the crop's frame, of a right hand; what is unknown is zeros with a False mask."""
    crop_from_image = invert_affine(place)
    mirror = torch.tensor([-1.0 if a.is_left else 1.0, 1.0, 1.0])
    points, known_2d = _known(a.points, a.points_valid, 2)
    joints, known_3d = _known(a.joints, a.joints_valid, 3)
    joints = joints * mirror
    root, has_root = joints[0], known_3d[0]
    known_3d = known_3d & has_root  # joints are relative to the wrist: without it there are none
    camera = torch.zeros(3, 3) if a.intrinsics is None else torch.from_numpy(a.intrinsics.astype(np.float32))
    inputs = HandInputs(
        intrinsics=homogeneous(crop_from_image) @ camera * mirror,
        intrinsics_valid=torch.tensor(a.intrinsics is not None),
    )
    targets = HandTargets(
        joints=torch.where(known_3d[:, None], joints - root, 0.0),
        joints_valid=known_3d,
        joints_2d=torch.where(known_2d[:, None], apply_affine(points, crop_from_image), 0.0),
        joints_2d_valid=known_2d,
        root=torch.where(has_root, root, 0.0),
        root_valid=has_root,
        crop_size=torch.tensor(float(size)),
        is_left=torch.tensor(a.is_left),
        hand=torch.tensor(a.hand),
    )
    if a.visible is not None:
        targets = replace(targets, joints_visible=torch.from_numpy(np.array(a.visible, bool)))
    return inputs, _with_mesh(a, targets, mirror) if mesh else targets


def _with_mesh(a: Annotation, targets: HandTargets, mirror: Tensor) -> HandTargets:
    def tensor(value: np.ndarray | None, *shape: int) -> Tensor:
        return torch.zeros(shape) if value is None else torch.from_numpy(np.array(value, np.float64))

    wrist = None if a.mesh_joints is None else a.mesh_joints[0]
    if wrist is None and bool(targets.root_valid):
        wrist = a.joints[0]
    has_mesh = torch.tensor(a.vertices is not None and wrist is not None)
    vertices = ((tensor(a.vertices, NUM_VERTICES, 3) - tensor(wrist, 3)) * mirror).float()
    turn = torch.tensor([1.0, -1.0, -1.0]) if a.is_left else torch.ones(3)
    return replace(
        targets,
        vertices=torch.where(has_mesh, vertices, 0.0),
        vertices_valid=has_mesh,
        pose=(tensor(a.pose, 16, 3) * turn).float(),
        shape=tensor(a.shape, 10).float(),
        mano_valid=torch.tensor(a.pose is not None and a.shape is not None),
    )


def _known(values: np.ndarray | None, valid: np.ndarray | None, columns: int) -> tuple[Tensor, Tensor]:
    if values is None:
        return torch.zeros(NUM_JOINTS, columns), torch.zeros(NUM_JOINTS, dtype=torch.bool)
    known = np.asarray(valid, bool)
    return torch.from_numpy(np.where(known[:, None], values, 0.0).astype(np.float32)), torch.from_numpy(known)


def cut_labels(image: np.ndarray, image_from_crop: Float[Tensor, "2 3"], size: int) -> np.ndarray:
    """The crop of a label image: nearest values, 0 beyond the image."""
    matrix = image_from_crop.double().numpy().copy()
    matrix[:, 2] += matrix[:, :2].sum(-1) / 2 - 0.5  # OpenCV measures from the first pixel's centre
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def told(name: str, kept: int, reasons: dict[str, int]) -> None:
    """Log how many hands a reader offers and how many its rules leave out, and why: nothing is dropped in silence."""
    dropped = ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count)
    logger.info("%s: %s hands%s", name, f"{kept:,}", f"; not among them: {dropped}" if dropped else "")
    if not kept:
        raise ConfigError(f"data set {name}: no hand is left" + (f"; left out: {dropped}" if dropped else ""))
