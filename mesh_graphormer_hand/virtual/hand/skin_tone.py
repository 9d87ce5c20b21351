"""The colour of skin: measured tones from very light to very dark, blood, paler palms, and how strongly details show.

Melanin moves a skin along the measured tones; blood (haemoglobin) takes green, and some blue, out of any of them. Light
is handled linearly; gamma 2 stands for the screen's curve (a square root instead of a power: the curve is drawn anew
for every sample anyway).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ..config import VirtualConfig
from ..rng import Draws
from . import skin_relief, tattoo

# Centres of measured skin tones, light to dark (L*, a*, b*, D65): lighter skin is pinker, the middle range yellower.
TONES_LAB = np.array([(74.0, 10.0, 16.0), (69, 13, 20), (62, 15, 23), (52, 16, 24), (41, 15, 20), (29, 11, 13)])
PALM_LAB = np.array([72.0, 14.0, 17.0])
BLOOD = np.array([0.03, 0.30, 0.20])  # what more blood takes from the logarithm of linear red, green, blue
BLOTCH_WAVES = 6
NOISES = ("mottle", "grain", "spots", "hair")  # channels of the noise that skin is strewn with, see `noise`


@dataclass(frozen=True, eq=False)
class Skin:
    """Linear-light colours and how strongly the details show."""

    tone: Float[np.ndarray, "b 3"]  # back of the hand
    palm: Float[np.ndarray, "b 3"]
    paint: Float[np.ndarray, "b paint 3"]  # logarithm of colour for each of `skin_relief.PAINT`
    relief: Float[np.ndarray, "b relief"]  # strength of each of `skin_relief.RELIEF`
    noise: Float[np.ndarray, "b noise 3"]  # logarithm of colour for each of NOISES
    shift: Float[np.ndarray, "b 2"]  # where the noise is cut from, in its tiles
    variant: Int64[np.ndarray, "b"]  # of the lines of the hand
    nail: Float[np.ndarray, "b 4"]  # colour and how much of it covers the nail
    nail_gloss: Float[np.ndarray, "b 2"]  # strength and exponent of the nails' highlights
    blotch: Float[np.ndarray, "b"]  # strength of slow, irregular changes of colour
    waves: Float[np.ndarray, "b w 4"]  # 1/m and phase of the waves that make them
    specular: Float[np.ndarray, "b"]
    shininess: Float[np.ndarray, "b"]
    tattoo: Float[np.ndarray, "b 7"]  # see `tattoo.sample`


def sample(rng: Draws, config: VirtualConfig) -> Skin:
    """Skins of a block."""
    last = len(TONES_LAB) - 1
    lightness = rng.uniform(low=TONES_LAB[-1, 0], high=TONES_LAB[0, 0])  # even over what the eye tells apart
    depth = np.interp(-lightness, -TONES_LAB[:, 0], np.arange(len(TONES_LAB)))
    dark = (depth / last)[:, None]
    lab = tone_lab(depth) + rng.normal(3) * [2.0, 1.6, 2.2]
    share = rng.uniform(low=0.1, high=0.6)[:, None] * (0.3 + 0.65 * dark)
    palm = lab + (PALM_LAB - lab) * share + rng.normal(3) * [1, 1.2, 1.2]
    pink = rng.uniform(1, low=0.0, high=0.8) * (1 - 0.6 * dark)
    natural = lab_to_linear(0.5 * (lab + palm) + [3.0, 4, -2] + rng.normal(3) * [2, 2, 2])
    polished = rng.chance(config.nail_polish)
    polish = rng.uniform(3) ** 2
    cover = np.where(polished, 0.96, rng.uniform(low=0.1, high=0.6))
    paint, relief = _details(rng, config, dark)
    gloss = rng.log_uniform(0.06, 0.5) * np.where(polished, 1.8, 1.0)
    return Skin(
        tone=lab_to_linear(lab) * np.exp(-BLOOD * rng.uniform(1, low=-0.3, high=0.5)),
        palm=lab_to_linear(palm) * np.exp(-BLOOD * pink),
        paint=paint,
        relief=relief,
        noise=_noise(rng, dark),
        shift=rng.uniform(2),
        variant=rng.choice((1, 1, 1)),
        nail=np.concatenate([np.where(polished[:, None], polish, natural), cover[:, None]], 1),
        nail_gloss=np.stack([gloss, rng.log_uniform(40, 180)], 1),
        blotch=0.035 * rng.uniform() ** 1.5,
        waves=_waves(rng),
        specular=config.gloss * rng.uniform() ** 1.6,
        shininess=rng.log_uniform(6, 40),
        tattoo=tattoo.sample(rng, config.tattoo),
    )


def tone_lab(depth: Float[np.ndarray, "b"]) -> Float[np.ndarray, "b 3"]:
    """CIELAB of skin `depth` steps down the measured tones."""
    return np.stack([np.interp(depth, np.arange(len(TONES_LAB)), channel) for channel in TONES_LAB.T], -1)


def _details(rng: Draws, config: VirtualConfig, dark: Float[np.ndarray, "b 1"]) -> tuple[np.ndarray, np.ndarray]:
    """How strongly lines, blushes and veins colour and shape the skin: the old and lean have more of all of them."""
    low, high = config.skin_contrast
    age = rng.uniform(1, low=low, high=high)
    own = np.exp(0.25 * rng.normal(6))[..., None]
    b = len(dark)
    paint = np.zeros((b, len(skin_relief.PAINT), 3))
    paint[:, skin_relief.CREASE] = -np.array([0.30, 0.52, 0.56]) * (0.75 + 0.9 * dark) * age**0.5 * own[:, 0]
    paint[:, skin_relief.WRINKLE] = -np.array([0.19, 0.30, 0.33]) * age * own[:, 1]
    paint[:, skin_relief.BLUSH] = -BLOOD * 1.15 * (1 - 0.55 * dark) * own[:, 2]
    paint[:, skin_relief.VEIN] = -np.array([0.13, 0.03, 0.01]) * (1 - 0.8 * dark) * age * rng.uniform(1)
    paint[:, skin_relief.PLATE] = [0.03, 0.03, 0.05]
    paint[:, skin_relief.WHITE] = np.array([0.16, 0.34, 0.38]) * rng.uniform(1, high=1.6)
    paint[:, skin_relief.GROOVE] = -np.array([0.35, 0.62, 0.66]) * own[:, 3]
    paint[:, skin_relief.DARK] = -np.array([0.14, 0.16, 0.17]) * (0.15 + 1.5 * dark) * rng.uniform(1)
    relief = np.concatenate(
        [own[:, 4] * 1.15 * age**0.5, own[:, 5] * age, *(rng.uniform(1) * age for _ in range(2)), np.ones((b, 1))], 1
    )
    relief[:, skin_relief.R_VEIN] *= 0.55
    return paint, relief


def _noise(rng: Draws, dark: Float[np.ndarray, "b 1"]) -> Float[np.ndarray, "b noise 3"]:
    strength = rng.uniform(4, 1)
    freckled, hairy = rng.chance(0.15)[:, None], rng.chance(0.3)[:, None]
    mottle = -BLOOD * 0.26 * strength[:, 0] * (1 - 0.5 * dark)
    grain = -np.array([0.035, 0.045, 0.045]) * (0.3 + strength[:, 1])
    spots = -np.array([0.30, 0.48, 0.56]) * strength[:, 2] * np.where(freckled, 1.0, 0.12) * (1 - 0.7 * dark)
    hair = -np.array([0.55, 0.6, 0.6]) * strength[:, 3] * np.where(hairy, 1.0, 0.05)
    return np.stack([mottle, grain, spots, hair], 1)


def _waves(rng: Draws) -> Float[np.ndarray, "b w 4"]:
    wavelength = rng.log_uniform(0.012, 0.1, BLOTCH_WAVES, 1)
    direction = rng.normal(BLOTCH_WAVES, 3)
    waves = direction / np.linalg.norm(direction, axis=-1, keepdims=True) * 2 * np.pi / wavelength
    return np.concatenate([waves, rng.uniform(BLOTCH_WAVES, 1, high=2 * np.pi)], -1)


def lab_to_linear(lab: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """CIELAB (D65) -> linear sRGB, clipped to what skin can be: (0.01, 1)."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    to_rgb = np.array([(3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)])
    return (xyz @ to_rgb.T).clip(0.01, 1)


def linear_to_screen(colour: Float[np.ndarray, "*c"]) -> np.ndarray:
    """Linear light -> screen values in [0, 1] (gamma 2)."""
    return np.sqrt(colour.clip(0, 1))
