"""Augmentation of whole batches, on whatever device they are, with every label kept true to the image.

The image is moved by one affine map per sample. A turn in the image is a turn of the camera about its optical axis, so
the 3D labels turn with it and the intrinsics follow exactly: with A = new crop from old crop and R the turn about z,
    points' = R points      K' = A K R^T      =>      K' points' = A K points.
A change of scale or a shift changes K; after a shift the crop's centre lies on another ray, and labels are turned to it
(data/axes.py). All random numbers come from `seed`, drawn on the CPU in a fixed order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ..config import SHARE
from ..contracts import HAND_MASKS, SEGMENTATION_CLASSES, HandBatch, HandTargets
from ..geometry.crops import apply_affine, compose_affine, crop_affine, homogeneous, invert_affine, mirror_affine
from ..virtual.config import VirtualConfig
from ..virtual.scene.background import paint
from . import labels
from .axes import look_along_crops

BACKGROUND = SEGMENTATION_CLASSES.index("background")
SCENE_DEPTH_M = 0.5  # m behind the hand: a surface within it belongs to the scene, one beyond it to the background
WANTED_RATIO = 0.4  # share of a hand's box inside the moved frame from which it is one to be found
UNSURE_RATIO = 0.1  # share from which what is left is neither a hand to be found nor background


@dataclass
class Augmentation:
    """How training images are varied. The defaults are Mesh Graphormer's published ones; the rest is off (0)."""

    LIMITS = {
        **dict.fromkeys(("rotation_off", "constant_border", "blur", "noise", "low_resolution", "occlusion"), SHARE),
        **dict.fromkeys(("background", "mirror", "left_hands", "occlusion_max", "channel_gain", "contrast"), SHARE),
        "scale_max": (0.0, 0.9),
    }
    enabled: bool = True
    rotation: float = 90.0  # degrees, standard deviation of the turn in the image
    rotation_max: float = 180.0  # degrees, where it is clipped
    rotation_off: float = 0.6  # probability of no turn
    scale: float = 0.25  # standard deviation of the zoom about 1
    scale_max: float = 0.25  # where it is clipped: zoom within 1 - this .. 1 + this
    translation: float = 0.0  # of the crop's side, largest shift
    constant_border: float = 0.0  # probability that what lies outside the crop is one colour, not the repeated edge
    channel_gain: float = 0.4  # each colour channel times 1 - this .. 1 + this
    brightness: float = 0.0  # largest amount added to all channels
    contrast: float = 0.0  # about the image's mean, times 1 - this .. 1 + this
    blur: float = 0.0  # probability
    blur_max: float = 2.0  # px, largest standard deviation
    noise: float = 0.0  # probability
    noise_max: float = 0.06  # largest standard deviation, of 1
    low_resolution: float = 0.0  # probability of shrinking 2 to 4 times and back
    occlusion: float = 0.0  # probability of a rectangle of one colour over part of the image
    occlusion_max: float = 0.4  # of the crop's side, the rectangle's longest side
    background: float = 0.0  # probability of another background, where the sample knows the hand's mask
    backgrounds: str = ""  # folder of photographs, some of those backgrounds; empty: procedural ones only
    mirror: float = 0.0  # probability that a whole frame is mirrored
    left_hands: float = (
        0.0  # probability that a crop is mirrored: of the left hand that it then shows, a model learns the
    )
    #   side and the 2D places of the joints, no mesh


def generator(*seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for the tuple of integers `seed`; different tuples give unrelated numbers."""
    state = np.random.SeedSequence([s & 0xFFFFFFFFFFFFFFFF for s in seed]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


class Draws:
    """Random numbers for some rows of a batch, the same for a row whichever rows are drawn with it."""

    def __init__(self, seed: tuple[int, ...], start: int, count: int, total: int) -> None:
        self.seed, self.rows, self.total = seed, slice(start, start + count), total
        self.random = generator(*seed)

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), (rows, *shape)."""
        return torch.rand(self.total, *shape, generator=self.random)[self.rows]

    def normal(self, *shape: int) -> Tensor:
        """Of mean 0 and deviation 1, (rows, *shape)."""
        return torch.randn(self.total, *shape, generator=self.random)[self.rows]

    def of_row(self, row: int, purpose: int, device: str | torch.device = "cpu") -> torch.Generator:
        """A generator of one row's own, for numbers by the pixel."""
        return generator(*self.seed, purpose, self.rows.start + row, device=device)


def augment(
    batch: HandBatch, config: Augmentation, seed: int | tuple[int, ...], start: int = 0, total: int | None = None
) -> HandBatch:
    """The batch seen otherwise: moved, then recoloured; `seed` decides all of it.

    The rows may be those from `start` on of a batch of `total`: each comes out as it does in the whole batch.
    """
    if not config.enabled or batch.inputs.image is None:
        return batch
    seed = (seed,) if isinstance(seed, int) else tuple(seed)
    image = batch.inputs.image
    rng = Draws(seed, start, len(batch), total or len(batch))
    extra = Draws((*seed, 2), start, len(batch), total or len(batch))  # what came later leaves the others as they were
    angle, crop_from_old = _draw_motion(image.shape[-1], config, rng)
    constant = rng.uniform() < config.constant_border
    colour = rng.uniform(3)
    if config.background:
        batch = _swap_background(batch, config, extra)
    if config.mirror and batch.targets.boxes is not None:
        batch = _mirror_some(batch, extra.uniform() < config.mirror)
    if config.left_hands and batch.targets.joints_2d is not None:
        batch = _show_left(
            batch, Draws((*seed, 3), start, len(batch), total or len(batch)).uniform() < config.left_hands
        )
    if config.rotation or config.scale or config.translation:  # else nothing moves
        border = torch.where(constant[:, None], colour, -torch.ones(3)).to(image.device)
        batch = move(batch, crop_from_old.to(image.device), angle.to(image.device), border)
    batch = _occlude(batch, config, rng)
    return replace(batch, inputs=replace(batch.inputs, image=_recolour(batch.inputs.image, config, rng)))


def move(
    batch: HandBatch, new_from_old: Float[Tensor, "b 2 3"], angle: Float[Tensor, "b"], border: Float[Tensor, "b 3"]
) -> HandBatch:
    """Move the image by `new_from_old` (px of the crop), whose turn is `angle` (radians), and all labels with it.

    What comes from outside the old crop repeats its edge, or has the colour `border` where that is not negative.
    """
    size = batch.inputs.image.shape[-1]
    old_from_new = invert_affine(new_from_old)
    grid = _grid(old_from_new, size)
    turn = _turn_about_z(angle)
    inputs, targets = batch.inputs, batch.targets
    moved = {"image": _sample_image(inputs.image, grid, border)}
    if inputs.depth is not None:
        moved["depth"] = _sample_labels(inputs.depth, grid)
    if inputs.intrinsics is not None:
        moved["intrinsics"] = homogeneous(new_from_old) @ inputs.intrinsics @ turn.transpose(-1, -2)
    photo = batch.image_from_crop
    moved_batch = replace(
        batch,
        inputs=replace(inputs, **moved),
        targets=_move_targets(targets, new_from_old, turn, grid, size),
        image_from_crop=None if photo is None else compose_affine(photo, old_from_new),
    )
    return look_along_crops(moved_batch)


def _move_targets(
    targets: HandTargets,
    new_from_old: Float[Tensor, "b 2 3"],
    turn: Float[Tensor, "b 3 3"],
    grid: Float[Tensor, "b h w 2"],
    size: int,
) -> HandTargets:
    moved = labels.turn(targets, turn)
    moved |= labels.move(replace(targets, **moved), new_from_old, lambda values: _sample_labels(values, grid), size)
    if targets.boxes is not None:
        boxes, left_over = _move_boxes(targets.boxes, new_from_old, size)
        region = torch.zeros_like(targets.boxes_valid) if targets.boxes_unsure is None else targets.boxes_unsure
        moved["boxes"] = boxes
        moved["boxes_valid"] = targets.boxes_valid & ((left_over > UNSURE_RATIO) | region & (left_over > 0))
        moved["boxes_unsure"] = region | (left_over <= WANTED_RATIO)
    return replace(targets, **moved)


def mirror(batch: HandBatch) -> HandBatch:
    """The batch in a mirror: right hands become left ones and back. Twice is the identity.

    Poses mirror as axis-angles do: (x, y, z) -> (x, -y, -z).
    """
    inputs, size = batch.inputs, batch.inputs.image.shape[-1]
    swap = mirror_affine(size, inputs.image)
    mirrored: dict[str, Any] = {"image": inputs.image.flip(-1)}
    if inputs.depth is not None:
        mirrored["depth"] = inputs.depth.flip(-1)
    if inputs.intrinsics is not None:
        signs = inputs.intrinsics.new_tensor([-1.0, 1.0, 1.0])
        mirrored["intrinsics"] = homogeneous(swap) @ inputs.intrinsics * signs
    return replace(
        batch,
        inputs=replace(inputs, **mirrored),
        targets=replace(batch.targets, **labels.mirror(batch.targets, size)),
        image_from_crop=None if batch.image_from_crop is None else compose_affine(batch.image_from_crop, swap),
    )


def _mirror_some(batch: HandBatch, chosen: Bool[Tensor, "b"]) -> HandBatch:
    """The batch with the chosen whole frames mirrored: their hands change sides."""
    frames = chosen.to(batch.targets.boxes.device)
    if batch.targets.boxes_known is not None:
        frames = frames & batch.targets.boxes_known
    return _mirror_rows(batch, frames) if frames.any() else batch


def _mirror_rows(batch: HandBatch, chosen: Bool[Tensor, "b"]) -> HandBatch:
    rows = torch.arange(len(batch), device=chosen.device)
    both = HandBatch.cat([batch, mirror(batch)])[rows + len(batch) * chosen]
    return replace(both, left_out=batch.left_out, no_hand=batch.no_hand)


def _show_left(batch: HandBatch, chosen: Bool[Tensor, "b"]) -> HandBatch:
    """The batch with the chosen crops mirrored, each then a left hand without labels in 3D: a right hand's mesh has
    nothing to learn from it."""
    chosen = chosen.to(batch.targets.joints_2d.device)
    batch = _mirror_rows(batch, chosen)
    hidden = labels.hide(batch.targets, HAND_MASKS, chosen)
    return replace(batch, targets=replace(batch.targets, shows_left=chosen, **hidden))


def _swap_background(batch: HandBatch, config: Augmentation, rng: Draws) -> HandBatch:
    """Paint another background behind some of the hands whose mask is known; depth and normals there are no longer."""
    targets, image = batch.targets, batch.inputs.image
    chosen = rng.uniform() < config.background
    if targets.mask is None:
        return batch
    chosen &= targets.mask_valid.cpu() & targets.mask.flatten(1).any(1).cpu()
    rows = chosen.nonzero()[:, 0].tolist()
    if not rows:
        return batch
    image, kept = image.clone(), _foreground(targets)
    behind = chosen.to(image.device)[:, None, None] & ~kept
    options = VirtualConfig(backgrounds=config.backgrounds)
    for row in rows:
        mask, front = targets.mask[row].to(image.dtype), kept[row].to(image.dtype)
        skin = (image[row] * mask).sum((1, 2)) / mask.sum()
        painter = np.random.default_rng([*(s & 0xFFFFFFFFFFFFFFFF for s in rng.seed), rng.rows.start + row])
        picture = paint(painter, options, skin.cpu().numpy(), image.shape[-1])
        picture = torch.from_numpy(np.ascontiguousarray(picture)).to(image).permute(2, 0, 1)
        soft = F.avg_pool2d(front[None, None], 3, 1, 1, count_include_pad=False)[0, 0]  # no cut-out looks: half a pixel
        image[row] = torch.lerp(picture, image[row], soft * front + 0.5 * soft * (1 - front))
    inputs = replace(batch.inputs, image=image)
    if inputs.depth is not None:
        inputs = replace(inputs, depth=inputs.depth.masked_fill(behind[:, None], 0.0))
    if targets.depth is not None:
        targets = replace(targets, depth=targets.depth.masked_fill(behind, 0.0))
    if targets.normals is not None:
        targets = replace(targets, normals=targets.normals.masked_fill(behind[:, None], 0.0))
    return replace(batch, inputs=inputs, targets=targets)


def _foreground(targets: HandTargets) -> Bool[Tensor, "b h w"]:
    """What is not background, as far as the labels know: by the parts, else by the rendered depth, else the mask."""
    known = targets.mask
    if targets.depth is not None:
        hand = targets.depth * targets.mask
        near = (targets.depth > 0) & (targets.depth < hand.amax((1, 2), keepdim=True) + SCENE_DEPTH_M)
        known = known | near & targets.depth_valid[:, None, None]
    if targets.parts is not None:
        known = torch.where(targets.parts_valid[:, None, None], targets.parts != BACKGROUND, known)
    return known


def _move_boxes(
    boxes: Float[Tensor, "b n 4"], new_from_old: Float[Tensor, "b 2 3"], size: int
) -> tuple[Float[Tensor, "b n 4"], Float[Tensor, "b n"]]:
    """The upright boxes round the moved ones, cut off at the frame, and the share of each that is left of it."""
    corners = boxes[..., [0, 1, 2, 1, 0, 3, 2, 3]].unflatten(-1, (4, 2))  # b n 4 2
    corners = apply_affine(corners.flatten(1, 2), new_from_old).unflatten(1, (-1, 4))
    moved = torch.cat([corners.amin(-2), corners.amax(-2)], -1)
    cut = moved.clamp(0, size)
    area = [(v[..., 2:] - v[..., :2]).clamp_min(0).prod(-1) for v in (cut, moved)]
    return cut, area[0] / area[1].clamp_min(1e-6)


def _draw_motion(size: int, config: Augmentation, rng: Draws) -> tuple[Tensor, Tensor]:
    """Angle (radians) and new_from_old (px) of each sample."""
    limit = config.rotation_max
    degrees = (rng.normal() * config.rotation).clamp(-limit, limit)
    angle = torch.where(rng.uniform() < config.rotation_off, 0.0, degrees).deg2rad()
    zoom = (rng.normal() * config.scale).clamp(-config.scale_max, config.scale_max) + 1
    shift = (rng.uniform(2) * 2 - 1) * config.translation * size
    old_from_new = crop_affine(size / 2 + shift, size / zoom, size, angle)
    return angle, invert_affine(old_from_new)


def _grid(old_from_new: Float[Tensor, "b 2 3"], size: int) -> Tensor:
    """Where each new pixel's centre lies in the old crop, in grid_sample's [-1, 1] from edge to edge."""
    centres = torch.arange(size, dtype=old_from_new.dtype, device=old_from_new.device) + 0.5
    across = old_from_new[:, None, :, 0] * centres[:, None]  # b, column, (x, y)
    down = old_from_new[:, None, :, 1] * centres[:, None] + old_from_new[:, None, :, 2]  # b, row, (x, y)
    return across[:, None] * (2 / size) + (down[:, :, None] * (2 / size) - 1)


def _sample_image(
    image: Float[Tensor, "b c h w"], grid: Float[Tensor, "b h w 2"], border: Float[Tensor, "b c"]
) -> Tensor:
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if not (border >= 0).any():
        return moved
    outside = ((grid.abs() > 1).any(-1) & (border[:, :1, None] >= 0))[:, None]
    return torch.where(outside, border[:, :, None, None].to(moved.dtype), moved)


def _sample_labels(values: Float[Tensor, "b c h w"], grid: Float[Tensor, "b h w 2"]) -> Tensor:
    """Nearest neighbour: a depth or a mask between two surfaces belongs to neither."""
    return F.grid_sample(values, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _turn_about_z(angle: Float[Tensor, "b"]) -> Tensor:
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rows = [
        torch.stack([cos, -sin, zero], -1),
        torch.stack([sin, cos, zero], -1),
        torch.stack([zero, zero, zero + 1], -1),
    ]
    return torch.stack(rows, -2)


def _occlude(batch: HandBatch, config: Augmentation, rng: Draws) -> HandBatch:
    """Cover a rectangle of some samples; joints under it are hidden, mask and depth end there."""
    image, targets = batch.inputs.image, batch.targets
    size = image.shape[-1]
    chosen = rng.uniform() < config.occlusion
    extent = (0.25 + 0.75 * rng.uniform(2)) * config.occlusion_max * size
    low = rng.uniform(2) * size - extent / 2
    colour = rng.uniform(3)
    if not chosen.any():
        return batch
    chosen, low, high, colour = (t.to(image.device) for t in (chosen, low, low + extent, colour))
    centres = torch.arange(size, device=image.device) + 0.5
    within = (centres >= low[..., None]) & (centres < high[..., None])  # b, (x, y), px
    under = within[:, 1, :, None] & within[:, 0, None, :] & chosen[:, None, None]
    inputs = replace(batch.inputs, image=torch.where(under[:, None], colour[:, :, None, None], image))
    if inputs.depth is not None:
        inputs = replace(inputs, depth=inputs.depth.masked_fill(under[:, None], 0.0))
    covered = None
    if (points := targets.joints_2d) is not None:
        covered = ((points >= low[:, None]) & (points < high[:, None])).all(-1) & chosen[:, None]
    return replace(batch, inputs=inputs, targets=replace(targets, **labels.cover(targets, under, covered)))


def _recolour(image: Float[Tensor, "b c h w"], config: Augmentation, rng: Draws) -> Tensor:
    """Colour, sharpness and noise, in the order in which a camera does them."""
    draw = rng.uniform
    gain = 1 + (draw(3) * 2 - 1) * config.channel_gain
    contrast = 1 + (draw(1) * 2 - 1) * config.contrast
    offset = (draw(1) * 2 - 1) * config.brightness
    chosen = {k: draw() < getattr(config, k) for k in ("blur", "noise", "low_resolution")}
    blur, grain, shrink = draw() * config.blur_max, draw() * config.noise_max, (draw() * 3).long() + 2
    to = lambda t: t.to(image.device)  # noqa: E731
    if chosen["blur"].any():
        image = _where(image, to(chosen["blur"]), lambda x, c: _gaussian_blur(x, to(blur)[c]))
    for factor in (2, 3, 4):
        if (pick := chosen["low_resolution"] & (shrink == factor)).any():
            image = _where(image, to(pick), lambda x, c, f=factor: _shrink(x, f))
    # gain * (contrast * (x - mean) + mean) + offset, as one multiply-add over the pixels
    mean = image.mean((1, 2, 3)).view(-1, 1)
    slope, shift = to(gain * contrast), to(gain * (1 - contrast)) * mean + to(offset)
    image = torch.addcmul(shift[..., None, None], image, slope[..., None, None])
    if chosen["noise"].any():
        image = image.clone()
        for row in chosen["noise"].nonzero()[:, 0].tolist():
            values = torch.empty_like(image[row]).normal_(generator=rng.of_row(row, 1, image.device))
            image[row] += values * float(grain[row])
    return image.clamp_(0, 1)


def _where(image: Float[Tensor, "b c h w"], chosen: Bool[Tensor, "b"], change: Any) -> Tensor:
    """The image with `change(rows, chosen)` in place of the chosen rows."""
    return image.index_copy(0, chosen.nonzero()[:, 0], change(image[chosen], chosen))


def _gaussian_blur(image: Float[Tensor, "b c h w"], sigma: Float[Tensor, "b"], radius: int = 5) -> Tensor:
    b, c, h, w = image.shape
    taps = torch.arange(-radius, radius + 1, device=image.device)
    kernel = torch.softmax(-0.5 * (taps / sigma.clamp_min(0.05)[:, None]) ** 2, -1).repeat_interleave(c, 0)
    x = F.pad(image.reshape(1, b * c, h, w), [radius] * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, None, None, :], groups=b * c)
    return F.conv2d(x, kernel[:, None, :, None], groups=b * c).view(b, c, h, w)


def _shrink(image: Float[Tensor, "b c h w"], factor: int) -> Tensor:
    small = F.interpolate(image, scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=image.shape[-2:], mode="bilinear", align_corners=False)
