"""Every knob of the virtual images. Probabilities and ranges are of a sample; lengths in metres, angles in degrees."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .. import config
from ..config import SHARE, ConfigError, nearest, renamed

FAMILIES = ("free", "grasp", "named", "flat", "digits")  # of poses, see `poses`
SPLITS = ("train", "validation", "test")  # the position of a name enters every sample's key: append, never reorder
EXTRA_LABELS = ("parts", "normals", "joint_visibility", "appearance")  # made on request only, see `labels`
RENAMED_LABELS = {"share": "joint_visibility", "look": "appearance"}
OBJECTS = tuple(sorted(f.stem for f in (Path(__file__).parent / "scene/objects").glob("[!_]*.py") if f.stem != "base"))
PROBABILITIES = (
    *("view_uniform", "truncated", "forearm", "sleeve", "watch", "bracelet", "ring", "held_object", "second_hand"),
    *("occluder", "nail_polish", "tattoo", "photograph", "scenery", "shadow", "ground_shadow"),
    *("blur", "motion_blur", "low_resolution", "noise", "jpeg"),
)


@dataclass
class VirtualConfig:
    """What the generator draws. (seed, split, index) decides a sample; splits never share one."""

    LIMITS = {"seed": (-math.inf, math.inf), **dict.fromkeys(PROBABILITIES, SHARE)}
    seed: int = 0
    split: str = "train"
    count: int = 2**40  # samples: as good as endless
    # shape and pose
    shape_std: float = 1.0  # of the 10 shape coefficients, cut off at 2.5
    pose_weights: dict[str, float] = field(
        default_factory=lambda: {"free": 0.22, "grasp": 0.16, "named": 0.18, "flat": 0.08, "digits": 0.36}
    )
    pose_candidates: int = 4  # poses tried for one without fingers inside each other
    penetration: float = 0.003  # m of overlap between fingers that a pose may have
    # view and framing
    view_uniform: float = 0.5  # share of views uniform over the sphere; the rest: palm or back to the camera, tilted
    view_tilt: float = 32.0  # standard deviation of that tilt
    distance: list[float] = field(default_factory=lambda: [0.3, 1.8])  # log-uniform
    fill: list[float] = field(default_factory=lambda: [0.45, 0.9])  # keypoint box's longer side, of the crop's
    offset: float = 0.7  # how far the box strays from the middle, of the room there is
    truncated: float = 0.06  # of the hands, which the crop's border cuts
    # what is on and round the hand
    forearm: float = 1.0  # without one, the open end of the skin shows
    sleeve: float = 0.4  # of the forearms
    watch: float = 0.1
    bracelet: float = 0.08
    ring: float = 0.12
    held_object: float = 0.2  # of the hands that something fits into
    objects: dict[str, float] = field(default_factory=dict)  # of scene/objects/: {pen: 0.1, cup: 0.1}
    second_hand: float = 0.1
    occluder: float = 0.06
    nail_polish: float = 0.06
    tattoo: float = 0.04
    backgrounds: str = ""  # folder of photographs to stand before; empty: procedural backgrounds only
    photograph: float = 0.6  # share of backgrounds that are photographs, where there is a folder
    scenery: float = 1.0  # share of backgrounds that show something; the others are one plain colour
    # light and skin
    light_variety: float = 1.0  # 0: the same white light from above the camera everywhere
    shadow: float = 0.5  # share of blocks rendered with cast shadows
    ground_shadow: float = 0.35  # share of hands that cast one on what is behind them
    skin_contrast: list[float] = field(default_factory=lambda: [0.5, 2.0])  # of creases, nails and blotches
    gloss: float = 0.25  # largest strength of highlights
    # sensor
    blur: float = 0.3
    motion_blur: float = 0.06
    low_resolution: float = 0.25
    noise: float = 0.35
    jpeg: float = 0.4
    photometric: float = 1.0  # strength of exposure, contrast, white balance and saturation changes
    # speed
    mesh_faces: int = 0  # faces of the rendered hand, 0: by image size

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(f"split {self.split!r} is none of {', '.join(SPLITS)}{nearest(self.split, SPLITS)}")
        if unknown := set(self.pose_weights) - set(FAMILIES):
            name = min(unknown)
            known = ", ".join(FAMILIES)
            raise ConfigError(f"pose_weights: no family {name!r}{nearest(name, FAMILIES)} (known here: {known})")
        for name, probability in self.objects.items():
            if name not in OBJECTS:
                raise ConfigError(f"objects: no {name!r}{nearest(name, OBJECTS)} (there are: {', '.join(OBJECTS)})")
            if not 0 <= probability <= 1:
                raise ConfigError(f"objects.{name}: {probability} should be from 0 to 1")


def check_labels(names: Iterable[str]) -> None:
    """Refuse names that are none of EXTRA_LABELS.

    Raises:
        ConfigError: one of them, with the name that comes nearest, or that it has now.
    """
    for name in names:
        if name not in EXTRA_LABELS:
            hint = renamed(name, RENAMED_LABELS) or nearest(name, EXTRA_LABELS)
            raise ConfigError(f"no label {name!r}{hint} (there are: {', '.join(EXTRA_LABELS)})")


def read(path: str | Path) -> VirtualConfig:
    """A YAML file of these options, such as configs/virtual_test.yaml, the frozen test split.

    Raises:
        ConfigError: no such file, an unknown key, a wrong type.
    """
    return config.parse(VirtualConfig, config.read(path), where=str(path))
