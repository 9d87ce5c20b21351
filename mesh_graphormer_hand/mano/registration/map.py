"""The map between two hands of different topology: where each vertex of one lies on the other's skin, and how their
joints correspond. Fitted once from the users' own files, kept beside them, and applied to predictions and labels.

Two hands of 778 vertices are not the same hand (see `hand`): vertices, and joints that come from them, are compared or
mixed across hands only through such a map. The first hand is posed and shaped like the second's rest pose and bent onto
its surface (smooth displacements, closest points both ways); then each hand's vertices are written as points on the
other's triangles. Joints: `joints` is a 21 x 21 matrix with rows that sum to 1, so that it turns, moves and projects
with the hand; it holds the offset between the two definitions. Where vertices are known, the other hand's own regressor
is applied to the mapped ones instead.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from ... import files, paths
from ...contracts import HandPrediction, HandTargets, Record
from ...skeleton import WRIST
from ..hand import REGISTRATION, HandFileError, fingerprint_to_hex


@dataclass(frozen=True, eq=False)
class HandMap(Record):
    """From one hand (`source`, a fingerprint) to another (`target`). Points in any unit and frame."""

    source: int
    target: int
    triangles: Int64[Tensor, "778 3"]  # vertices of the source around each vertex of the target
    weights: Float[Tensor, "778 3"]  # their shares, rows sum to 1
    joints: Float[Tensor, "21 21"]  # joints of the target from those of the source, rows sum to 1
    regressor: Float[Tensor, "21 778"]  # joints of the target from its own vertices

    def map_vertices(self, vertices: Float[Tensor, "*b 778 3"]) -> Float[Tensor, "*b 778 3"]:
        """The target's vertices on the surface that the source's vertices span."""
        corners = vertices[..., self.triangles, :]  # *b 778 3 3
        return (corners * self.weights.to(vertices.dtype)[..., None]).sum(-2)

    def map_joints(self, joints: Float[Tensor, "*b 21 c"]) -> Float[Tensor, "*b 21 c"]:
        """The target's joints from the source's, in 3D or projected."""
        return self.joints.to(joints.dtype) @ joints

    def prediction(self, prediction: HandPrediction) -> HandPrediction:
        """A prediction of the source's mesh and joints as one of the target's. The whole batch must be the source's.
        Parameters and coarse vertices have no counterpart and become None."""
        moved: dict[str, Tensor | None] = {"pose": None, "shape": None, "vertices_coarse": None}
        vertices, joints = self._points(prediction.vertices, prediction.joints)
        if joints is not None:
            shift = joints[..., WRIST : WRIST + 1, :]
            moved["joints"] = joints - shift
            moved["vertices"] = None if vertices is None else vertices - shift
            if prediction.camera is not None:  # crop = s (xy + t): what the origin moves, t takes up
                camera = prediction.camera.clone()
                camera[..., 1:] += shift[..., 0, :2].to(camera.dtype)
                moved["camera"] = camera
        for name in ("joints_token", "joints_2d", "joints_token_2d"):
            if (points := getattr(prediction, name)) is not None:
                points = self.map_joints(points)
                moved[name] = points - points[..., :1, :] if name == "joints_token" else points
        hand = None if prediction.hand is None else torch.full_like(prediction.hand, self.target)
        return replace(prediction, **moved, hand=hand)

    def targets(self, targets: HandTargets) -> HandTargets:
        """Labels of the source as labels of the target; samples of other hands stay as they are. Joints stay valid
        where all 21 are. Parameters have no counterpart: their mask becomes False."""
        if targets.hand is None:
            return targets
        mine = targets.hand == self.source
        if not mine.any():
            return targets
        moved: dict[str, Tensor | None] = {"hand": torch.where(mine, self.target, targets.hand)}
        complete = None if targets.joints_valid is None else targets.joints_valid.all(-1)
        joints = None if targets.joints is None else self.map_joints(targets.joints)
        if targets.vertices is not None:
            vertices = self.map_vertices(targets.vertices)
            known = targets.vertices_valid
            regressed = self.regressor.to(vertices.dtype) @ vertices
            joints = regressed if joints is None else torch.where(known[..., None, None], regressed, joints)
            complete = known if complete is None else known | complete
            moved["vertices"] = _where(mine, vertices - joints[..., :1, :], targets.vertices)
        if joints is not None and targets.joints is not None:
            moved["joints"] = _where(mine, joints - joints[..., :1, :], targets.joints)
            moved["joints_valid"] = _where(
                mine, complete[..., None].expand_as(targets.joints_valid), targets.joints_valid
            )
            if targets.root is not None:
                moved["root"] = _where(mine, targets.root + joints[..., 0, :], targets.root)
        if targets.joints_2d is not None:
            whole = targets.joints_2d_valid.all(-1)
            moved["joints_2d"] = _where(mine & whole, self.map_joints(targets.joints_2d), targets.joints_2d)
            moved["joints_2d_valid"] = targets.joints_2d_valid & (whole | ~mine)[..., None]
        if targets.mano_valid is not None:
            moved["mano_valid"] = targets.mano_valid & ~mine
        return replace(targets, **moved)

    def _points(
        self, vertices: Float[Tensor, "*b 778 3"] | None, joints: Float[Tensor, "*b 21 3"] | None
    ) -> tuple[Tensor | None, Tensor | None]:
        if vertices is None:
            return None, None if joints is None else self.map_joints(joints)
        vertices = self.map_vertices(vertices)
        return vertices, self.regressor.to(vertices.dtype) @ vertices


@dataclass(frozen=True, eq=False)
class Registration:
    """Both directions, and how well they fit (millimetres, see `registration_fit.fit`)."""

    forward: HandMap
    backward: HandMap
    quality: dict[str, float]

    @property
    def file_name(self) -> str:
        """Under which `save` keeps it."""
        return f"{REGISTRATION}{fingerprint_to_hex(self.forward.source)}_{fingerprint_to_hex(self.forward.target)}.npz"


def save(registration: Registration, folder: str | Path | None = None) -> Path:
    """Write the registration beside the hands (mano_assets/), or into `folder`; returns the file.

    It is made from a licensed hand, and so it is the user's own: git ignores it and no wheel carries it.
    """
    path = Path(folder or paths.MANO_ASSETS) / registration.file_name
    content = {f"quality_{name}": np.float64(value) for name, value in registration.quality.items()}
    for way in ("forward", "backward"):
        for f in fields(HandMap):
            value = getattr(getattr(registration, way), f.name)
            content[f"{way}_{f.name}"] = value.numpy() if isinstance(value, Tensor) else np.int64(value)
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **content)
    return path


def read(path: str | Path) -> Registration:
    """Read what `save` wrote.

    Raises:
        HandFileError: a missing, damaged or incomplete file.
    """
    path = Path(path)
    try:
        content = files.read_arrays(path)
        ways = []
        for way in ("forward", "backward"):
            arrays = {f.name: content[f"{way}_{f.name}"] for f in fields(HandMap)}
            numbers = {n: int(a) for n, a in arrays.items() if a.ndim == 0}
            ways.append(HandMap(**numbers, **{n: torch.from_numpy(a) for n, a in arrays.items() if n not in numbers}))
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise HandFileError(f"{path}: no readable registration ({error}); run tools/register_hand.py again") from None
    quality = {key.removeprefix("quality_"): float(v) for key, v in content.items() if key.startswith("quality_")}
    return Registration(*ways, quality)


def find(source: int, target: int, folder: str | Path | None = None) -> HandMap | None:
    """The map from one hand to another, both by fingerprint, if it was registered on this machine.

    Raises:
        HandFileError: its file is damaged.
    """
    folder = Path(folder or paths.MANO_ASSETS)
    for first, second, way in ((source, target, "forward"), (target, source, "backward")):
        path = folder / f"{REGISTRATION}{fingerprint_to_hex(first)}_{fingerprint_to_hex(second)}.npz"
        if path.is_file():
            return getattr(read(path), way)
    return None


def registration_hint(source: int, target: int) -> str:
    """How a user makes the missing map between two hands, given by their fingerprints."""
    return (
        f"register the hands {fingerprint_to_hex(source)} and {fingerprint_to_hex(target)} once: "
        "python tools/register_hand.py --mano DIR (docs/evaluation.md)"
    )


def _where(mask: Bool[Tensor, "*b"], a: Shaped[Tensor, "*n"], b: Shaped[Tensor, "*n"]) -> Tensor:
    return torch.where(mask.reshape(mask.shape + (1,) * (a.dim() - mask.dim())), a, b)
