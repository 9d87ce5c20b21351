"""The colour of skin: tones from very light to very dark in CIELAB, paler palms, creases, blotches, nails.

Light is handled linearly; gamma 2 stands for the screen's curve (a square root instead of a power: the curve is drawn
anew for every sample anyway).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .config import VirtualConfig
from .draws import Draws

# Centres of measured skin tones, light to dark (L*, a*, b*, D65): lighter skin is pinker, the middle range yellower.
TONES_LAB = np.array([(74.0, 10.0, 16.0), (69, 13, 20), (62, 15, 23), (52, 16, 24), (41, 15, 20), (29, 11, 13)])
PALM_LAB = np.array([71.0, 16.0, 17.0])
BLOTCH_WAVES = 6


@dataclass(frozen=True, eq=False)
class Skin:
    """Linear-light colours and how strongly the details show."""

    tone: Float[np.ndarray, "b 3"]  # back of the hand
    palm: Float[np.ndarray, "b 3"]
    broad: Float[np.ndarray, "b"]  # exponent of slow colour changes: redder knuckles and fingertips
    fine: Float[np.ndarray, "b"]  # exponent of creases and nail edges
    nail: Float[np.ndarray, "b 4"]  # colour and how much of it covers the nail
    blotch: Float[np.ndarray, "b"]  # strength of irregular spots
    waves: Float[np.ndarray, "b w 4"]  # 1/m and phase of the waves that make them
    specular: Float[np.ndarray, "b"]
    shininess: Float[np.ndarray, "b"]


def sample(draws: Draws, config: VirtualConfig) -> Skin:
    """Skins of a block."""
    depth = draws.uniform() ** 1.15 * (len(TONES_LAB) - 1)
    lab = np.stack([np.interp(depth, np.arange(len(TONES_LAB)), channel) for channel in TONES_LAB.T], -1)
    lab = lab + draws.normal(3) * [2.5, 2.0, 2.5]
    share = draws.uniform(low=0.1, high=0.75) * (0.45 + 0.5 * depth / (len(TONES_LAB) - 1))
    palm = lab + (PALM_LAB - lab) * share[:, None] + draws.normal(3) * [1, 1.5, 1.5]
    polished = draws.chance(config.nail_polish)
    polish = draws.uniform(3) ** 2
    natural = lab_to_linear(0.5 * (lab + palm) + [4.0, 3, -4] + draws.normal(3) * [2, 2, 2])
    cover = np.where(polished, 0.95, draws.uniform(low=0.0, high=0.8))
    low, high = config.skin_contrast
    wavelength = draws.log_uniform(0.008, 0.08, BLOTCH_WAVES, 1)
    direction = draws.normal(BLOTCH_WAVES, 3)
    waves = direction / np.linalg.norm(direction, axis=-1, keepdims=True) * 2 * np.pi / wavelength
    phase = draws.uniform(BLOTCH_WAVES, 1, high=2 * np.pi)
    return Skin(
        tone=lab_to_linear(lab),
        palm=lab_to_linear(palm),
        broad=draws.uniform(low=low, high=high),
        fine=draws.uniform(low=low, high=high + 0.5),
        nail=np.concatenate([np.where(polished[:, None], polish, natural), cover[:, None]], 1),
        blotch=0.06 * draws.uniform() ** 1.5,
        waves=np.concatenate([waves, phase], -1),
        specular=config.gloss * draws.uniform() ** 1.6,
        shininess=draws.log_uniform(6, 60),
    )


def lab_to_linear(lab: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    """CIELAB (D65) -> linear sRGB, clipped to what skin can be: (0.01, 1)."""
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.95047, 1.0, 1.08883]
    to_rgb = np.array([(3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570)])
    return (xyz @ to_rgb.T).clip(0.01, 1)


def linear_to_screen(colour: np.ndarray) -> np.ndarray:
    """Linear light -> screen values in [0, 1] (gamma 2)."""
    return np.sqrt(colour.clip(0, 1))
