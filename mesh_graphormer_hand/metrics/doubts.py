"""Signs that a scored file uses another unit, other axes or another joint order than it is read in.

Nothing is converted: a score is of the file as it stands, and the note says what would fit the labels far better.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from ..skeleton import NUM_JOINTS, PERMUTATIONS

MAX_COMPARED = 500  # samples that are looked at
BETTER_RATIO = 0.5  # of the error: from here on another reading is named
UNIT_NAMES = {1000.0: "millimetres for metres", 100.0: "centimetres for metres", 0.001: "metres for millimetres"}
UNIT_NAMES |= {0.01: "metres for centimetres", 10.0: "millimetres for centimetres", 0.1: "centimetres for millimetres"}
NEAR_UNIT, SAME_UNIT = 2.0, 3.0  # factors: that far from a unit's, that far from none
AXES_SIGNS = {
    2: {"": (1, 1), "mirrored (x turned around)": (-1, 1), "with y upwards": (1, -1)},
    3: {
        "": (1, 1, 1),
        "in OpenGL's axes (y and z turned around)": (1, -1, -1),
        "mirrored (x turned around)": (-1, 1, 1),
        "with y upwards": (1, -1, 1),
        "with z backwards": (1, 1, -1),
    },
}


def notes(
    target: Float[np.ndarray, "n 21 c"],
    predicted: Float[np.ndarray, "n 21 c"],
    known: Bool[np.ndarray, "n 21"] | None = None,
    units: bool = True,
) -> list[str]:
    """Notes on predictions compared with their labels (px or any length, canonical order).

    Args:
        known: joints that count; None: all.
        units: also of another unit; False where any scale is allowed.
    """
    step = -(-len(target) // MAX_COMPARED) or 1
    target, predicted = target[::step], predicted[::step]
    known = np.ones(target.shape[:2], bool) if known is None else known[::step]
    mine = known.sum(1) > 2
    target, predicted, known = target[mine], predicted[mine], known[mine]
    if not len(target) or target.shape[1] != NUM_JOINTS:
        return []
    wanted, size = _shape(target, known)
    _, size_predicted = _shape(predicted, known)
    good = (size > 0) & (size_predicted > 0)
    if not good.any():
        return []
    found = _of_unit(float(np.median(size_predicted[good] / size[good])), target.shape[2]) if units else []
    return found + _of_layout(wanted[good], predicted[good], known[good])


def _of_unit(ratio: float, columns: int) -> list[str]:
    if 1 / SAME_UNIT < ratio < SAME_UNIT:
        return []
    size = f"the predicted hands are {ratio:.3g} times as large as the labelled ones"
    guess = next(
        (name for factor, name in UNIT_NAMES.items() if 1 / NEAR_UNIT < ratio / factor < NEAR_UNIT), "another unit"
    )
    return [f"{size}: {guess if columns == 3 else 'pixels of another image size, or shares of the image'}?"]


def _of_layout(
    wanted: Float[np.ndarray, "n 21 c"], predicted: Float[np.ndarray, "n 21 c"], known: Bool[np.ndarray, "n 21"]
) -> list[str]:
    """The reading, of all axes and orders, that fits best, where it is far better than the file as it stands."""
    orders = {"": tuple(range(NUM_JOINTS))}
    for name, order in PERMUTATIONS.items():
        if name != "canonical":
            orders[f"in the joint order `{name}`"] = order
            orders[f"in canonical order, where `{name}` is expected"] = tuple(np.argsort(order).tolist())
    errors = {}
    for axes, signs in AXES_SIGNS[wanted.shape[2]].items():
        for order, permutation in orders.items():
            shape, _ = _shape(predicted[:, list(permutation)] * np.array(signs), known)
            errors[axes, order] = float(np.linalg.norm(shape - wanted, axis=-1)[known].mean())
    best = min(errors, key=errors.get)
    if errors[best] >= BETTER_RATIO * errors["", ""]:
        return []
    factor = errors["", ""] / max(errors[best], 1e-9)
    times = f"{factor:.1f} times" if factor < 1000 else "1000 times and more"
    return [f"the predictions fit the labels {times} better {' and '.join(filter(None, best))}: are they meant so?"]


def _shape(joints: Float[np.ndarray, "n 21 c"], known: Bool[np.ndarray, "n 21"]) -> tuple[np.ndarray, np.ndarray]:
    """Joints about their middle, of size 1, with 0 where they do not count; and their sizes."""
    weight = known[..., None] / known.sum(1)[:, None, None]
    joints = np.where(known[..., None], joints, 0.0)
    centred = np.where(known[..., None], joints - (weight * joints).sum(1, keepdims=True), 0.0)
    size = np.sqrt((weight * centred**2).sum((1, 2)))
    return centred / np.where(size > 0, size, 1.0)[:, None, None], size
