"""Several calibrated cameras round one moment: the same hand in the same light, seen from elsewhere.

The first view is the sample itself, but for second hands. The world's axes are the first camera's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandBatch
from ..mano.hand import Hand
from .config import VirtualConfig
from .generator import VirtualHands
from .hand.anatomy import Anatomy, turn
from .parameters import Parameters, draw
from .records import repeat
from .rng import generator
from .scene import camera
from .scene.light import Light

FIRST_VIEW = 2**43  # what is behind the other views, and their sensors, have numbers beyond those of all crops
MAX_VIEWS = 8  # views of a moment
APART_DEG = 15.0, 150.0  # degrees between the first view and another
VIEW_TRIES = 6


class VirtualViews:
    """Moments by index.

    Args:
        config: what to draw.
        hand: a right hand.
        views: cameras of a moment, 1 to 8.
        extra: names of config.EXTRA_LABELS to make as well.
    """

    def __init__(self, config: VirtualConfig, hand: Hand, views: int = 2, extra: Sequence[str] = ()) -> None:
        if not 1 <= views <= MAX_VIEWS:
            raise ValueError(f"{views} views of a moment: should be 1 to {MAX_VIEWS}")
        self.config, self.views, self._hands = config, views, VirtualHands(config, hand, extra)

    def __len__(self) -> int:
        return self.config.count

    @torch.no_grad()
    def render(
        self, indices: Sequence[int], device: torch.device | str = "cpu", image_size: int = 224
    ) -> list[HandBatch]:
        """One batch for each view, with all of its own labels; `extrinsics` hold the cameras, camera from world.

        Raises:
            IndexError: an index outside 0 .. config.count - 1.
        """
        if outside := [i for i in indices if not 0 <= i < self.config.count]:
            raise IndexError(f"virtual moments {outside} lie outside 0..{self.config.count - 1}")
        moments = [self._moment(index, torch.device(device), image_size) for index in indices]
        joined = HandBatch.cat(moments)
        return [joined[torch.arange(v, len(joined), self.views)] for v in range(self.views)]

    def _moment(self, index: int, device: torch.device, size: int) -> HandBatch:
        rng = generator(self.config, index, "view")
        p = repeat(draw(self.config, self._hands.anatomy, [index]), self.views)
        world, p = look_round(rng, self.config, self._hands.anatomy, p)
        scenes = [index, *(FIRST_VIEW + index * MAX_VIEWS + v for v in range(1, self.views))]
        keys = [f"virtual/{self.config.split}/{index:06d}/{v}" for v in range(self.views)]
        shadows = bool(rng.random() < self.config.shadow)
        made = self._hands.render_samples(p, scenes, keys, device, size, shadows, scenes)
        extrinsics = torch.from_numpy(world.astype(np.float32)).to(device)
        return dataclasses.replace(made, inputs=dataclasses.replace(made.inputs, extrinsics=extrinsics))


def together(views: Sequence[HandBatch]) -> HandBatch:
    """Views as one batch for models of several cameras: inputs with a view axis, the first view's labels."""
    inputs = [v.inputs for v in views]
    stacked = {
        name: torch.stack([getattr(i, name) for i in inputs], 1)
        for name in ("image", "intrinsics", "extrinsics", "intrinsics_valid")
    }
    valid = torch.ones_like(stacked["intrinsics_valid"])
    return dataclasses.replace(views[0], inputs=dataclasses.replace(inputs[0], **stacked, view_valid=valid))


def look_round(
    rng: np.random.Generator, config: VirtualConfig, anatomy: Anatomy, p: Parameters
) -> tuple[Float[np.ndarray, "b 4 4"], Parameters]:
    """The same hand (equal rows of `p`) before other cameras, but for the first row: camera from world of each."""
    wrist = np.broadcast_to(np.eye(3), (len(p.shape), 1, 3, 3))
    rest_joints = anatomy.pose(np.concatenate([wrist, p.fingers], 1), p.shape)
    old, world = p.camera, np.tile(np.eye(4), (len(rest_joints), 1, 1))
    rotation, root, pinhole = old.rotation.copy(), old.root.copy(), old.pinhole.copy()
    centre = (old.root[0] + rest_joints[0] @ old.rotation[0].T).mean(0)
    for v in range(1, len(rest_joints)):
        turned = _turned(rng, old.rotation[0])
        distance = float(np.exp(rng.uniform(*np.log(config.distance))))
        place = np.array([0.0, 0, distance])
        world[v, :3, :3], world[v, :3, 3] = turned, place - turned @ centre
        rotation[v] = turned @ old.rotation[0]
        root[v] = world[v, :3, :3] @ old.root[0] + world[v, :3, 3]
        seen = rest_joints[v] @ rotation[v].T + root[v]
        pinhole[v] = frame(rng, config, seen[:, :2] / seen[:, 2:])
    moved = dataclasses.replace(old, rotation=rotation, root=root, pinhole=pinhole)
    light = turn_light(p.light, world[:, :3, :3])
    return world, dataclasses.replace(p, camera=moved, light=light)


def frame(rng: np.random.Generator, config: VirtualConfig, uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "4"]:
    """A pinhole (fx, fy, cx, cy in sides of the crop) that frames points at `uv` = (x / z, y / z), as a detector's box
    would, at times off the middle."""
    low, high = uv.min(0), uv.max(0)
    focal = rng.uniform(*config.fill) / max((high - low).max(), 0.05)
    room = np.maximum(1.04 - (high - low) * focal, 0.04) / 2
    principal = 0.5 + room * rng.uniform(-1, 1, 2) * config.offset * rng.random() - focal * (low + high) / 2
    return np.array([focal, focal, *principal])


def _turned(rng: np.random.Generator, rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """A turn of the camera round the hand after which the forearm (the hand's x) does not point at the lens."""
    best = np.eye(3)
    for _ in range(VIEW_TRIES):
        axis = rng.normal(size=3) * [1, 1, 0.4]
        best = turn(axis / np.linalg.norm(axis), np.array(np.radians(rng.uniform(*APART_DEG))))
        if (best @ rotation)[2, 0] > camera.ARM_AT_LENS_COSINE:
            break
    return best


def turn_light(light: Light, rotation: Float[np.ndarray, "b 3 3"]) -> Light:
    """The same light in turned axes: new = rotation old.

    Harmonics of order 1 turn as a vector, those of order 2 as the symmetric matrix of their quadratic form.
    """
    h, ways = light.harmonics, [3, 1, 2]  # x, y, z among the coefficients
    one, two, three = 1.092548, 0.315392, 0.546274
    turned = h.copy()
    turned[:, ways] = rotation @ h[:, ways]
    form = np.empty((*h.shape[::2], 3, 3))  # b, colour
    c = np.moveaxis(h, 1, 0)
    form[..., 0, 0], form[..., 1, 1], form[..., 2, 2] = (
        three * c[8] - two * c[6],
        -three * c[8] - two * c[6],
        2 * two * c[6],
    )
    for (i, j), k in {(0, 1): 4, (1, 2): 5, (0, 2): 7}.items():
        form[..., i, j] = form[..., j, i] = one * c[k] / 2
    form = rotation[:, None] @ form @ rotation[:, None].swapaxes(-1, -2)
    turned[:, 4], turned[:, 5], turned[:, 7] = (2 / one * form[..., i, j] for i, j in ((0, 1), (1, 2), (0, 2)))
    turned[:, 6], turned[:, 8] = form[..., 2, 2] / (2 * two), (form[..., 0, 0] - form[..., 1, 1]) / (2 * three)
    direction = (rotation @ light.direction[..., None])[..., 0]
    return dataclasses.replace(light, harmonics=turned, direction=direction)


def to_world(points: Float[Tensor, "b n 3"], extrinsics: Float[Tensor, "b 4 4"]) -> Float[Tensor, "b n 3"]:
    """Points of a camera (m) in the world's axes."""
    return (points - extrinsics[:, None, :3, 3]) @ extrinsics[:, :3, :3]
