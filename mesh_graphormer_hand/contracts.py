"""The nouns that every other module agrees on: what a model sees, what a sample knows, what a model claims.

Units are metres, radians and pixels. Camera axes are OpenCV's: x right, y down, z forward; where intrinsics are known
they are those of the crop's own camera, which looks at the crop's centre (geometry/viewing.py). `*b` stands for any
batch dimensions, so one class serves a single sample and a batch. All hands are RIGHT hands: a left hand is mirrored
when it is loaded and mirrored back by the predictor. Joints stand in MANO / FreiHAND order (see `skeleton`), relative
to the wrist where a comment says so.

Pixels of a crop are measured from its top-left CORNER: the centre of pixel (row, column) lies at (column + .5,
row + .5).

`hand` fields hold the fingerprint (see `mano.hand`) of the hand that vertices and model joints belong to, 0 where there
is none; two arrays of 778 vertices with different fingerprints are never compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

# what a pixel shows; "other hand": of this person or another, "in front": a scrap of something before the hand
SEGMENTATION_CLASSES = ("background", "hand", "forearm", "sleeve", "object", "worn", "other hand", "in front", "body")
IN_FRONT = SEGMENTATION_CLASSES.index("in front")
DEPTH_UNIT = 1e-4  # m: one step of a 16-bit depth image, which then reaches 6.5 m


Array = Tensor | np.ndarray


class Record:
    """A frozen dataclass of optional tensors or arrays that knows how to move, pin, slice and join itself."""

    def map(self, function: Callable[[Any], Any]) -> Self:
        """The record with `function` applied to every tensor and array in it, at any depth."""
        return replace(self, **{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Self:
        """The record, whose arrays are all tensors, on `device`."""
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The record in page-locked memory (DataLoader calls this)."""
        return self.map(Tensor.pin_memory)

    def __getitem__(self, index: int | slice | Array) -> Self:
        """Select along the first batch dimension."""
        return replace(self, **{f.name: _select(getattr(self, f.name), index) for f in fields(self)})

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Join batches along the first dimension.

        Raises:
            ValueError: a field is present in some parts only.
        """
        return cls(**{f.name: _cat(f.name, [getattr(p, f.name) for p in parts]) for f in fields(cls)})

    @classmethod
    def stack(cls, samples: Sequence[Self]) -> Self:
        """Collate samples without a batch dimension into a batch."""
        return cls.cat([s.map(lambda t: t[None]) for s in samples])


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, Array):
        return function(value)
    if isinstance(value, Record):
        return value.map(function)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    return value


def _select(value: Any, index: int | slice | Array) -> Any:
    if isinstance(value, Array | Record):
        return value[index]
    if isinstance(value, dict):
        return {k: _select(v, index) for k, v in value.items()}
    if isinstance(value, list):
        rows = np.arange(len(value))[index.cpu().numpy() if isinstance(index, Tensor) else index]
        return [value[row] for row in np.atleast_1d(rows).tolist()]
    return value


def _cat(name: str, values: list[Any]) -> Any:
    absent = [v is None for v in values]
    if all(absent):
        return None
    if any(absent):
        raise ValueError(f"cannot join batches: `{name}` is absent from {sum(absent)} of {len(values)} of them")
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    if isinstance(values[0], Record):
        return type(values[0]).cat(values)
    if isinstance(values[0], dict):
        return {k: _cat(f"{name}.{k}", [v[k] for v in values]) for k in values[0]}
    return type(values[0])(item for value in values for item in value)


class Kind(Enum):
    """What a label is: it decides how the label follows its picture (data/labels.py)."""

    CONSTANT = "the same whatever happens to the picture"
    VECTORS = "x, y, z in camera axes, the last dimension"
    POSE = "MANO axis-angles, the first one in camera axes"
    HARMONICS = "radiance from all around, real spherical harmonics to order 2"
    PIXELS = "x, y in px of the crop, the last dimension"
    BOXES = "x0, y0, x1, y1 in px of the crop"
    VISIBILITY = "of joints, 0 where one is outside the picture or covered"
    IMAGE = "a number a pixel, of what the pixel shows"
    VECTOR_IMAGE = "x, y, z in camera axes a pixel, channels first"
    SIDE = "whether a hand is a left one: a mirror changes it"


@dataclass(frozen=True)
class Label:
    """How a label is declared."""

    kind: Kind
    mask: str | None  # the field that says where it is known; None: everywhere
    unit: str  # "m", "px", "rad" or none
    of_hand: bool  # a parametric hand's own: comparable with that hand only
    covered: int  # IMAGE: its value where something new stands in front
    shape: tuple[int | str, ...] = ()  # of one sample; a word stands for any size


def label(kind: Kind, mask: str | None = None, unit: str = "", of_hand: bool = False, covered: int = 0) -> Any:
    """A field of a record that is a label; see `Label`."""
    return field(default=None, metadata={"label": Label(kind, mask, unit, of_hand, covered)})


def sample_shape(record: type[Record], name: str) -> tuple[int | str, ...]:
    """The shape that a field has in one sample, by its annotation; a word stands for any size."""
    annotation = str(record.__dataclass_fields__[name].type)
    dimensions = re.search(r"""["']\*b ?([^"']*)["']""", annotation)
    return tuple(int(d) if d.isdigit() else d for d in (dimensions[1].split() if dimensions else ()))


def sample_kind(record: type[Record], name: str) -> str:
    """The type of a field's numbers by its annotation: Float, Bool, Int64 or UInt8."""
    return str(record.__dataclass_fields__[name].type).partition("[")[0]


def labels_of(record: type[Record]) -> dict[str, Label]:
    """The labels that a record declares, by field."""
    declared = {f.name: f.metadata["label"] for f in fields(record) if "label" in f.metadata}
    return {name: replace(found, shape=sample_shape(record, name)) for name, found in declared.items()}


@dataclass(frozen=True)
class HandInputs(Record):
    """What a model may look at, never a label. None: no sample of the batch has this modality.

    With several cameras every field gains a view axis after the batch dimensions; `view_valid` says which views count.
    """

    image: Float[Tensor, "*b 3 h w"] | None = None  # RGB in [0, 1]; models normalise it themselves
    depth: Float[Tensor, "*b 1 h w"] | None = label(Kind.IMAGE, "depth_valid", "m")  # along z, 0 where unknown
    depth_valid: Bool[Tensor, "*b"] | None = None
    # of the crop, K R of geometry.viewing
    intrinsics: Float[Tensor, "*b 3 3"] | None = label(Kind.CONSTANT, "intrinsics_valid", "px")
    intrinsics_valid: Bool[Tensor, "*b"] | None = None
    extrinsics: Float[Tensor, "*b 4 4"] | None = None  # camera from world
    view_valid: Bool[Tensor, "*b"] | None = None  # (batch, view), as the other fields then have it
    # px of the crop: of networks that lift 2D joints (`HandBatch.inputs_for`), by a 2D network or by the labels
    joints_2d: Float[Tensor, "*b 21 2"] | None = None
    joints_2d_valid: Bool[Tensor, "*b 21"] | None = None


@dataclass(frozen=True)
class HandTargets(Record):
    """What a sample knows about itself. A missing label is zeros and a False mask; None: no sample has it."""

    # wrist-relative, camera axes
    joints: Float[Tensor, "*b 21 3"] | None = label(Kind.VECTORS, "joints_valid", "m", of_hand=True)
    joints_valid: Bool[Tensor, "*b 21"] | None = None
    # never rounded
    joints_2d: Float[Tensor, "*b 21 2"] | None = label(Kind.PIXELS, "joints_2d_valid", "px")
    joints_2d_valid: Bool[Tensor, "*b 21"] | None = None
    # nothing stands between the joint's skin and the camera
    joints_visible: Bool[Tensor, "*b 21"] | None = label(Kind.VISIBILITY)
    # wrist-relative, camera axes
    vertices: Float[Tensor, "*b 778 3"] | None = label(Kind.VECTORS, "vertices_valid", "m", of_hand=True)
    vertices_valid: Bool[Tensor, "*b"] | None = None
    # the wrist in the camera
    root: Float[Tensor, "*b 3"] | None = label(Kind.VECTORS, "root_valid", "m")
    root_valid: Bool[Tensor, "*b"] | None = None
    # MANO axis-angles, the wrist's in camera axes, mean pose included; and MANO betas
    pose: Float[Tensor, "*b 16 3"] | None = label(Kind.POSE, "mano_valid", "rad", of_hand=True)
    shape: Float[Tensor, "*b 10"] | None = label(Kind.CONSTANT, "mano_valid", of_hand=True)
    mano_valid: Bool[Tensor, "*b"] | None = None
    # hand and bare forearm
    mask: Bool[Tensor, "*b h w"] | None = label(Kind.IMAGE, "mask_valid")
    mask_valid: Bool[Tensor, "*b"] | None = None
    # along z of the rendered scene, 0 where nothing is
    depth: Float[Tensor, "*b h w"] | None = label(Kind.IMAGE, "depth_valid", "m")
    depth_valid: Bool[Tensor, "*b"] | None = None
    # positions in SEGMENTATION_CLASSES
    parts: UInt8[Tensor, "*b h w"] | None = label(Kind.IMAGE, "parts_valid", covered=IN_FRONT)
    parts_valid: Bool[Tensor, "*b"] | None = None
    # unit vectors in camera axes, of the rendered scene, 0 where nothing is
    normals: Float[Tensor, "*b 3 h w"] | None = label(Kind.VECTOR_IMAGE, "normals_valid")
    normals_valid: Bool[Tensor, "*b"] | None = None
    # visible share in [0, 1] of a joint's skin that faces the camera
    joint_visibility: Float[Tensor, "*b 21"] | None = label(Kind.VISIBILITY, "joint_visibility_valid")
    joint_visibility_valid: Bool[Tensor, "*b"] | None = None
    # linear RGB of the back of the hand
    skin_tone: Float[Tensor, "*b 3"] | None = label(Kind.CONSTANT, "appearance_valid")
    # radiance from all around, harmonics as in render.shading.Lights
    light_sh: Float[Tensor, "*b 9 3"] | None = label(Kind.HARMONICS, "appearance_valid")
    # unit vector towards the directional light, camera axes; and its irradiance / pi
    light_direction: Float[Tensor, "*b 3"] | None = label(Kind.VECTORS, "appearance_valid")
    light_colour: Float[Tensor, "*b 3"] | None = label(Kind.CONSTANT, "appearance_valid")
    appearance_valid: Bool[Tensor, "*b"] | None = None  # of skin tone and light
    # the crop's side, for losses in crop units
    crop_size: Float[Tensor, "*b"] | None = label(Kind.CONSTANT, unit="px")
    # of a whole frame (the "crop" is the frame): all its hands, in the first of n entries
    # x0, y0, x1, y1 round each hand, inside the frame
    boxes: Float[Tensor, "*b n 4"] | None = label(Kind.BOXES, "boxes_known", "px")
    boxes_valid: Bool[Tensor, "*b n"] | None = None  # which entries hold a hand; none: a frame without hands
    boxes_unsure: Bool[Tensor, "*b n"] | None = None  # of the valid ones: a region that may hold hands, no hand's box
    # the person's own left hand (frames are never mirrored)
    boxes_left: Bool[Tensor, "*b n"] | None = label(Kind.SIDE, "boxes_left_valid")
    boxes_left_valid: Bool[Tensor, "*b n"] | None = None  # whether the side is known; None: of all of them
    boxes_known: Bool[Tensor, "*b"] | None = None  # whether the sample says where its hands are
    # a left hand that was mirrored on loading
    is_left: Bool[Tensor, "*b"] | None = label(Kind.SIDE)
    shows_left: Bool[Tensor, "*b"] | None = None  # the crop was mirrored after loading and shows a left hand
    no_hand: Bool[Tensor, "*b"] | None = None  # the crop shows no hand
    hand: Int64[Tensor, "*b"] | None = None  # fingerprint, 0: labels of no parametric hand


LABELS = labels_of(HandTargets)
IMAGE_LABELS = tuple(name for name, found in LABELS.items() if found.kind in (Kind.IMAGE, Kind.VECTOR_IMAGE))
HAND_MASKS = tuple(dict.fromkeys(found.mask for found in LABELS.values() if found.of_hand))  # of labels of one hand


@dataclass(frozen=True)
class HandPrediction(Record):
    """What a model claims; None: this architecture does not produce it."""

    joints: Float[Tensor, "*b 21 3"] | None = None  # m, wrist-relative, camera axes: the joints that count
    joints_token: Float[Tensor, "*b 21 3"] | None = None  # m, wrist-relative: straight from the joint queries
    joints_2d: Float[Tensor, "*b 21 2"] | None = None  # px of the crop
    joints_token_2d: Float[Tensor, "*b 21 2"] | None = None  # px of the crop, the projected `joints_token`
    vertices: Float[Tensor, "*b 778 3"] | None = None  # m, wrist-relative, camera axes
    vertices_coarse: Float[Tensor, "*b coarse 3"] | None = None  # m, relative to the same wrist as `vertices`
    camera: Float[Tensor, "*b 3"] | None = None  # s, tx, ty: crop in [-1, 1] = s (xy + t), xy in m
    rotation: Float[Tensor, "*b 3 3"] | None = None  # camera from the hand's own frame, where it is learned
    heatmaps: Float[Tensor, "*b 21 hh wh"] | None = None  # logits or responses, of the crop
    joints_25d: Float[Tensor, "*b 21 3"] | None = None  # place in crop [-1, 1], depth less its mean times `camera`'s s
    surface: Float[Tensor, "*b 6 hh wh"] | None = None  # of the template where it is seen: position (dm), normal
    mask: Float[Tensor, "*b h w"] | None = None  # logits of the hand's mask
    box_maps: Float[Tensor, "*b 6 bh bw"] | None = None  # where hands are in a frame, see geometry.boxes
    pose: Float[Tensor, "*b 16 3"] | None = None  # MANO axis-angles
    shape: Float[Tensor, "*b 10"] | None = None
    confidence: Float[Tensor, "*b 21"] | None = None  # in [0, 1]
    left_logit: Float[Tensor, "*b"] | None = None  # of "the crop shows a left hand", as it is shown to the model
    presence_logit: Float[Tensor, "*b"] | None = None  # of "the crop shows a hand"
    hand: Int64[Tensor, "*b"] | None = None  # fingerprint of the hand of `vertices` and `joints`
    aux: dict[str, Tensor] = field(default_factory=dict)  # private to the model


@dataclass(frozen=True)
class HandBatch(Record):
    """Samples as a loader gives them."""

    inputs: HandInputs
    targets: HandTargets
    keys: list[str] = field(default_factory=list)  # sample ids, to join predictions with files
    image_from_crop: Float[Tensor, "*b 2 3"] | None = None  # px of the crop -> px of the whole, unmirrored photo
    left_out: tuple[str, ...] = ()  # requested samples that are broken: what and why
    no_hand: tuple[str, ...] = ()  # requested samples that show no hand, by their labels: "WHICH: WHY"

    def __len__(self) -> int:
        return len(self.keys)

    def inputs_for(self, predictor: object) -> HandInputs:
        """What a network or another predictor may see: the inputs, and the labelled 2D joints where it says that it
        reads 2D joints (`reads`), which are then its inputs and not its task."""
        if "joints_2d" not in getattr(getattr(predictor, "module", predictor), "reads", ()):
            return self.inputs
        found = {name: getattr(self.targets, name) for name in ("joints_2d", "joints_2d_valid")}
        return replace(self.inputs, **found)
