"""All random parameters of a block of samples: geometry and appearance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .config import VirtualConfig
from .hand import poses
from .hand import skin_tone as skin
from .hand.anatomy import Anatomy
from .rng import Draws
from .scene import accessories, camera, forearm, held_object, light
from .scene.objects.base import draw_objects
from .scene.parts import MeshPart

MAX_SHAPE_STD = 2.5  # standard deviations


@dataclass(frozen=True, eq=False)
class Parameters:
    shape: Float[np.ndarray, "b 10"]
    fingers: Float[np.ndarray, "b 15 3 3"]  # rotations relative to the parent joint
    camera: camera.Camera
    skin: skin.Skin
    light: light.Light
    forearm: forearm.Forearm
    held_object: MeshPart
    accessories: accessories.Accessories
    objects: tuple[MeshPart, ...]

    def parts(self) -> list[MeshPart]:
        """All parts of the scene but the hand itself."""
        return [*self.forearm.parts(), self.held_object, self.accessories.part, *self.objects]


def draw(config: VirtualConfig, anatomy: Anatomy, indices: Sequence[int]) -> Parameters:
    """The parameters of the samples `indices`, float64."""

    def stream(topic: str) -> Draws:
        return Draws(config, indices, topic)

    shape, rotations = draw_hands(stream("pose"), config, anatomy)
    joints = anatomy.pose(rotations, shape)
    complexion = skin.sample(stream("skin"), config)
    arm = forearm.sample(stream("arm"), config, anatomy, shape)
    return Parameters(
        shape=shape,
        fingers=rotations[:, 1:],
        camera=camera.sample(stream("camera"), config, joints),
        skin=complexion,
        light=light.sample(stream("light"), complexion.tone, config.light_variety),
        forearm=arm,
        held_object=held_object.sample(stream("held_object"), config, joints),
        accessories=accessories.sample(stream("accessories"), config, arm.bare),
        objects=draw_objects(config, indices, joints),
    )


def draw_hands(
    rng: Draws, config: VirtualConfig, anatomy: Anatomy
) -> tuple[Float[np.ndarray, "b 10"], Float[np.ndarray, "b 16 3 3"]]:
    """Shapes, and relative joint rotations with which such hands do not pass through themselves."""
    shape = (config.shape_std * rng.normal(10)).clip(-MAX_SHAPE_STD, MAX_SHAPE_STD)
    return shape, poses.sample(rng, config, anatomy, shape)
