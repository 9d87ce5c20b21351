"""Contact sheets: samples side by side, with or without their skeletons, or each with all of its labels."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from ..contracts import SEGMENTATION_CLASSES, HandBatch
from ..render.overlay import draw_skeleton

OUTLINE_COLOUR, HIDDEN_COLOUR = (60, 220, 120), (255, 255, 255)
SHADE_RANGE_M = 0.15  # m before and behind the wrist, from white to black
PART_COLOURS = {
    "background": (0, 0, 0),
    "hand": (235, 160, 120),
    "forearm": (200, 110, 90),
    "sleeve": (70, 110, 190),
    "object": (240, 210, 70),
    "worn": (180, 80, 200),
    "other hand": (90, 200, 190),
    "in front": (120, 120, 120),
    "body": (60, 90, 60),
}
PALETTE = np.array([PART_COLOURS[name] for name in SEGMENTATION_CLASSES], np.uint8)


def sheet(batch: HandBatch, columns: int = 8, skeletons: str = "half") -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture of the batch's crops in rows of `columns`.

    Args:
        batch: samples with images, and 2D joints where skeletons are drawn.
        columns: crops a row.
        skeletons: "none", "half" (every second crop) or "all".
    """
    images = (batch.inputs.image * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    tiles = []
    for k, image in enumerate(images):
        tile = np.ascontiguousarray(image)
        if skeletons == "all" or (skeletons == "half" and k % 2):
            tile = draw_skeleton(tile, batch.targets.joints_2d[k].cpu().numpy())
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    return np.vstack(rows)


def labelled(batch: HandBatch, columns: int = 2) -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture with `columns` samples a row, each as picture, skeleton (joints out of sight hollow) with the mask's
    outline, and as many of parts, normals and depth as the batch has."""
    rows = [np.hstack(_label_tiles(batch, k)) for k in range(len(batch))]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % columns)
    return np.vstack([np.hstack(rows[k : k + columns]) for k in range(0, len(rows), columns)])


def _label_tiles(batch: HandBatch, k: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    t = batch.targets
    picture = np.ascontiguousarray((batch.inputs.image[k] * 255).round().byte().permute(1, 2, 0).cpu().numpy())
    joints, seen = t.joints_2d[k].cpu().numpy(), t.joints_visible[k].cpu().numpy()
    drawn = draw_skeleton(picture.copy(), joints)
    outlines = cv2.findContours(t.mask[k].cpu().numpy().astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(drawn, outlines, -1, OUTLINE_COLOUR, 1)
    for x, y in np.clip(joints[~seen], -1e4, 1e4):
        cv2.circle(drawn, (int(x), int(y)), max(2, len(picture) // 90), HIDDEN_COLOUR, 1, cv2.LINE_AA)
    tiles = [picture, drawn]
    if t.parts is not None:
        tiles.append(PALETTE[t.parts[k].cpu().numpy()])
    if t.normals is not None:
        normals = t.normals[k].permute(1, 2, 0).cpu().numpy()
        tiles.append(np.round(127 * (normals * [1, -1, -1] + 1)).astype(np.uint8) * normals.any(-1, keepdims=True))
    if t.depth is not None:
        depth = t.depth[k].cpu().numpy()
        z = float(t.root[k, 2])
        shade = np.clip(1 - (depth - z + SHADE_RANGE_M) / (2 * SHADE_RANGE_M), 0.05, 1) * (depth > 0)
        tiles.append(np.repeat(np.round(255 * shade).astype(np.uint8)[..., None], 3, 2))
    return tiles


def write(path: str, picture: UInt8[np.ndarray, "h w 3"], quality: int = 80) -> None:
    """Save an RGB picture; the suffix decides the format, `quality` is JPEG's.

    Raises:
        OSError: the picture could not be written.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.lower().endswith((".jpg", ".jpeg")) else []
    if not cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options):
        raise OSError(f"could not write {path}")
