"""The One Euro filter: little lag for fast motion, little jitter at rest.

Casiez, Roussel, Vogel, "1 Euro Filter", CHI 2012. A low-pass filter whose cut-off frequency grows with the (filtered)
speed: f = min_cutoff + slope * |speed|, weight of the new value = 1 / (1 + 1 / (2 pi f dt)).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, "*n"]


class OneEuro:
    """Filters one array over time. The last axis is a point: its coordinates share a speed, so directions are kept."""

    def __init__(self, min_cutoff: float, slope: float, speed_cutoff: float = 1.0) -> None:
        """`min_cutoff`: Hz, at rest (lower: less jitter); `slope`: Hz per unit per second (higher: less lag);
        `speed_cutoff`: Hz, of the filter of the speed."""
        self.min_cutoff, self.slope, self.speed_cutoff = min_cutoff, slope, speed_cutoff
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | None = None

    def __call__(self, value: Values, elapsed: float) -> Values:
        """The filtered value, `elapsed` s after the one before; the first one is returned unchanged."""
        value = np.asarray(value, np.float64)
        if self._value is None or elapsed <= 0:
            self._value, self._speed = value, np.zeros_like(value)
            return value.astype(np.float32)
        speed = (value - self._value) / elapsed
        self._speed = self._speed + _weight(self.speed_cutoff, elapsed) * (speed - self._speed)
        cutoff = self.min_cutoff + self.slope * np.linalg.norm(self._speed, axis=-1, keepdims=True)
        self._value = self._value + _weight(cutoff, elapsed) * (value - self._value)
        return self._value.astype(np.float32)


def _weight(cutoff: float | Float[np.ndarray, "*n"], elapsed: float) -> float | np.ndarray:
    return 1 / (1 + 1 / (2 * np.pi * cutoff * elapsed))
