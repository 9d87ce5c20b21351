"""Contact sheets: samples side by side, with or without their skeletons."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from ..contracts import HandBatch
from ..render.overlay import draw_skeleton


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


def write(path: str, picture: UInt8[np.ndarray, "h w 3"], quality: int = 80) -> None:
    """Save an RGB picture; the suffix decides the format, `quality` is JPEG's.

    Raises:
        OSError: the picture could not be written.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.lower().endswith((".jpg", ".jpeg")) else []
    if not cv2.imwrite(path, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options):
        raise OSError(f"could not write {path}")
