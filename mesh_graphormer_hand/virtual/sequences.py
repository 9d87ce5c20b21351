"""Hands in motion: smooth paths of pose, view and place before one camera, in one light, with every label.

A path goes through poses of the generator with minimum-jerk speed (Flash and Hogan, 1985: how hands do move), each
joint along the shortest turn, opening on the way where fingers would pass through each other. One hand of one person.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.spatial.transform import Rotation

from ..contracts import HandBatch
from ..mano.hand import Hand
from .config import VirtualConfig
from .generator import VirtualHands
from .hand import poses
from .hand.anatomy import Anatomy
from .parameters import Parameters, draw
from .records import repeat
from .rng import generator
from .views import frame

FIRST_STATION = 2**44  # numbers of the poses on the way lie beyond those of all crops
MAX_POSES = 64  # poses of a path
POSE_INTERVAL_S = 0.35, 1.1  # s from one pose to the next
OPENINGS = (0.0, 0.3, 0.6, 0.85)  # how far fingers open half-way, tried until they clear each other
SWAY, TURN, DEPTH = 0.05, 0.35, 0.12  # m, rad, of the distance: how much the hand wanders, standard deviations


class VirtualSequences:
    """Sequences by index.

    Args:
        config: what to draw. (Objects are left out: they do not follow the fingers.)
        hand: a right hand.
        length: pictures of a sequence.
        rate: pictures a second.
        extra: names of config.EXTRA_LABELS to make as well.
    """

    def __init__(
        self, config: VirtualConfig, hand: Hand, length: int = 32, rate: float | int = 30, extra: Sequence[str] = ()
    ) -> None:
        if length < 1 or rate <= 0:
            raise ValueError(f"a sequence of {length} pictures at {rate} a second: both should be above 0")
        self.config = dataclasses.replace(config, held_object=0.0, objects={})
        self.length, self.rate, self._hands = length, rate, VirtualHands(self.config, hand, extra)

    def __len__(self) -> int:
        return self.config.count

    def render(self, index: int, device: torch.device | str = "cpu", image_size: int = 224) -> HandBatch:
        """The pictures of one sequence, in order; all have one camera.

        Raises:
            IndexError: an index outside 0 .. config.count - 1.
        """
        if not 0 <= index < self.config.count:
            raise IndexError(f"virtual sequence {index} lies outside 0..{self.config.count - 1}")
        rng = generator(self.config, index, "sequence")
        p = self.parameters(index, rng)
        keys = [f"sequence/{self.config.split}/{index:06d}/{t:05d}" for t in range(self.length)]
        shadows = bool(rng.random() < self.config.shadow)
        same = [index] * self.length
        return self._hands.render_samples(p, same, keys, torch.device(device), image_size, shadows, same)

    def parameters(self, index: int, rng: np.random.Generator) -> Parameters:
        """What the pictures of a sequence show."""
        moments = np.concatenate([[0], np.cumsum(rng.uniform(*POSE_INTERVAL_S, MAX_POSES - 1))])
        times = np.arange(self.length) / self.rate
        count = min(MAX_POSES, int(np.searchsorted(moments, times[-1])) + 2)
        anatomy = self._hands.anatomy
        stations = draw(
            self.config, anatomy, range(FIRST_STATION + index * MAX_POSES, FIRST_STATION + index * MAX_POSES + count)
        )
        segment = np.clip(np.searchsorted(moments, times, side="right") - 1, 0, count - 2)
        u = np.clip((times - moments[segment]) / (moments[segment + 1] - moments[segment]), 0, 1)
        p = repeat(draw(self.config, anatomy, [index]), self.length)
        fingers = finger_path(anatomy, self.config, stations.fingers, segment, minimum_jerk(u))
        p = dataclasses.replace(p, fingers=fingers)
        return dataclasses.replace(p, camera=self._wander(rng, p, anatomy, times))

    def _wander(
        self, rng: np.random.Generator, p: Parameters, anatomy: Anatomy, times: Float[np.ndarray, "n"]
    ) -> object:
        """The hand's turns and place before a camera that stands still and frames the whole sequence."""
        camera = p.camera
        sway = np.stack([_drift(rng, times) for _ in range(6)], 1)
        rotation = Rotation.from_rotvec(TURN * sway[:, :3]).as_matrix() @ camera.rotation
        root = camera.root + sway[:, 3:] * [SWAY, SWAY, DEPTH * camera.root[0, 2]]
        wrist = np.broadcast_to(np.eye(3), (len(times), 1, 3, 3))
        rest_joints = anatomy.pose(np.concatenate([wrist, p.fingers], 1), p.shape)
        seen = rest_joints @ rotation.swapaxes(1, 2) + root[:, None]
        pinhole = frame(rng, self.config, (seen[..., :2] / seen[..., 2:]).reshape(-1, 2))
        return dataclasses.replace(camera, rotation=rotation, root=root, pinhole=np.tile(pinhole, (len(times), 1)))


def minimum_jerk(u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """How much of a way is done at the share `u` of its time."""
    return u**3 * (10 + u * (6 * u - 15))


def finger_path(
    anatomy: Anatomy,
    config: VirtualConfig,
    stations: Float[np.ndarray, "k 15 3 3"],
    segment: Int64[np.ndarray, "n"],
    share: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "n 15 3 3"]:
    """Rotations on the way from station `segment` to the next, `share` of it done."""
    out = np.empty((len(share), 15, 3, 3))
    for k in np.unique(segment):
        rows = segment == k
        for opening in OPENINGS:
            way = _way(stations[k], stations[k + 1], np.linspace(0.1, 0.9, 7), opening)
            wrist = np.broadcast_to(np.eye(3), (len(way), 1, 3, 3))
            if poses.penetration(anatomy.pose(np.concatenate([wrist, way], 1))).max() <= config.penetration:
                break
        out[rows] = _way(stations[k], stations[k + 1], share[rows], opening)
    return out


def _way(
    start: Float[np.ndarray, "15 3 3"], stop: Float[np.ndarray, "15 3 3"], share: Float[np.ndarray, "n"], opening: float
) -> Float[np.ndarray, "n 15 3 3"]:
    between = Rotation.from_matrix(start.swapaxes(1, 2) @ stop).as_rotvec()
    turned = Rotation.from_rotvec((share[:, None, None] * between).reshape(-1, 3)).as_matrix().reshape(-1, 15, 3, 3)
    vector = Rotation.from_matrix((start @ turned).reshape(-1, 3, 3)).as_rotvec().reshape(-1, 15, 3)
    kept = 1 - opening * 4 * share * (1 - share)
    return Rotation.from_rotvec((kept[:, None, None] * vector).reshape(-1, 3)).as_matrix().reshape(-1, 15, 3, 3)


def _drift(rng: np.random.Generator, times: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """A smooth random function of time (s) of deviation 1 that starts at 0."""
    rates, phases = rng.uniform(0.15, 1.2, 4), rng.uniform(0, 2 * np.pi, 4)
    waves = np.sin(2 * np.pi * rates * times[:, None] + phases) - np.sin(phases)
    return waves.sum(1) / 2
