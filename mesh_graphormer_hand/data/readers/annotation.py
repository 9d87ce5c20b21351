"""One hand in one image as its files have it, and the sample that it becomes: checks, crop, mirror, masks.

Pixels: official labels are taken as they stand, measured from the image's corner; most of these sets do not say whether
they mean a pixel's corner or its centre, which is half a pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ...contracts import HandInputs, HandTargets
from ...geometry.crops import (
    apply_affine,
    box_to_square,
    compose_affine,
    crop_affine,
    homogeneous,
    invert_affine,
    mirror_affine,
)
from ...skeleton import NUM_JOINTS, NUM_VERTICES
from ..images import DataError
from . import plausibility

MIN_BOX_PX = 2.0


@dataclass
class Annotation:
    """One hand in one image, as its files have it: px of the image, m, camera axes, canonical order, not mirrored.

    Joints that the files do not know are False in the masks; whatever is True there has to be a number.
    """

    key: str  # names the sample in predictions and reports
    where: str  # file and index, for messages
    image: Path
    size: tuple[int, int] = (0, 0)  # width and height of the image by its labels, px; 0: they do not say
    own: bool = False  # labels of one's own: see `plausibility.find`
    is_left: bool = False
    box: Float[np.ndarray, "4"] | None = None  # x0, y0, x1, y1; None: round the known 2D joints
    box_source: str = "box"  # what it encloses, of config.CROP_SOURCES
    whole: bool = False  # the image is a crop already: take all of it
    elsewhere: bool = False  # labelled from other cameras, too: the hand may lie outside this image
    points: Float[np.ndarray, "21 2"] | None = None  # None: projected joints
    points_valid: Bool[np.ndarray, "21"] | None = None  # None: all
    joints: Float[np.ndarray, "21 3"] | None = None
    joints_valid: Bool[np.ndarray, "21"] | None = None
    visible: Bool[np.ndarray, "21"] | None = None
    relative: bool = False  # joints are relative to the wrist, and where that stands is not known
    intrinsics: Float[np.ndarray, "3 3"] | None = None
    vertices: Float[np.ndarray, "778 3"] | None = None
    mesh_joints: Float[np.ndarray, "21 3"] | None = None  # the vertices' own, where `joints` have another definition
    pose: Float[np.ndarray, "16 3"] | None = None  # of the hand's own side, mean pose included, wrist in camera axes
    shape: Float[np.ndarray, "10"] | None = None
    hand: int = 0  # fingerprint of vertices, pose and shape
    mask: Callable[[], Bool[np.ndarray, "h w"]] | None = None
    depth: Callable[[], Float[np.ndarray, "h w"]] | None = None  # m


def project(joints: Float[np.ndarray, "n 3"], intrinsics: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    """Pixels of points (m, camera axes); behind the camera: where they would be, for `check` to refuse."""
    uvw = joints @ intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return uvw[:, :2] / uvw[:, 2:]


def pinhole(fx: float, fy: float, cx: float, cy: float) -> Float[np.ndarray, "3 3"]:
    """The matrix of a pinhole camera, px."""
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], float)


def completed(a: Annotation) -> Annotation:
    """The annotation with every mask there, and projected joints where it has no 2D ones."""
    joints_valid = a.joints_valid
    if a.joints is not None and joints_valid is None:
        joints_valid = np.ones(NUM_JOINTS, bool)
    points, points_valid = a.points, a.points_valid
    if points is None and a.joints is not None and a.intrinsics is not None:
        points = project(a.joints, a.intrinsics)
        points_valid = joints_valid if points_valid is None else points_valid
    if points is not None and points_valid is None:
        points_valid = np.ones(NUM_JOINTS, bool)
    return replace(a, joints_valid=joints_valid, points=points, points_valid=points_valid)


def check(a: Annotation, width: int, height: int) -> None:
    """Refuse labels that cannot be true; see `plausibility`.

    Raises:
        DataError: NaN, joints behind the camera, another unit, other axes, another image size, a hand outside the
            image, an empty box; names file and index.
    """
    known = {}
    for what, values, valid in (("joints", a.joints, a.joints_valid), ("2D joints", a.points, a.points_valid)):
        if values is not None and (wrong := np.flatnonzero(valid & ~np.isfinite(values).all(-1))).size:
            # a NaN in 3D makes one in 2D: the first is the cause
            raise DataError(f"{a.where}: joint {wrong[0]} of the {what} is NaN or infinite")
        known[what] = None if values is None else np.where(valid[:, None], values, np.nan)
    parts = (("K", a.intrinsics), ("vertices", a.vertices), ("pose", a.pose), ("shape", a.shape), ("box", a.box))
    for what, values in parts:
        if values is not None and not np.isfinite(values).all():
            raise DataError(f"{a.where}: {what} holds NaN or infinity")
    if a.box is not None and not (a.box[2:] > a.box[:2]).all():
        raise DataError(f"{a.where}: the hand's box {a.box.tolist()} is empty")
    size, joints = (width, height), known["joints"]
    bounds = size if in_image(a, width, height) or not a.elsewhere else None
    problem = plausibility.of_size(a.size, size) if all(a.size) else None
    problem = problem or plausibility.find(
        points=known["2D joints"], joints=joints, K=a.intrinsics, box=a.box, size=bounds, own=a.own
    )
    problem = problem or (plausibility.of_vertices(a.vertices, joints) if a.vertices is not None else None)
    problem = problem or plausibility.of_fit(a.mesh_joints, joints)
    if problem := problem or plausibility.of_parameters(a.pose, a.shape):
        raise DataError(f"{a.where}: {problem.message}")
    if a.box is not None and (problem := plausibility.of_box_in(a.box, size)):
        raise DataError(f"{a.where}: {problem.message}")
    if a.box is None and not a.whole and not (a.points is not None and a.points_valid.any()):
        raise DataError(f"{a.where}: nothing says where the hand is")


def in_image(a: Annotation, width: int, height: int) -> bool:
    """Whether a known 2D joint lies in the image; True where none is known."""
    if a.points is None or not a.points_valid.any():
        return True
    return bool((((a.points >= 0) & (a.points <= [width, height])).all(-1) & a.points_valid).any())


def placement(a: Annotation, width: int, height: int, scale: float, size: int) -> Float[Tensor, "2 3"]:
    """image_from_crop of the annotation's square, mirrored for a left hand."""
    if a.whole:
        box, scale = np.array([0.0, 0.0, width, height]), 1.0
    elif a.box is not None:
        box = a.box
    else:
        known = a.points[a.points_valid]
        box = np.concatenate([known.min(0), known.max(0)])
    centre, side = box_to_square(torch.as_tensor(np.asarray(box, np.float32)), scale)
    place = crop_affine(centre, side.clamp_min(MIN_BOX_PX), size)
    return compose_affine(place, mirror_affine(size, place)) if a.is_left else place


def to_sample(a: Annotation, place: Float[Tensor, "2 3"], size: int, mesh: bool) -> tuple[HandInputs, HandTargets]:
    """Every label in the crop's frame, of a right hand; what is unknown is zeros with a False mask."""
    crop_from_image = invert_affine(place)
    mirror = torch.tensor([-1.0 if a.is_left else 1.0, 1.0, 1.0])
    points, known_2d = _known(a.points, a.points_valid, 2)
    joints, known_3d = _known(a.joints, a.joints_valid, 3)
    joints = joints * mirror
    root, has_root = joints[0], known_3d[0]
    known_3d = known_3d & has_root  # joints are relative to the wrist: without it there are none
    camera = torch.zeros(3, 3) if a.intrinsics is None else torch.from_numpy(a.intrinsics.astype(np.float32))
    inputs = HandInputs(
        intrinsics=homogeneous(crop_from_image) @ camera * mirror,
        intrinsics_valid=torch.tensor(a.intrinsics is not None),
    )
    targets = HandTargets(
        joints=torch.where(known_3d[:, None], joints - root, 0.0),
        joints_valid=known_3d,
        joints_2d=torch.where(known_2d[:, None], apply_affine(points, crop_from_image), 0.0),
        joints_2d_valid=known_2d,
        root=torch.where(has_root, root, 0.0),
        root_valid=has_root & (not a.relative),
        crop_size=torch.tensor(float(size)),
        is_left=torch.tensor(a.is_left),
        hand=torch.tensor(a.hand),
    )
    if a.visible is not None:
        targets = replace(targets, joints_visible=torch.from_numpy(np.array(a.visible, bool)))
    return inputs, _with_mesh(a, targets, mirror) if mesh else targets


def _with_mesh(a: Annotation, targets: HandTargets, mirror: Float[Tensor, "3"]) -> HandTargets:
    def tensor(value: Float[np.ndarray, "..."] | None, *shape: int) -> Tensor:
        return torch.zeros(shape) if value is None else torch.from_numpy(np.array(value, np.float64))

    wrist = None if a.mesh_joints is None else a.mesh_joints[0]
    if wrist is None and bool(targets.root_valid):
        wrist = a.joints[0]
    has_mesh = torch.tensor(a.vertices is not None and wrist is not None)
    vertices = ((tensor(a.vertices, NUM_VERTICES, 3) - tensor(wrist, 3)) * mirror).float()
    turn = torch.tensor([1.0, -1.0, -1.0]) if a.is_left else torch.ones(3)
    return replace(
        targets,
        vertices=torch.where(has_mesh, vertices, 0.0),
        vertices_valid=has_mesh,
        pose=(tensor(a.pose, 16, 3) * turn).float(),
        shape=tensor(a.shape, 10).float(),
        mano_valid=torch.tensor(a.pose is not None and a.shape is not None),
    )


def _known(
    values: Float[np.ndarray, "21 c"] | None, valid: Bool[np.ndarray, "21"] | None, columns: int
) -> tuple[Tensor, Tensor]:
    if values is None:
        return torch.zeros(NUM_JOINTS, columns), torch.zeros(NUM_JOINTS, dtype=torch.bool)
    known = np.asarray(valid, bool)
    return torch.from_numpy(np.where(known[:, None], values, 0.0).astype(np.float32)), torch.from_numpy(known)


def crop_label_image(image: Shaped[np.ndarray, "h w"], image_from_crop: Float[Tensor, "2 3"], size: int) -> np.ndarray:
    """The crop of a label image: nearest values, 0 beyond the image."""
    matrix = image_from_crop.double().numpy().copy()
    matrix[:, 2] += matrix[:, :2].sum(-1) / 2 - 0.5  # OpenCV measures from the first pixel's centre
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
