"""MANO parameters from a mesh: the pose, shape and translation whose skin lies on given vertices.

A start in closed form: each joint's world rotation is the one that turns the rest pose's skin round it onto the given
skin (weighted Kabsch, 1976). Then Levenberg-Marquardt steps on all parameters together, with the exact derivative of
`layer.skin`, pose correctives included. One pass over a batch; nothing is random.

    fitted = fit_mano(hand, vertices)                       # m, (b, 778, 3)
    layer = ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand)
    layer(fitted.pose.flatten(1), fitted.shape, fitted.translation)[0]      # those vertices again
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import Record
from ..geometry.rotations import axis_angle_to_matrix, cross_matrix, matrix_to_axis_angle
from .hand import NUM_BETAS, Hand
from .layer import ManoLayer, SkinTensors, kinematics, skin_tensors

JOINTS, XYZ = 16, 3
TURNS = JOINTS * XYZ  # rows of the derivative that turn joints; translation and shape follow
DAMPING = 1e-4  # of each parameter's own curvature
NOISE = 1e-3  # m: deviation of given vertices from any MANO skin that is taken for granted
TOGETHER = 16  # hands whose derivatives are made at once: 0.6 MB each


@dataclass(frozen=True)
class ManoFit(Record):
    """Parameters of `ManoLayer(use_pca=False, flat_hand_mean=True)`."""

    pose: Float[Tensor, "b 16 3"]  # rad, axis-angle of each joint relative to its parent; the wrist's turns the hand
    shape: Float[Tensor, "b 10"]  # betas
    translation: Float[Tensor, "b 3"]  # m, added after posing
    residual: Float[Tensor, "b"]  # m, mean distance between the fitted skin and the given vertices


@dataclass(frozen=True, eq=False)
class _Constants:
    skin: SkinTensors
    rest_parts: Float[Tensor, "16 v 3"]  # m, the template about the weighted centre of each joint's skin
    shares: Float[Tensor, "16 v"]  # skinning weights of each joint, adding up to 1
    below: Float[Tensor, "16 16"]  # [k, j] = 1: turning joint k moves joint j
    reach: Float[Tensor, "16 v"]  # how much of a vertex moves with joint k
    directions: Float[Tensor, "15 9 n"]  # m, pose correctives of joints 1-15
    parents: list[int]


@dataclass(frozen=True)
class _State(Record):
    """Parameters under way."""

    rotations: Float[Tensor, "b 16 3 3"]  # relative to the parent
    shape: Float[Tensor, "b 10"]
    translation: Float[Tensor, "b 3"]


@torch.no_grad()
def fit_mano(
    hand: Hand,
    vertices: Float[Tensor, "b 778 3"],
    shape: Float[Tensor, "#b 10"] | None = None,
    steps: int = 3,
    noise: float = NOISE,
) -> ManoFit:
    """The parameters that explain meshes best, in the least-squares sense.

    Args:
        hand: whose mesh it is; vertices of another hand give a fit without meaning.
        vertices: m, in any axes and anywhere; a scaled hand is explained by shape alone.
        shape: betas to keep, where a person's are known; None: they are fitted.
        steps: after the start in closed form; 3 suffice for meshes that the layer made.
        noise: m; the more, the closer to 0 stay the betas (a Gaussian prior of deviation 1).

    Raises:
        ValueError: vertices that are not (b, 778, 3) or not finite, or a shape that does not fit them.
    """
    if vertices.dim() != 3 or tuple(vertices.shape[1:]) != hand.v_template.shape:
        raise ValueError(f"vertices have the shape {tuple(vertices.shape)}, a hand's have (b, 778, 3)")
    if not bool(vertices.isfinite().all()):
        raise ValueError("vertices hold numbers that are not finite: no hand explains them")
    if shape is not None and (shape.dim() != 2 or shape.shape[1] != NUM_BETAS or len(shape) not in (1, len(vertices))):
        raise ValueError(f"shape has the shape {tuple(shape.shape)}, {len(vertices)} hands take ({len(vertices)}, 10)")
    dtype = torch.promote_types(vertices.dtype, torch.float32)
    constants = _constants(hand, vertices.device, dtype)
    target = vertices.to(dtype).transpose(1, 2).flatten(1)
    kept = None if shape is None else shape.to(target).expand(len(target), -1)
    parts = [slice(i, i + TOGETHER) for i in range(0, len(target), TOGETHER)]
    fits = [_fit(constants, target[p], None if kept is None else kept[p], steps, noise) for p in parts]
    return ManoFit.cat(fits) if fits else _nothing(target)


def posed_mesh(
    hand: Hand, pose: Float[Tensor, "b 16 3"], shape: Float[Tensor, "b 10"]
) -> tuple[Float[Tensor, "b 778 3"], Float[Tensor, "b 21 3"]]:
    """Vertices and joints (m) of a fit's pose and shape, relative to the wrist."""
    vertices, joints = _layer(hand)(pose.flatten(1), shape)
    return vertices - joints[:, :1], joints - joints[:, :1]


@lru_cache(maxsize=2)
def _layer(hand: Hand) -> ManoLayer:
    return ManoLayer(use_pca=False, flat_hand_mean=True, hand=hand)


def _fit(
    constants: _Constants, target: Float[Tensor, "b n"], shape: Float[Tensor, "b 10"] | None, steps: int, noise: float
) -> ManoFit:
    state = _start(constants, target, shape)
    best, least = state, torch.full_like(target[:, 0], torch.inf)
    for step in range(steps + 1):
        skin, jacobian = _linearise(constants, state, shape is None, last=step == steps)
        gap = target - skin
        distance = gap.unflatten(1, (XYZ, -1)).square().sum(1).sqrt().mean(1)
        better = distance < least
        best = _choose(better, state, best)
        least = torch.where(better, distance, least)
        if jacobian is not None:
            state = _step(constants, state, jacobian, gap, noise)
    return ManoFit(matrix_to_axis_angle(best.rotations), best.shape, best.translation, least)


def _start(constants: _Constants, target: Float[Tensor, "b n"], shape: Float[Tensor, "b 10"] | None) -> _State:
    """World rotations joint by joint, then relative ones; the mean shape unless one is known."""
    points = target.unflatten(1, (XYZ, -1))
    covariance = torch.einsum("jvr,jv,bcv->bjcr", constants.rest_parts, constants.shares, points)
    u, _, vh = torch.linalg.svd(covariance)
    u = torch.cat([u[..., :2], u[..., 2:] * torch.linalg.det(u @ vh)[..., None, None]], -1)
    world = u @ vh
    parents = world[:, constants.parents[1:]]
    rotations = torch.cat([world[:, :1], parents.transpose(-1, -2) @ world[:, 1:]], 1)
    shape = target.new_zeros(len(target), NUM_BETAS) if shape is None else shape
    state = _State(rotations, shape, target.new_zeros(len(target), XYZ))
    skin, _ = _linearise(constants, state, False, last=True)
    return _State(rotations, shape, (points - skin.unflatten(1, (XYZ, -1))).mean(-1))


def _linearise(
    constants: _Constants, state: _State, with_shape: bool, last: bool
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b p n"] | None]:
    """The skin, all x, then all y, then all z, and its derivative by turns about the parents' axes, translation (x, y,
    z) and shape; no derivative for the `last` time."""
    mesh, rotations = constants.skin, state.rotations
    batch, eye = len(rotations), torch.eye(XYZ, dtype=rotations.dtype, device=rotations.device)
    joints = torch.addmm(mesh.joints, state.shape, mesh.joint_directions).view(batch, JOINTS, XYZ)
    coefficients = torch.cat([state.shape, (rotations[:, 1:] - eye).flatten(1)], 1)
    rest = torch.addmm(mesh.template, coefficients, mesh.directions).view(batch, XYZ, -1)
    world, places = kinematics(rotations, joints)
    offsets = places - (world @ joints[..., None])[..., 0]
    moved = mesh.weights[:, None] * (world @ rest[:, None] + offsets[..., None])  # b 16 3 v
    skin = moved.sum(1) + state.translation[..., None]
    if last:
        return skin.flatten(1), None
    blended = torch.einsum("bjrc,jv->brcv", world, mesh.weights)
    rows = [_turns(constants, rotations, world, places, moved, blended), _shifts(skin)]
    if with_shape:
        rows.append(_shapes(constants, world, blended))
    return skin.flatten(1), torch.cat(rows, 1)


def _turns(
    constants: _Constants,
    rotations: Float[Tensor, "b 16 3 3"],
    world: Float[Tensor, "b 16 3 3"],
    places: Float[Tensor, "b 16 3"],
    moved: Float[Tensor, "b 16 3 v"],
    blended: Float[Tensor, "b 3 3 v"],
) -> Float[Tensor, "b 48 n"]:
    """Derivative by a turn of each joint about its parent's x, y, z: the skin beyond it swings, correctives change."""
    batch = len(rotations)
    levers = (constants.below @ moved.flatten(2)).unflatten(2, (XYZ, -1))
    levers = levers - places[..., None] * constants.reach[:, None]
    eye = torch.eye(XYZ, dtype=world.dtype, device=world.device)
    axes = torch.cat([eye.expand(batch, 1, XYZ, XYZ), world[:, constants.parents[1:]]], 1).transpose(-1, -2)
    swing = cross_matrix(axes) @ levers[:, :, None]  # b 16 3 (axis) 3 v
    change = (cross_matrix(eye) @ rotations[:, 1:, None]).flatten(-2)  # b 15 3 9: of the relative rotation
    corrective = (change @ constants.directions).unflatten(-1, (XYZ, -1))
    swing[:, 1:] += _rotate(blended, corrective.flatten(1, 2)).unflatten(1, (JOINTS - 1, XYZ))
    return swing.reshape(batch, TURNS, -1)


def _shifts(skin: Float[Tensor, "b 3 v"]) -> Float[Tensor, "b 3 n"]:
    eye = torch.eye(XYZ, dtype=skin.dtype, device=skin.device)
    return eye[..., None].expand(len(skin), XYZ, XYZ, skin.shape[-1]).flatten(2)


def _shapes(
    constants: _Constants, world: Float[Tensor, "b 16 3 3"], blended: Float[Tensor, "b 3 3 v"]
) -> Float[Tensor, "b 10 n"]:
    """Derivative by each beta: the rest skin and the joints move, and everything is posed as before."""
    mesh = constants.skin
    rest = mesh.directions[:NUM_BETAS].unflatten(1, (XYZ, -1))
    joints = mesh.joint_directions.view(NUM_BETAS, JOINTS, XYZ)
    bones = joints - torch.cat([torch.zeros_like(joints[:, :1]), joints[:, constants.parents[1:]]], 1)
    parents = torch.cat([torch.eye(XYZ).to(world).expand(len(world), 1, XYZ, XYZ), world[:, constants.parents[1:]]], 1)
    # a joint's place is the sum of its ancestors' bones, each turned with the bone's own parent
    places = torch.einsum("kj,bkrc,skc->bsjr", constants.below, parents, bones)
    offsets = places - torch.einsum("bjrc,sjc->bsjr", world, joints)
    posed = _rotate(blended, rest.expand(len(world), *rest.shape))
    return (posed + offsets.transpose(-1, -2) @ mesh.weights).flatten(2)


def _rotate(blended: Float[Tensor, "b 3 3 v"], directions: Float[Tensor, "b p 3 v"]) -> Float[Tensor, "b p 3 v"]:
    """Directions at rest as the posed skin shows them."""
    rows = []
    for row in range(XYZ):
        total = blended[:, None, row, 0] * directions[:, :, 0]
        for column in (1, 2):
            total = torch.addcmul(total, blended[:, None, row, column], directions[:, :, column])
        rows.append(total)
    return torch.stack(rows, 2)


def _step(
    constants: _Constants, state: _State, jacobian: Float[Tensor, "b p n"], gap: Float[Tensor, "b n"], noise: float
) -> _State:
    """One damped Gauss-Newton step on the squared gap, with a Gaussian prior on the shape."""
    curvature = jacobian @ jacobian.transpose(-1, -2)
    slope = (jacobian @ gap[..., None])[..., 0]
    prior = torch.zeros_like(slope)
    if with_shape := slope.shape[1] > TURNS + XYZ:
        prior[:, -NUM_BETAS:] = noise**2
        slope[:, -NUM_BETAS:] -= noise**2 * state.shape
    own = curvature.diagonal(dim1=-2, dim2=-1)
    curvature = curvature + torch.diag_embed(prior + DAMPING * own + 1e-12)
    change = torch.linalg.solve(curvature, slope)
    turn = axis_angle_to_matrix(change[:, :TURNS].unflatten(1, (JOINTS, XYZ)))
    shape = state.shape + change[:, -NUM_BETAS:] if with_shape else state.shape
    return _State(turn @ state.rotations, shape, state.translation + change[:, TURNS : TURNS + XYZ])


def _choose(mask: Bool[Tensor, "b"], new: _State, old: _State) -> _State:
    def pick(a: Float[Tensor, "b *n"], b: Float[Tensor, "b *n"]) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (a.dim() - 1)), a, b)

    return _State(*(pick(getattr(new, n), getattr(old, n)) for n in ("rotations", "shape", "translation")))


def _nothing(target: Float[Tensor, "0 n"]) -> ManoFit:
    sizes = (0, JOINTS, XYZ), (0, NUM_BETAS), (0, XYZ), (0,)
    return ManoFit(*(target.new_zeros(size) for size in sizes))


@lru_cache(maxsize=8)
def _constants(hand: Hand, device: torch.device, dtype: torch.dtype) -> _Constants:
    with torch.inference_mode(False):
        mesh = skin_tensors(hand, device=device, dtype=dtype)
        below = torch.eye(JOINTS, dtype=dtype, device=device)
        for joint in range(JOINTS - 1, 0, -1):
            below[hand.parents[joint]] += below[joint]
        shares = mesh.weights / mesh.weights.sum(1, keepdim=True)
        template = mesh.template.view(XYZ, -1).T
        return _Constants(
            skin=mesh,
            rest_parts=template - (shares @ template)[:, None],
            shares=shares,
            below=below,
            reach=below @ mesh.weights,
            directions=mesh.directions[NUM_BETAS:].reshape(JOINTS - 1, 9, -1),
            parents=[0, *hand.parents[1:]],
        )
