"""Boxes round hands: overlap, suppression, and how the boxes of a frame become maps and maps become boxes again.

A frame of h x w px has maps of (h / stride) x (w / stride) cells with six channels: the logit of "a hand's centre is
here"; the centre's place relative to the cell's centre, in cells (x, y); the box's width and height, as logarithms of
multiples of `unit` px; the logit of "it is a left hand". Zhou et al., "Objects as Points", 2019, with every cell near a
centre trained to tell the whole box. Pixels are measured from the frame's top-left corner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

CHANNELS = 6
CENTRE, SHIFT, EXTENT, LEFT = 0, slice(1, 3), slice(3, 5), 5
CERTAIN = 0.01  # heat from which a cell is judged by the hand that it is near, whatever region it lies in
MAX_LOG_SIZE = 4.0  # of the logarithm of a size, either way: no exponential of an untrained network overflows


@dataclass(frozen=True)
class BoxTargets:
    """What the maps of a frame should say."""

    heat: Float[Tensor, "b h w"]  # 1 at a hand's centre, falling off around it, 0 far from any
    shift: Float[Tensor, "b h w 2"]  # of the nearest hand, as in the maps; likewise the next two
    extent: Float[Tensor, "b h w 2"]
    left: Float[Tensor, "b h w"]
    left_valid: Bool[Tensor, "b h w"]  # whether that hand's side is known
    ignored: Bool[Tensor, "b h w"]  # neither near a hand nor surely background


@dataclass(frozen=True)
class BoxCodec:
    """Boxes -> maps to train on; maps -> boxes.

    Args:
        stride: px of the frame per cell.
        spread: standard deviation of the heat, of the box's mean side.
        unit: px, the size whose logarithm is 0.
    """

    stride: int = 8
    spread: float = 0.1
    unit: float = 64.0

    def encode(
        self,
        boxes: Float[Tensor, "b n 4"],
        valid: Bool[Tensor, "b n"],
        left: Bool[Tensor, "b n"],
        shape: tuple[int, int],
        unsure: Bool[Tensor, "b n"] | None = None,
        left_valid: Bool[Tensor, "b n"] | None = None,
    ) -> BoxTargets:
        """Targets of `shape` (rows, columns) for boxes x0, y0, x1, y1 in px.

        `unsure`: of the valid ones, regions that may hold hands which nobody has marked. `left_valid`: None, all are.
        """
        regions = torch.zeros_like(valid) if unsure is None else valid & unsure
        valid = valid & ~regions
        left_valid = torch.ones_like(left) if left_valid is None else left_valid
        extent = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1.0)
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2 / self.stride  # in cells
        sigma = (self.spread * extent.prod(-1).sqrt() / self.stride).clamp_min(0.6)[..., None, None]
        cells = _cells(shape, boxes)
        away = centre[:, :, None, None] - cells  # b n h w 2
        heat = torch.exp(-away.square().sum(-1) / (2 * sigma.square())) * valid[..., None, None]
        # the cell that holds a centre counts as the centre, wherever in the cell that lies
        heat = torch.where(
            ((away >= -0.5) & (away < 0.5)).all(-1) & valid[..., None, None], torch.ones_like(heat), heat
        )
        heat, owner = heat.max(1)  # b h w

        def of_owner(values: Tensor) -> Tensor:
            return values.gather(1, owner.flatten(1)[..., None].expand(-1, -1, values.shape[-1])).unflatten(1, shape)

        px = cells * self.stride  # h w 2
        low, high = boxes[:, :, None, None, :2], boxes[:, :, None, None, 2:]
        doubt = (((px >= low) & (px < high)).all(-1) & regions[..., None, None]).any(1) & (heat < CERTAIN)
        shift = of_owner(centre) - cells
        size = of_owner((extent / self.unit).log())
        sides = of_owner(torch.stack([left, left_valid], -1).to(heat.dtype))
        return BoxTargets(heat, shift, size, sides[..., 0], sides[..., 1] > 0.5, doubt)

    def decode(
        self, maps: Float[Tensor, "b 6 h w"], count: int = 16
    ) -> tuple[Float[Tensor, "b k 4"], Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """The `count` likeliest hands (fewer on small maps), best first: boxes in px, their scores and how likely
        each is a left hand, both in [0, 1]."""
        heat = maps[:, CENTRE].sigmoid()
        peaks = heat * (heat >= F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0])
        score, place = peaks.flatten(1).topk(min(count, peaks[0].numel()))

        def here(values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k c"]:
            flat = values.flatten(2).transpose(1, 2)
            return flat.gather(1, place[..., None].expand(-1, -1, flat.shape[-1]))

        cells = _cells((maps.shape[-2], maps.shape[-1]), maps).flatten(0, 1)[place]
        centre = (cells + here(maps[:, SHIFT])) * self.stride
        half = here(maps[:, EXTENT]).clamp(-MAX_LOG_SIZE, MAX_LOG_SIZE).exp() * self.unit / 2
        left = here(maps[:, LEFT : LEFT + 1])[..., 0].sigmoid()
        return torch.cat([centre - half, centre + half], -1), score, left


def _cells(shape: tuple[int, int], like: Tensor) -> Float[Tensor, "h w 2"]:
    """Centres of the cells, x and y, in cells."""
    dtype = like.dtype if like.is_floating_point() else torch.float32
    y = torch.arange(shape[0], device=like.device, dtype=dtype) + 0.5
    x = torch.arange(shape[1], device=like.device, dtype=dtype) + 0.5
    return torch.stack([x.expand(shape), y[:, None].expand(shape)], -1)


def box_iou(a: Float[Tensor, "*b n 4"], b: Float[Tensor, "*b m 4"]) -> Float[Tensor, "*b n m"]:
    """Intersection over union of every box of `a` with every box of `b`; boxes are x0, y0, x1, y1."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    shared = (high - low).clamp_min(0).prod(-1)
    return shared / (_area(a)[..., :, None] + _area(b)[..., None, :] - shared).clamp_min(1e-9)


def _area(boxes: Float[Tensor, "*b n 4"]) -> Float[Tensor, "*b n"]:
    return (boxes[..., 2:] - boxes[..., :2]).clamp_min(0).prod(-1)


def calibrate(heat: Float[Tensor, "*n"], slope: float, shift: float) -> Float[Tensor, "*n"]:
    """How likely a peak of this heat is a hand: sigmoid(slope logit(heat) + shift), Platt's scaling."""
    return (slope * torch.logit(heat, 1e-6) + shift).sigmoid()


def suppress(boxes: Float[Tensor, "n 4"], scores: Float[Tensor, "n"], overlap: float = 0.5) -> list[int]:
    """Indices of the boxes that stay, best first, when each removes the worse ones that overlap it by more."""
    iou = box_iou(boxes, boxes)
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if not kept or float(iou[index, kept].max()) <= overlap:
            kept.append(index)
    return kept


def match(found: Float[Tensor, "n 4"], wanted: Float[Tensor, "m 4"], overlap: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (found, wanted) of boxes that overlap by at least `overlap`, each box once; `found` stands best first, and
    each takes the one that it overlaps most among those left."""
    iou = box_iou(found, wanted)
    pairs: list[tuple[int, int]] = []
    for index in range(len(found)):
        left = [j for j in range(len(wanted)) if j not in [w for _, w in pairs]]
        if left:
            best = max(left, key=lambda j, i=index: float(iou[i, j]))
            if float(iou[index, best]) >= overlap:
                pairs.append((index, best))
    return pairs
