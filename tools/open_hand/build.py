"""All stages, from bones to MANO's arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from mesh_graphormer_hand.skeleton import MODEL_PARENTS

from . import colours, correctives, forearm, meshes, poses, shapes, together, weights
from .anatomy import ASSET_FROM_HAND, TIP_VERTICES, WRIST_PLANE, from_asset, to_asset
from .meshes import Mesh
from .surface import Hand

STAGES = ("template", "weights", "render mesh", "shape space", "pose correctives", "pose components", "colours")
KEPT_STAGES = ("meshes", *STAGES[3:])
Arrays = dict[str, np.ndarray]


class Meshes(NamedTuple):
    """The template and the render mesh, their skin weights, the template's wrist loop."""

    mesh: Mesh
    fine: Mesh
    skin: np.ndarray
    fine_skin: np.ndarray
    loop: np.ndarray


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
    yield from _rig(hand, arrays, Meshes(mesh, fine, skin, fine_skin, new[loop]))


def kept_stages(hand: Hand, arrays: Arrays, old: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Another hand on the triangles and skin weights of `old`: every vertex keeps its number and its meaning.

    One step of the iterator is one of KEPT_STAGES.
    """
    mesh, fine = _carried_over(hand, old, "v_template", "faces"), _carried_over(hand, old, "hi_v", "hi_faces", True)
    frozen = mesh.rim.copy()
    frozen[list(TIP_VERTICES.values())] = True
    mesh.vertices = meshes.straddle(hand, mesh.vertices, mesh.faces, frozen, rounds=6)
    skins = old["weights"].astype(float), old["hi_weights"].astype(float)
    yield
    yield from _rig(hand, arrays, Meshes(mesh, fine, *skins, old["wrist_loop"]))


def _carried_over(hand: Hand, old: Mapping[str, np.ndarray], points: str, faces: str, relief: bool = False) -> Mesh:
    vertices = from_asset(old[points].astype(float) * 1e3)
    rim = meshes.open_vertices(vertices, old[faces])
    on_rim = vertices[rim]
    on_rim[:, 0] = WRIST_PLANE
    step = 0.6 if relief else 2.0
    vertices = hand.project(vertices, 5, relief, max_step=step)
    vertices[rim] = hand.project(on_rim, 4, relief, in_plane=np.ones(len(on_rim), bool))
    return Mesh(vertices, old[faces].astype(np.int64), rim)


def _rig(hand: Hand, arrays: Arrays, made: Meshes) -> Iterator[None]:
    """Shape space, correctives, poses and paint of meshes with skin weights."""
    mesh, fine, skin, fine_skin, loop = made
    (shape, fine_shape), joint_shape = shapes.shape_directions(hand, [mesh, fine], [skin, fine_skin])
    regressor = shapes.joint_regressor(mesh.vertices, hand.joints, shape, joint_shape)
    yield
    pose, fine_pose = (_correctives(hand, m.vertices, w) for m, w in ((mesh, skin), (fine, fine_skin)))
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
        "wrist_loop": loop.astype(np.int32),
        "hi_v": _metres(fine.vertices),
        "hi_faces": fine.faces.astype(np.int32),
        "hi_weights": fine_skin.astype(np.float32),
        "hi_shapedirs": _directions(fine_shape).astype(np.float32).astype(np.float16),
        "hi_posedirs": correctives.to_asset_frame(fine_pose).astype(np.float32).astype(np.float16),
        "hi_color": paint.astype(np.float32),
        "hi_gloss": gloss.astype(np.float32),
    }
    arrays |= forearm.arrays(arrays, made.fine.rim)
    yield


def _correctives(hand: Hand, x: np.ndarray, skin: np.ndarray) -> np.ndarray:
    normals = hand.normals(x)
    return together.refine(hand, x, normals, skin, correctives.pose_directions(hand, x, normals, skin))


def _metres(points: np.ndarray) -> np.ndarray:
    return (to_asset(points) * 1e-3).astype(np.float32)


def _directions(directions: np.ndarray) -> np.ndarray:
    return np.einsum("ab,nbk->nak", ASSET_FROM_HAND, directions) * 1e-3
