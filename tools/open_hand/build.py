"""All stages, from bones to MANO's arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mesh_graphormer_hand.skeleton import MODEL_PARENTS

from . import colours, correctives, meshes, poses, shapes, weights
from .anatomy import ASSET_FROM_HAND, TIP_VERTICES, to_asset
from .meshes import Mesh
from .surface import Hand

STAGES = ("template", "weights", "render mesh", "shape space", "pose correctives", "pose components", "colours")
Arrays = dict[str, np.ndarray]


def stages(hand: Hand, arrays: Arrays, fast: bool = False) -> Iterator[None]:
    """Build the open hand into `arrays`; one step of the iterator is one of STAGES. Deterministic.

    Args:
        hand: the average hand.
        arrays: filled with MANO's arrays (metres, asset frame), and those of the render mesh as hi_*.
        fast: no render mesh of its own: the template stands in for it.
    """
    raw, loop, tips = meshes.template(hand)
    yield
    member = weights.membership(hand)
    first = weights.skin_weights(hand, raw.vertices, member)
    old, new, faces = meshes.order(raw, first, tips)
    mesh = Mesh(raw.vertices[old], faces, raw.rim[old])
    skin = weights.smooth(first[old], faces, 1, 0.35)
    frozen = mesh.rim.copy()
    frozen[list(TIP_VERTICES.values())] = True
    mesh.vertices = meshes.straddle(hand, mesh.vertices, faces, frozen)
    yield
    fine = mesh if fast else meshes.render_mesh(hand)
    fine_skin = weights.smooth(weights.skin_weights(hand, fine.vertices, member), fine.faces, 3, 0.5)
    yield
    (shape, fine_shape), joint_shape = shapes.shape_directions(hand, [mesh, fine], [skin, fine_skin])
    regressor = shapes.joint_regressor(mesh.vertices, hand.joints, shape, joint_shape)
    yield
    pose = correctives.pose_directions(hand, mesh.vertices, hand.normals(mesh.vertices), skin)
    fine_pose = correctives.pose_directions(hand, fine.vertices, hand.normals(fine.vertices), fine_skin)
    yield
    mean, components, deviations = poses.principal_components(hand)
    yield
    paint, gloss = colours.colours(hand, fine.vertices, hand.normals(fine.vertices, relief=True))
    arrays |= {
        "v_template": _metres(mesh.vertices),
        "faces": mesh.faces.astype(np.int32),
        "weights": skin.astype(np.float32),
        "J_regressor": regressor.astype(np.float32),
        "kintree_parents": np.array(MODEL_PARENTS, np.int32),
        "shapedirs": _directions(shape).astype(np.float32),
        "posedirs": correctives.to_asset_frame(pose).astype(np.float32),
        "hands_components": components.astype(np.float32),
        "hands_mean": mean.astype(np.float32),
        "hands_std": deviations.astype(np.float32),
        "J": _metres(hand.joints),
        "wrist_loop": new[loop].astype(np.int32),
        "hi_v": _metres(fine.vertices),
        "hi_faces": fine.faces.astype(np.int32),
        "hi_weights": fine_skin.astype(np.float32),
        "hi_shapedirs": _directions(fine_shape).astype(np.float32).astype(np.float16),
        "hi_posedirs": correctives.to_asset_frame(fine_pose).astype(np.float32).astype(np.float16),
        "hi_color": paint.astype(np.float32),
        "hi_gloss": gloss.astype(np.float32),
    }
    yield


def _metres(points: np.ndarray) -> np.ndarray:
    return (to_asset(points) * 1e-3).astype(np.float32)


def _directions(directions: np.ndarray) -> np.ndarray:
    return np.einsum("ab,nbk->nak", ASSET_FROM_HAND, directions) * 1e-3
