"""Inputs of the benchmarks: a virtual hand in motion before one camera, as a photo or a video file with labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from mesh_graphormer_hand.contracts import HandBatch
from mesh_graphormer_hand.inference.media.video_io import VideoWriter
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.hand import Hand
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.sequences import VirtualSequences

RATE = 30.0  # frames a second
WIDTH, HEIGHT = 640, 480  # px of the photo
FILL = [0.45, 0.6]  # of the picture's side, by the hand's path


def load_hand() -> Hand:
    """The hand that comes with the package."""
    return hands.load("open")


def photo(index: int = 0) -> UInt8[np.ndarray, "480 640 3"]:
    """The first picture of a sequence, its sides drawn out to a camera's format."""
    picture = _pictures(moving_hand(index, 1, HEIGHT))[0]
    left = (WIDTH - HEIGHT) // 2
    return cv2.copyMakeBorder(picture, 0, 0, left, WIDTH - HEIGHT - left, cv2.BORDER_REPLICATE)


def sequence(folder: Path, frames: int, size: int, index: int = 3) -> tuple[Path, dict[str, np.ndarray]]:
    """A square video of `size` px in `folder`, made if it is not there, and its labels: K (px), joints (m, relative to
    the wrist), wrist (m), joints_2d (px)."""
    name = f"sequence{index}_{size}px_{frames}"
    video, labels = folder / f"{name}.mp4", folder / f"{name}.npz"
    if not (video.is_file() and labels.is_file()):
        batch = moving_hand(index, frames, size)
        film = VideoWriter(video, RATE)
        for picture in _pictures(batch):
            film.add(picture)
        film.close()
        t = batch.targets
        np.savez(labels, K=batch.inputs.intrinsics[0], joints=t.joints, wrist=t.root, joints_2d=t.joints_2d)
    with np.load(labels) as stored:
        return video, dict(stored)


def moving_hand(index: int, frames: int, size: int) -> HandBatch:
    """The pictures of one virtual sequence, `size` px, in order."""
    config = VirtualConfig(split="test", fill=FILL)
    return VirtualSequences(config, load_hand(), frames, RATE).render(index, image_size=size)


def _pictures(batch: HandBatch) -> UInt8[np.ndarray, "n h w 3"]:
    return (batch.inputs.image.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
