"""Which vertices stand for the fingertips: found from a mesh and its joints, compared, and converted.

The sets that programs use differ by 1-5 mm (`skeleton.FINGERTIPS`), which is a bias of up to five joints that no
alignment removes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..config import ConfigError, nearest
from ..skeleton import FINGERTIPS, TIPS

EXACT_M = 2e-5  # m: a vertex this near to the joint is the joint


def detect(joints: Float[np.ndarray, "n 21 3"], vertices: Float[np.ndarray, "n 778 3"]) -> str | None:
    """The convention under which these joints (canonical order, m) were taken from these vertices (m), or None where
    none fits: regressed tips, other meshes."""
    tips = np.asarray(joints)[:, list(TIPS)]
    for name, ids in FINGERTIPS.items():
        if len(tips) and np.linalg.norm(np.asarray(vertices)[:, list(ids)] - tips, axis=-1).max() < EXACT_M:
            return name
    return None


def convert(
    joints: Float[np.ndarray, "n 21 3"], vertices: Float[np.ndarray, "n 778 3"], convention: str
) -> Float[np.ndarray, "n 21 3"]:
    """The joints with their tips taken from the vertices by another convention.

    Raises:
        KeyError: no such convention.
    """
    converted = np.array(joints, copy=True)
    converted[:, list(TIPS)] = np.asarray(vertices)[:, list(FINGERTIPS[convention])]
    return converted


def check(tips: str) -> None:
    """Refuse an option `tips` that is neither empty nor a convention.

    Raises:
        ConfigError: it names the nearest one.
    """
    if tips and tips not in FINGERTIPS:
        raise ConfigError(f"tips={tips}{nearest(tips, list(FINGERTIPS))}: one of {', '.join(FINGERTIPS)}")


def difference_mm(vertices: Float[np.ndarray, "n 778 3"], first: str, second: str) -> Float[np.ndarray, "5"]:
    """Mean distance in mm of each fingertip (thumb first) between two conventions on these vertices (m)."""
    a, b = (np.asarray(vertices)[:, list(FINGERTIPS[name])] for name in (first, second))
    return 1000 * np.linalg.norm(a - b, axis=-1).mean(0)


def warning(predicted: str | None, truth: str | None, vertices: Float[np.ndarray, "n 778 3"]) -> str | None:
    """A note where prediction and truth use different fingertips; None where they use the same or one is unknown."""
    if predicted is None or truth is None or predicted == truth:
        return None
    bias = ", ".join(f"{mm:.1f}" for mm in difference_mm(vertices, predicted, truth))
    return (
        f"fingertips: the predictions use the vertices of {predicted!r}, the truth those of {truth!r}, which lie "
        f"{bias} mm apart (thumb to little finger); tips={truth} takes them from the predicted vertices"
    )
