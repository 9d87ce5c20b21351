"""Light: a soft environment (spherical harmonics) and one directional light, tinted, in units that expose the skin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ..rng import Draws

CONSTANT = 3.5449  # the constant harmonic's coefficient under which white is white (1 / 0.282095)
PLAIN_DIRECTION = np.array([0.3, -0.6, -0.742])  # of the light that is the same everywhere: above, right of the camera
PLAIN_SHARE = 0.35  # of it that comes from there
SPREAD_BY_ORDER = np.array([0, 0.5, 0.5, 0.5, 0.16, 0.16, 0.16, 0.16, 0.16])  # spread of the coefficients by order


@dataclass(frozen=True, eq=False)
class Light:
    harmonics: Float[np.ndarray, "b 9 3"]  # radiance, camera axes
    direction: Float[np.ndarray, "b 3"]  # towards the light
    colour: Float[np.ndarray, "b 3"]  # its irradiance / pi

    def share(self) -> Float[np.ndarray, "b"]:
        """How much of the light on a surface that faces it comes from the directional light: how dark shadows are."""
        direct, around = self.colour.mean(1), self.harmonics[:, 0].mean(1) / CONSTANT
        return direct / (direct + around)


def sample(rng: Draws, tone: Float[np.ndarray, "b 3"], variety: float = 1.0) -> Light:
    """Lights of a block; `tone`: linear colours of the skins, which cameras expose for in part; `variety` from 0 (one
    plain light) to 1."""
    exposure = (0.28 / tone.mean(-1)) ** rng.uniform(low=0.05, high=0.5)
    total = exposure * rng.log_uniform(0.85, 1.6)
    hard = rng.uniform() ** 1.15 * 0.8  # share of the light that comes from one direction
    tint = 1 + rng.normal(3) * 0.035
    sun_tint = 1 + rng.normal(3) * 0.035
    shape = rng.normal(9, 1) * SPREAD_BY_ORDER[:, None] + rng.normal(9, 3) * 0.05 * (SPREAD_BY_ORDER[:, None] > 0)
    shape[:, 2] -= 0.18  # rooms and skies are brighter above (y points down) ...
    shape[:, 1] -= 0.3
    # What faces away from the light is dim, never black: walls and the skin itself send some back.
    swing = 1.155 * np.linalg.norm(shape[:, 1:4], axis=1) + 0.97 * np.linalg.norm(shape[:, 4:], axis=1)
    shape *= np.minimum(1, rng.uniform(1, low=0.6, high=0.9) / swing)[:, None]
    shape[:, 0] = 1
    harmonics = CONSTANT * shape * ((1 - hard) * total)[:, None, None] * tint[:, None] * 0.9
    direction = rng.normal(3) + [0, -0.5, -0.75]
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    colour = (hard * total * 1.5)[:, None] * sun_tint
    light = Light(harmonics, direction, colour)
    return light if variety >= 1 else _towards(light, _plain(tone), variety)


def _plain(tone: Float[np.ndarray, "b 3"]) -> Light:
    """The light that everything stands in where there is no variety, exposed like the others on average."""
    total = ((0.28 / tone.mean(-1)) ** 0.275)[:, None]
    harmonics = np.zeros((len(tone), 9, 3))
    harmonics[:, 0] = CONSTANT * (1 - PLAIN_SHARE) * total
    direction = np.tile(PLAIN_DIRECTION / np.linalg.norm(PLAIN_DIRECTION), (len(tone), 1))
    return Light(harmonics, direction, np.tile(PLAIN_SHARE * total * 1.5, 3))


def _towards(light: Light, plain: Light, variety: float) -> Light:
    """Between the two: `plain` at 0."""

    def mix(a: Float[np.ndarray, "*s"], b: Float[np.ndarray, "*s"]) -> np.ndarray:
        return variety * a + (1 - variety) * b

    direction = mix(light.direction, plain.direction)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return Light(mix(light.harmonics, plain.harmonics), direction, mix(light.colour, plain.colour))
