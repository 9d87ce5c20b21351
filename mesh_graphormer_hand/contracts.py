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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

# what a pixel shows; "other hand": of this person or another, "in front": a scrap of something before the hand
PARTS = ("background", "hand", "forearm", "sleeve", "object", "worn", "other hand", "in front", "body")
DEPTH_UNIT = 1e-4  # m: one step of a 16-bit depth image, which then reaches 6.5 m


class Record:
    """A frozen dataclass of optional tensors that knows how to move, pin, slice and join itself."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """The record with `function` applied to every tensor in it, at any depth."""
        return replace(self, **{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Self:
        """The record on `device`."""
        return self.map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The record in page-locked memory (DataLoader calls this)."""
        return self.map(Tensor.pin_memory)

    def __getitem__(self, index: int | slice | Tensor) -> Self:
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


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Record):
        return value.map(function)
    if isinstance(value, dict):
        return {k: _map(v, function) for k, v in value.items()}
    return value


def _select(value: Any, index: int | slice | Tensor) -> Any:
    if isinstance(value, Tensor | Record):
        return value[index]
    if isinstance(value, dict):
        return {k: _select(v, index) for k, v in value.items()}
    if isinstance(value, list):
        if isinstance(index, Tensor):
            index = index.nonzero().flatten() if index.dtype == torch.bool else index
            return [value[i] for i in index.tolist()]
        return value[index] if isinstance(index, slice) else [value[index]]
    return value


def _cat(name: str, values: list[Any]) -> Any:
    absent = [v is None for v in values]
    if all(absent):
        return None
    if any(absent):
        raise ValueError(f"cannot join batches: `{name}` is absent from {sum(absent)} of {len(values)} of them")
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], Record):
        return type(values[0]).cat(values)
    if isinstance(values[0], dict):
        return {k: _cat(f"{name}.{k}", [v[k] for v in values]) for k in values[0]}
    return type(values[0])(item for value in values for item in value)


@dataclass(frozen=True)
class HandInputs(Record):
    """What a model may look at, never a label. None: no sample of the batch has this modality.

    With several cameras every field gains a view axis after the batch dimensions; `view_valid` says which views count.
    """

    image: Float[Tensor, "*b 3 h w"] | None = None  # RGB in [0, 1]; models normalise it themselves
    depth: Float[Tensor, "*b 1 h w"] | None = None  # m along z, 0 where unknown
    depth_valid: Bool[Tensor, "*b"] | None = None
    intrinsics: Float[Tensor, "*b 3 3"] | None = None  # px of the crop, K R of geometry.viewing
    intrinsics_valid: Bool[Tensor, "*b"] | None = None
    extrinsics: Float[Tensor, "*b 4 4"] | None = None  # camera from world
    view_valid: Bool[Tensor, "*b"] | None = None  # (batch, view), as the other fields then have it


@dataclass(frozen=True)
class HandTargets(Record):
    """What a sample knows about itself. A missing label is zeros and a False mask; None: no sample has it."""

    joints: Float[Tensor, "*b 21 3"] | None = None  # m, wrist-relative, camera axes
    joints_valid: Bool[Tensor, "*b 21"] | None = None
    joints_2d: Float[Tensor, "*b 21 2"] | None = None  # px of the crop, never rounded
    joints_2d_valid: Bool[Tensor, "*b 21"] | None = None
    joints_visible: Bool[Tensor, "*b 21"] | None = None  # nothing stands between the joint's skin and the camera
    vertices: Float[Tensor, "*b 778 3"] | None = None  # m, wrist-relative, camera axes
    vertices_valid: Bool[Tensor, "*b"] | None = None
    root: Float[Tensor, "*b 3"] | None = None  # m, the wrist in the camera
    root_valid: Bool[Tensor, "*b"] | None = None
    pose: Float[Tensor, "*b 16 3"] | None = None  # MANO axis-angles, the wrist's in camera axes, mean pose included
    shape: Float[Tensor, "*b 10"] | None = None  # MANO betas
    mano_valid: Bool[Tensor, "*b"] | None = None
    mask: Bool[Tensor, "*b h w"] | None = None  # hand and bare forearm
    mask_valid: Bool[Tensor, "*b"] | None = None
    depth: Float[Tensor, "*b h w"] | None = None  # m along z of the rendered scene, 0 where nothing is
    depth_valid: Bool[Tensor, "*b"] | None = None
    parts: UInt8[Tensor, "*b h w"] | None = None  # positions in PARTS
    parts_valid: Bool[Tensor, "*b"] | None = None
    normals: Float[Tensor, "*b 3 h w"] | None = None  # unit, camera axes, of the rendered scene, 0 where nothing is
    normals_valid: Bool[Tensor, "*b"] | None = None
    joints_share: Float[Tensor, "*b 21"] | None = None  # of a joint's skin that faces the camera, what is in sight
    joints_share_valid: Bool[Tensor, "*b"] | None = None
    skin_tone: Float[Tensor, "*b 3"] | None = None  # linear RGB of the back of the hand
    light_sh: Float[Tensor, "*b 9 3"] | None = None  # radiance from all around, harmonics as in render.shade.Lights
    light_direction: Float[Tensor, "*b 3"] | None = None  # unit, towards the directional light, camera axes
    light_colour: Float[Tensor, "*b 3"] | None = None  # its irradiance / pi
    look_valid: Bool[Tensor, "*b"] | None = None  # of skin tone and light
    crop_size: Float[Tensor, "*b"] | None = None  # px, the crop's side, for losses in crop units
    # of a whole frame (the "crop" is the frame): all its hands, in n places of which the first few are taken
    boxes: Float[Tensor, "*b n 4"] | None = None  # px, x0, y0, x1, y1 round each hand, inside the frame
    boxes_valid: Bool[Tensor, "*b n"] | None = None  # which places hold a hand; none: a frame without hands
    boxes_unsure: Bool[Tensor, "*b n"] | None = None  # of the valid ones: a region that may hold hands, no hand's box
    boxes_left: Bool[Tensor, "*b n"] | None = None  # the person's own left hand (frames are never mirrored)
    boxes_left_valid: Bool[Tensor, "*b n"] | None = None  # whether the side is known; None: of all of them
    boxes_known: Bool[Tensor, "*b"] | None = None  # whether the sample says where its hands are
    is_left: Bool[Tensor, "*b"] | None = None  # a left hand that was mirrored on loading
    shows_left: Bool[Tensor, "*b"] | None = None  # the crop was mirrored after loading and shows a left hand
    no_hand: Bool[Tensor, "*b"] | None = None  # the crop shows no hand
    hand: Int64[Tensor, "*b"] | None = None  # fingerprint, 0: labels of no parametric hand


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
    left_out: tuple[str, ...] = ()  # samples that were asked for and are broken: what and why
    no_hand: tuple[str, ...] = ()  # samples that were asked for and, by their labels, show no hand: "WHICH: WHY"

    def __len__(self) -> int:
        return len(self.keys)
