"""Labels of a rendered sample beyond its mesh: visible joints, how much of each is visible, parts, normals, appearance.

Labels named in config.EXTRA_LABELS are made on request only, since they cost time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..contracts import SEGMENTATION_CLASSES
from ..mano.hand import Hand
from ..render.shading import Topology, vertex_normals
from ..skeleton import NUM_VERTICES, PERMUTATIONS
from .imaging.shading import GBuffer
from .parameters import Parameters

# m behind the visible surface at which a joint still counts as seen: its depth under the skin and some more
JOINT_DEPTHS_M = torch.tensor([0.038, *(0.034, 0.025, 0.021, 0.020), *(0.026, 0.020, 0.018, 0.018) * 4])
MIN_FACING_COSINE = 0.25  # cosine from which skin faces the camera: less is an outline's, where one pixel decides
SKIN_SLACK_M = 0.006  # m between skin and what is drawn in its pixel: the drawn mesh is finer, pixels are wide


def visible(
    labels: dict[str, Tensor], depth: Float[Tensor, "b h w"], occluded: Bool[Tensor, "b h w"]
) -> Bool[Tensor, "b 21"]:
    """Joints inside the crop with nothing drawn between their own skin and the camera."""
    inside, seen, hidden = _look_up(labels["joints_2d"], depth, occluded)
    z = (labels["joints"] + labels["root"][:, None])[..., 2]
    behind = (seen > 0) & (z - seen > JOINT_DEPTHS_M.to(depth.device))
    return inside & ~behind & ~hidden


def extra(
    names: tuple[str, ...],
    hand: Hand,
    p: Parameters,
    labels: dict[str, Tensor],
    pinhole: Float[Tensor, "b 4"],
    drawn: GBuffer,
    occluded: Bool[Tensor, "b h w"],
) -> dict[str, Any]:
    """Fields of HandTargets for `names`, some of config.EXTRA_LABELS."""
    known = torch.ones(len(pinhole), dtype=torch.bool, device=pinhole.device)
    made: dict[str, Any] = {}
    if "parts" in names:
        made |= {"parts": parts(drawn.part, occluded), "parts_valid": known}
    if "normals" in names:
        normals = drawn.normal.permute(0, 3, 1, 2).contiguous()
        rows = occluded.flatten(1).any(1).nonzero()[:, 0]  # few
        normals[rows] *= ~occluded[rows, None]
        made |= {"normals": normals, "normals_valid": known}
    if "joint_visibility" in names:
        visibility = joint_visibility(hand, labels, pinhole, drawn.depth, occluded)
        made |= {"joint_visibility": visibility, "joint_visibility_valid": known}
    if "appearance" in names:
        made |= appearance(p, pinhole.device) | {"appearance_valid": known}
    return made


def parts(drawn: Int64[Tensor, "b h w"], occluded: Bool[Tensor, "b h w"]) -> Tensor:
    """Positions in SEGMENTATION_CLASSES, bytes, from the drawn parts (-1 where none is) and what an occluder covers."""
    background, in_front = (SEGMENTATION_CLASSES.index(name) for name in ("background", "in front"))
    return drawn.clamp(min=background).to(torch.uint8).masked_fill_(occluded, in_front)


def joint_visibility(
    hand: Hand,
    labels: dict[str, Tensor],
    pinhole: Float[Tensor, "b 4"],
    depth: Float[Tensor, "b h w"],
    occluded: Bool[Tensor, "b h w"],
) -> Float[Tensor, "b 21"]:
    """Of each joint's own skin that faces the camera, the share that is in sight; 0 where none faces it."""
    topology, patches = _patches(hand)
    points = labels["vertices"] + labels["root"][:, None]
    normals = vertex_normals(points, topology.to(points.device))
    facing = -(normals * points).sum(-1) > MIN_FACING_COSINE * points.norm(dim=-1)
    pixels = points[..., :2] / points[..., 2:] * pinhole[:, None, :2] + pinhole[:, None, 2:]
    inside, seen, hidden = _look_up(pixels, depth, occluded)
    clear = inside & ~hidden & ((seen == 0) | (points[..., 2] - seen < SKIN_SLACK_M))
    patches = patches.to(points.device)
    counts = torch.stack([facing & clear, facing]).to(points.dtype) @ patches  # 2 b 21
    return counts[0] / counts[1].clamp_min(1)


def appearance(p: Parameters, device: torch.device) -> dict[str, Tensor]:
    """Skin tone and light as the renderer had them."""
    arrays = {
        "skin_tone": p.skin.tone,
        "light_sh": p.light.harmonics,
        "light_direction": p.light.direction,
        "light_colour": p.light.colour,
    }
    return {name: torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(device) for name, a in arrays.items()}


def _look_up(
    pixels: Float[Tensor, "b n 2"], depth: Float[Tensor, "b h w"], occluded: Bool[Tensor, "b h w"]
) -> tuple[Bool[Tensor, "b n"], Float[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """For places in px: whether they lie in the picture, the depth there, whether something covers it."""
    b, height, width = depth.shape
    column, row = pixels.floor().long().unbind(-1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    place = (row.clamp(0, height - 1) * width + column.clamp(0, width - 1)) + (
        torch.arange(b, device=depth.device)[:, None] * height * width
    )
    return inside, depth.reshape(-1)[place], occluded.reshape(-1)[place]


@lru_cache(maxsize=4)
def _patches(hand: Hand) -> tuple[Topology, Float[Tensor, "778 21"]]:
    """The hand's faces, and which joint each vertex is nearest to at rest (one-hot)."""
    joints = np.concatenate([hand.joint_regressor @ hand.v_template, hand.v_template[list(hand.tip_vertices)]])
    joints = joints[list(PERMUTATIONS["mano"])]
    nearest = np.linalg.norm(hand.v_template[:, None] - joints, axis=-1).argmin(1)
    one_hot = torch.from_numpy(np.eye(21, dtype=np.float32)[nearest])
    return Topology.build(torch.from_numpy(hand.faces), NUM_VERTICES), one_hot
