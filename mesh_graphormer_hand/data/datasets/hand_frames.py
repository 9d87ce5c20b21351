"""Whole photos with a box round every hand, for the hand detector: your own photos, open photo sets, frames that
`hand-generate --kind frames` wrote. `data/readers/boxed_photos.py` says which label files are read.

    root/SET/frames.json | keypoints.json | annotations/*.json      root/BACKGROUNDS/*.jpg: photos without hands

The training split never ends: each frame is one photo or a mosaic of four. A photo is shown as it is (`whole`), or
zoomed so that one of its hands, anywhere in the frame, has a size that is drawn log-uniformly from `smallest` px to all
of it; what it does not cover shows a background. Cells without a hand (`empty`) show a background, or a part of a photo
in which no hand is: faces, arms, rooms. Of a photo whose hands may not all be known, what is not near a known one is
neither hand nor background. `distractors` is a folder of small pictures of what the detector takes for hands (faces,
feet, tools): a share of the cells shows up to three of them, clear of the hands.

`test` (and `val`) is the last photos of each set by the order of its file, as many as `hold_out` says, whole, and as
many backgrounds; training never sees those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from ...config import nearest
from ...contracts import HandBatch, HandInputs, HandTargets
from ...mano.hand import Hand
from ..base import ENDLESS, HandDataset
from ..images import DataError, read_image, to_tensor
from ..readers.boxed_photos import BOX_SOURCES, BoxedPhoto, pictures, read_set, without_hands
from ..transforms import UNSURE_RATIO, WANTED_RATIO

MAX_BOXES = 12  # boxes of a frame; a photo that would bring more is left out
MAX_ZOOM = 2.5  # of a photo's pixels
WHOLE_PHOTO_RATIOS = (0.8, 1.5)  # longer side of a photo that is shown as it is, of its cell's
MIN_BOX_SIDE_PX = 10.0  # px: what is smaller is neither hand nor background
PLAIN_BACKDROP_RATIO = 0.2  # share of backdrops of one colour
MAX_WINDOWS = 8  # windows tried for one without a hand
MAX_DISTRACTORS = 3  # of a cell
LARGEST_DISTRACTOR_RATIO = 0.7  # longer side, of its cell's shorter one
Cell = tuple[int, int, int, int]  # x0, y0, x1, y1, px of the frame


@dataclass
class Config:
    root: str = ""  # the folder of the photo sets
    sets: list[str] = field(default_factory=list)  # photo sets: folders in root, or anywhere
    shares: list[float] = field(default_factory=list)  # of each set; empty: equal ones
    hold_out: list[int] = field(default_factory=list)  # last photos of each set that only the test has; empty: none
    backgrounds: str = ""  # folder (in root, or anywhere) of photos without hands; empty: none
    hold_out_backgrounds: int = 0  # the last of those by name
    boxes: str = "keypoints"  # of hands with both: keypoints (grown by flesh) | drawn (by people)
    distractors: str = ""  # folder (in root, or anywhere) of pictures of what is no hand; empty: none
    distracted: float = 0.3  # share of cells that show some of them
    empty: float = 0.2  # share of cells without hands
    mosaic: float = 0.35  # share of frames that are four cells
    whole: float = 0.35  # share of the photos that are shown as they are, more or less
    smallest: float = 20.0  # px, of the hand that a cell is zoomed to
    seed: int = 0


class HandFrames(HandDataset):
    """Frames by index."""

    def __init__(self, config: Config, split: str, image_size: int) -> None:
        self.config, self.image_size = config, image_size
        sets = {name: read_set(_folder(config, name), config.boxes) for name in config.sets}
        empty = pictures(_folder(config, config.backgrounds)) if config.backgrounds else []
        last = config.hold_out or [0] * len(sets)
        cut = [max(len(photos) - count, 0) for photos, count in zip(sets.values(), last, strict=True)]
        self.held = {name: sets[name][k:] for name, k in zip(sets, cut, strict=True)}  # of the test, by set
        self.sets = [sets[name][:k] for name, k in zip(sets, cut, strict=True)]
        first = max(len(empty) - config.hold_out_backgrounds, 0)
        self.held |= {config.backgrounds: [without_hands(path) for path in empty[first:]]} if empty[first:] else {}
        self._test = [photo for photos in self.held.values() for photo in photos]
        self.empty = empty[:first]
        self.distractors = pictures(_folder(config, config.distractors)) if config.distractors else []
        shares = np.array(config.shares or [1.0] * len(sets)) * [bool(photos) for photos in self.sets]
        self.training = split == "train"
        if self.training and not shares.sum() > 0:
            raise DataError("data set hand_frames: hold_out leaves no photo with a share to train on")
        self.shares = shares / max(shares.sum(), 1e-9)

    def __len__(self) -> int:
        return ENDLESS if self.training else len(self._test)

    def load(self, indices: list[int], device: str | torch.device = "cpu") -> HandBatch:
        """See `HandDataset`.

        Raises:
            DataError: a photo that cannot be read, or labels that it cannot have.
        """
        made = [self._drawn(i) if self.training else self._whole(i) for i in indices]
        return HandBatch.stack([frame.sample() for frame in made]).to(device)

    def _whole(self, index: int) -> Frame:
        """A held-out photo, in the frame's upper left corner."""
        held, frame = self._test[index], Frame(self.image_size, f"hand_frames/{index}")
        photo = held.read()
        frame.paste((0, 0, self.image_size, self.image_size), photo, held, self.image_size / max(photo.shape), (0, 0))
        return frame

    def _drawn(self, index: int) -> Frame:
        """Frame number `index` of the training split."""
        rng, size = np.random.default_rng([self.config.seed, index]), self.image_size
        frame = Frame(size, f"hand_frames/{index:08d}")
        cells = [(0, 0, size, size)]
        if rng.random() < self.config.mosaic:
            x, y = rng.uniform(0.35, 0.65, 2) * size // 1
            cells = [(0, 0, x, y), (x, 0, size, y), (0, y, x, size), (x, y, size, size)]
        for x0, y0, x1, y1 in cells:
            cell = (int(x0), int(y0), int(x1), int(y1))
            self._cell(rng, frame, cell)
            if self.distractors and rng.random() < self.config.distracted:
                self._distract(rng, frame, cell)
        return frame

    def _cell(self, rng: np.random.Generator, frame: Frame, cell: Cell) -> None:
        self._backdrop(rng, frame, cell)
        photos = self.sets[int(rng.choice(len(self.sets), p=self.shares))]
        labels = photos[int(rng.integers(len(photos)))]
        if rng.random() < self.config.empty:
            if labels.complete and rng.random() < 0.5:
                self._away(rng, frame, cell, labels)
            return
        if frame.count + len(labels.boxes) >= MAX_BOXES:
            return
        photo, extent = labels.read(), np.array([cell[2] - cell[0], cell[3] - cell[1]], float)
        if len(labels.boxes) and rng.random() >= self.config.whole:
            box = labels.boxes[int(rng.integers(len(labels.boxes)))]
            hand, centre = float((box[2:] - box[:2]).max()), (box[:2] + box[2:]) / 2
            wanted = float(np.exp(rng.uniform(np.log(self.config.smallest), np.log(extent.min()))))
            scale = min(wanted / hand, MAX_ZOOM)
        else:
            scale = float(extent.max() / max(photo.shape) * rng.uniform(*WHOLE_PHOTO_RATIOS))
            centre = np.array(photo.shape[1::-1]) / 2
        # anywhere, such that the photo covers the cell or lies in it, and the hand's centre is inside
        covers, middle = extent - scale * np.array(photo.shape[1::-1]), scale * centre
        low = np.maximum(np.minimum(covers, 0), -middle)
        high = np.minimum(np.maximum(covers, 0), extent - middle)
        frame.paste(cell, photo, labels, scale, tuple(rng.uniform(low, np.maximum(low, high)).tolist()))

    def _distract(self, rng: np.random.Generator, frame: Frame, cell: Cell) -> None:
        """Some distractors, of any size from the smallest hand's on; one that would touch a hand is left out."""
        extent = np.array([cell[2] - cell[0], cell[3] - cell[1]])
        largest = max(LARGEST_DISTRACTOR_RATIO * extent.min(), self.config.smallest)
        for _ in range(rng.integers(1, MAX_DISTRACTORS + 1)):
            picture = read_image(self.distractors[int(rng.integers(len(self.distractors)))])
            wanted = np.exp(rng.uniform(np.log(self.config.smallest), np.log(largest)))
            scale = float(wanted / max(picture.shape))
            size = scale * np.array(picture.shape[1::-1])
            at = rng.uniform(0, np.maximum(extent - size, 0) + 1)
            corner = at + cell[:2]
            hands = frame.boxes[: frame.count][~frame.unsure[: frame.count]]
            if ((hands[:, :2] > corner + size) | (hands[:, 2:] < corner)).any(1).all():
                frame.paste(cell, picture, None, scale, tuple(at.tolist()))

    def _backdrop(self, rng: np.random.Generator, frame: Frame, cell: Cell) -> None:
        """A part of a background, or one colour."""
        width, height = cell[2] - cell[0], cell[3] - cell[1]
        if not self.empty or rng.random() < PLAIN_BACKDROP_RATIO:
            frame.image[cell[1] : cell[3], cell[0] : cell[2]] = rng.integers(0, 256, 3 if rng.random() < 0.5 else 1)
            return
        photo = read_image(self.empty[int(rng.integers(len(self.empty)))])
        scale = max(width / photo.shape[1], height / photo.shape[0]) / rng.uniform(0.35, 1)
        room = np.array([width, height]) - scale * np.array(photo.shape[1::-1])
        frame.paste(cell, photo, None, float(scale), tuple((room * rng.random(2)).tolist()))

    def _away(self, rng: np.random.Generator, frame: Frame, cell: Cell, labels: BoxedPhoto) -> None:
        """A part of a photo in which no hand is; nothing where none is found."""
        photo = labels.read()
        shape, extent = np.array(photo.shape[1::-1]), np.array([cell[2] - cell[0], cell[3] - cell[1]])
        for _ in range(MAX_WINDOWS):
            window = extent / extent.max() * min(shape / extent * extent.max()) * rng.uniform(0.3, 0.8)
            corner = rng.uniform(0, shape - window)
            clear = (labels.boxes[:, :2] > corner + window) | (labels.boxes[:, 2:] < corner)
            if clear.any(1).all():
                scale = float((extent / window).max())
                frame.paste(cell, photo, None, scale, tuple((-scale * corner).tolist()))
                return


class Frame:
    """A picture that is being put together, and the boxes in it."""

    def __init__(self, size: int, key: str) -> None:
        self.image: UInt8[np.ndarray, "h w 3"] = np.full((size, size, 3), 127, np.uint8)
        self.key, self.count = key, 0
        self.boxes = np.zeros((MAX_BOXES, 4), np.float32)
        self.unsure, self.left, self.left_valid = (np.zeros(MAX_BOXES, bool) for _ in range(3))

    def paste(
        self,
        cell: Cell,
        photo: UInt8[np.ndarray, "h w 3"],
        labels: BoxedPhoto | None,
        scale: float,
        at: tuple[float, float] | tuple[int, int],
    ) -> None:
        """Lay a photo, `scale` frame px per px, into a cell, its corner `at` px from the cell's, and
        note its hands; `labels` None: it has none."""
        cell_image = self.image[cell[1] : cell[3], cell[0] : cell[2]]
        width, height = cell_image.shape[1], cell_image.shape[0]
        x, y = (round(v) for v in at)
        size = [max(round(s * scale), 1) for s in photo.shape[1::-1]]
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + size[0], width), min(y + size[1], height)
        if x1 <= x0 or y1 <= y0:
            return
        ratio = np.array(size) / photo.shape[1::-1]
        if scale < 1:
            small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            cell_image[y0:y1, x0:x1] = small[y0 - y : y1 - y, x0 - x : x1 - x]
        else:
            shift = (np.array([x, y]) - [x0, y0]) + ratio / 2 - 0.5  # OpenCV measures from the first pixel's centre
            matrix = np.array([[ratio[0], 0, shift[0]], [0, ratio[1], shift[1]]])
            part = cv2.warpAffine(photo, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
            cell_image[y0:y1, x0:x1] = part
        if labels is not None:
            window = np.array([x0 + cell[0], y0 + cell[1], x1 + cell[0], y1 + cell[1]], float)
            self._note(labels, np.tile(ratio, 2), np.array([x + cell[0], y + cell[1]] * 2), window)

    def _note(
        self,
        labels: BoxedPhoto,
        ratio: Float[np.ndarray, "4"],
        corner: np.ndarray,
        window: Float[np.ndarray, "4"],
    ) -> None:
        boxes = labels.boxes * ratio + corner
        cut = np.concatenate([np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])], 1)
        area = [np.clip(v[:, 2:] - v[:, :2], 0, None).prod(1) for v in (cut, boxes)]
        kept_ratio = area[0] / np.maximum(area[1], 1e-6)
        for k in np.flatnonzero(kept_ratio > UNSURE_RATIO):
            small = (cut[k, 2:] - cut[k, :2]).max() < MIN_BOX_SIDE_PX
            self._add(
                cut[k], bool(small or kept_ratio[k] <= WANTED_RATIO), bool(labels.left[k]), bool(labels.left_valid[k])
            )
        if not labels.complete:
            self._add(window, True, False, False)

    def _add(self, box: np.ndarray, unsure: bool, left: bool, left_valid: bool) -> None:
        if self.count < MAX_BOXES:
            self.boxes[self.count], self.unsure[self.count] = box, unsure
            self.left[self.count], self.left_valid[self.count] = left & left_valid, left_valid
            self.count += 1

    def sample(self) -> HandBatch:
        """The frame as the loader wants it, without a batch dimension."""
        targets = HandTargets(
            boxes=torch.from_numpy(self.boxes),
            boxes_valid=torch.arange(MAX_BOXES) < self.count,
            boxes_unsure=torch.from_numpy(self.unsure),
            boxes_left=torch.from_numpy(self.left),
            boxes_left_valid=torch.from_numpy(self.left_valid),
            boxes_known=torch.tensor(True),
            crop_size=torch.tensor(float(len(self.image))),
        )
        return HandBatch(HandInputs(image=to_tensor(self.image)), targets, [self.key])


def _folder(config: Config, name: str) -> Path:
    """A photo set's folder: an absolute path, or one in the root."""
    return Path(config.root) / name


def build(config: Config, split: str, hand: Hand, image_size: int) -> HandFrames:
    """The data set of one split.

    Raises:
        DataError: no root or folder, options that mean nothing, or labels with a mistake in them.
    """
    check(config)
    return HandFrames(config, split, image_size)


def check(config: Config) -> None:
    """Refuse options that mean nothing.

    Raises:
        DataError: see `build`.
    """
    where = "data set hand_frames"
    if not config.root or not Path(config.root).is_dir():
        raise DataError(f"{where}: `root` {config.root!r} is no folder; give the one that holds the photo sets")
    if not config.sets:
        raise DataError(f"{where}: `sets` is empty; name folders with photos and labels, such as sets: [mine]")
    for name in [*config.sets, *filter(None, [config.backgrounds, config.distractors])]:
        if not _folder(config, name).is_dir():
            raise DataError(f"{where}: there is no folder {_folder(config, name)}")
    for name, values in (("shares", config.shares), ("hold_out", config.hold_out)):
        if values and (len(values) != len(config.sets) or min(values) < 0):
            raise DataError(f"{where}: {name} {values} should be {len(config.sets)} numbers, one a set, none negative")
    if len(set(config.sets)) < len(config.sets) or config.hold_out_backgrounds < 0 or config.smallest < 1:
        raise DataError(f"{where}: sets differ, hold_out_backgrounds is not negative, smallest is 1 or more")
    if config.boxes not in BOX_SOURCES:
        hint = nearest(config.boxes, BOX_SOURCES)
        raise DataError(f"{where}: boxes {config.boxes!r}{hint} should be one of {', '.join(BOX_SOURCES)}")
    if not all(0 <= share <= 1 for share in (config.empty, config.mosaic, config.distracted)):
        raise DataError(f"{where}: empty, mosaic and distracted are probabilities, 0 to 1")
