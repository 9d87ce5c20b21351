"""Crops without a hand, for models that tell whether they see one (the loss `presence`): squares of any size from
photographs without hands, and from photographs of people away from their hands, where faces, arms and clothes are.

`backgrounds` are folders of photographs without hands. `sets` are folders with a `frames.json`,

    {"whole/a.jpg": {"hands": [{"keypoints_px": 21 x [x, y]}], "human_boxes": [[x0, y0, x1, y1]] or null}, ...}

of which photos count whose boxes are known (all hands of a photo have one). A square touches no hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...contracts import HandBatch, HandInputs, HandTargets
from ...geometry.crops import crop_affine
from ...mano.hand import Hand
from ...skeleton import NUM_JOINTS
from ..images import DataError, cut_crop, to_tensor
from ..readers.boxed_photos import BoxedPhoto, corner_boxes, frame_entry, keypoints_of, labels_by_photo, without_hands
from ..readers.file_dataset import FileDataset
from ..readers.splits import SplitConfig

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
HAND_MARGIN = 0.15  # of a hand's box, added round it on each side
MIN_SQUARE_PX = 24.0  # px, of a square


@dataclass
class Config(SplitConfig):
    root: str = ""  # the folder that the others lie in
    backgrounds: list[str] = field(default_factory=list)  # folders of photographs without hands
    leave: int = 0  # last photographs of each of them (by name) that are left out, to test on
    sets: list[str] = field(default_factory=list)  # folders of photographs of people, each with a frames.json
    squares: int = 8  # of each photograph
    seed: int = 0
    on_broken: str = "stop"  # stop | skip


class NoHands(FileDataset):
    """`squares` crops of each photograph, the same ones each time."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        super().__init__(config, split, image_size)
        root = Path(config.root)
        self.photos = [p for name in config.backgrounds for p in _backgrounds(root / name, config.leave)]
        self.photos += [p for name in config.sets for p in _people(root / name)]
        if not self.photos:
            raise DataError(f"data set no_hands: no photograph in {root}: name some in `backgrounds` or `sets`")

    def __len__(self) -> int:
        return len(self.photos) * self.config.squares

    def sample(self, index: int) -> HandBatch:
        """One square. A photo that hands fill gives its least bad corner, a square of a few pixels.

        Raises:
            DataError: the photo cannot be read, or has not the boxes that its labels name.
        """
        photo = self.photos[index // self.config.squares]
        image, hands = photo.read(), _grown(photo.boxes)
        centre, side = _square(np.random.default_rng([self.config.seed, index]), image.shape[:2], hands)
        image_from_crop = crop_affine(centre, side, self.image_size)
        targets = HandTargets(
            joints_2d=torch.zeros(NUM_JOINTS, 2),
            joints_2d_valid=torch.zeros(NUM_JOINTS, dtype=torch.bool),
            crop_size=torch.tensor(float(self.image_size)),
            is_left=torch.tensor(False),
            no_hand=torch.tensor(True),
            hand=torch.tensor(0),
        )
        crop = to_tensor(cut_crop(image, image_from_crop, self.image_size))
        return HandBatch(HandInputs(image=crop), targets, [f"{photo.path.name}#{index}"], image_from_crop)


def build(config: Config, split: str, hand: Hand, image_size: int) -> NoHands:
    """The data set; both splits read the same photographs.

    Raises:
        DataError: no photographs, or a frames.json with a mistake in it.
    """
    return NoHands(config, split, image_size)


def _backgrounds(folder: Path, leave: int) -> list[BoxedPhoto]:
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    return [without_hands(p) for p in files[: len(files) - leave]]


def _people(folder: Path) -> list[BoxedPhoto]:
    path, found = folder / "frames.json", []
    for file, value in labels_by_photo(path).items():
        where = f"{path}: {file}"
        entry = frame_entry(value, where)
        if "human_boxes" not in entry:
            raise DataError(f"{where} has no human_boxes; null says that its hands are not all known")
        if (drawn := entry["human_boxes"]) is not None:
            round_points = [np.concatenate([p.min(0), p.max(0)]) for p in keypoints_of(entry.get("hands", []), where)]
            drawn = corner_boxes(drawn, f"{where}: human_boxes")
            boxes = np.concatenate([np.reshape(round_points, (-1, 4)), drawn])
            unknown = np.zeros(len(boxes), bool)
            found.append(BoxedPhoto(folder / file, boxes, unknown, unknown, complete=True))
    return found


def _grown(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Boxes and a margin."""
    boxes = boxes.astype(np.float32)
    margin = (boxes[:, 2:] - boxes[:, :2]) * HAND_MARGIN
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)


def _square(
    rng: np.random.Generator, shape: tuple[int, int], hands: Float[np.ndarray, "n 4"], tries: int = 24
) -> tuple[Tensor, Tensor]:
    """Centre and side of a square clear of the hands: large ones are tried first."""
    height, width = shape
    for k in range(tries):
        largest = max(min(height, width) * (1 - k / tries), MIN_SQUARE_PX)
        side = float(np.exp(rng.uniform(np.log(MIN_SQUARE_PX), np.log(largest))))
        x, y = rng.uniform(0, max(width - side, 0)), rng.uniform(0, max(height - side, 0))
        clear = (hands[:, 0] > x + side) | (hands[:, 2] < x) | (hands[:, 1] > y + side) | (hands[:, 3] < y)
        if clear.all():
            return torch.tensor([x + side / 2, y + side / 2]), torch.tensor(side)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], np.float32)
    middle = np.concatenate([hands[:, :2] + hands[:, 2:]]).mean(0) / 2
    x, y = corners[np.abs(corners - middle).sum(1).argmax()]
    side = MIN_SQUARE_PX / 2
    return torch.tensor([abs(x - side / 2), abs(y - side / 2)]), torch.tensor(side)
