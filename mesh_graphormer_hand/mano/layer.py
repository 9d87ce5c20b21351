"""The hand layer: pose and shape in, skin and joints out. Differentiable, batched, any device and dtype.

`skin` is linear blend skinning with shape and pose correctives (Romero et al., "Embodied Hands", SIGGRAPH Asia 2017):

    rest      = template + shapedirs betas + posedirs (rotations of joints 1-15 minus identity)
    joints    = joint_regressor (template + shapedirs betas)
    vertices  = sum over joints of weight * (world rotation (rest - joint) + world position of the joint)

`ManoLayer` puts manopth's arguments in front of it. Units are metres (manopth returns millimetres).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..contracts import Record
from ..geometry.rotations import axis_angle_to_matrix, rotation_6d_to_matrix
from ..skeleton import FINGERTIPS, PERMUTATIONS
from .hand import NUM_BETAS, NUM_COMPONENTS, Hand, RenderMesh, Side, load


@dataclass(frozen=True)
class SkinTensors(Record):
    """What `skin` needs of a mesh bound to the 16 joints, laid out so that posing is two matrix products."""

    template: Float[Tensor, "n"]  # m; n = 3 v: all x, then all y, then all z
    directions: Float[Tensor, "145 n"]  # 10 shape, then 135 pose directions, m
    weights: Float[Tensor, "16 v"]
    joints: Float[Tensor, "48"]  # m, rest joints
    joint_directions: Float[Tensor, "10 48"]  # m


def skin_tensors(
    hand: Hand, mesh: RenderMesh | None = None, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> SkinTensors:
    """The tensors of the hand's own 778 vertices, or of a finer mesh on the same skeleton (`hand.render`)."""
    vertices = hand.v_template if mesh is None else mesh.vertices
    source = hand if mesh is None else mesh
    directions = np.concatenate([source.shapedirs, source.posedirs], 2)  # v 3 145
    regressor = hand.joint_regressor.astype(np.float64)
    joints = regressor @ hand.v_template
    joint_directions = np.einsum("jv,vck->kjc", regressor, hand.shapedirs)

    def tensor(array: Float[np.ndarray, "*n"]) -> Tensor:
        return torch.from_numpy(np.array(array, order="C")).to(device=device, dtype=dtype)

    return SkinTensors(
        template=tensor(vertices.T).reshape(-1),
        directions=tensor(directions.transpose(2, 1, 0)).flatten(1),
        weights=tensor(source.weights.T),
        joints=tensor(joints).reshape(-1),
        joint_directions=tensor(joint_directions).flatten(1),
    )


def skin(
    mesh: SkinTensors, rotations: Float[Tensor, "b 16 3 3"], betas: Float[Tensor, "b 10"]
) -> tuple[Float[Tensor, "b v 3"], Float[Tensor, "b 16 3"]]:
    """Pose a mesh.

    Args:
        mesh: from `skin_tensors`.
        rotations: of each joint relative to its parent; the first turns the whole hand about its wrist.
        betas: shape coefficients.

    Returns:
        Vertices and the 16 joints in metres; the wrist stays where the rest pose has it. Never run in half precision
        by autocast: millimetres are lost there.
    """
    with _full_precision(rotations.device.type):
        batch = rotations.shape[0]
        rotations, betas = rotations.to(mesh.template.dtype), betas.to(mesh.template.dtype)
        joints = torch.addmm(mesh.joints, betas, mesh.joint_directions).view(batch, 16, 3)
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        coefficients = torch.cat([betas, (rotations[:, 1:] - eye).flatten(1)], 1)
        rest = torch.addmm(mesh.template, coefficients, mesh.directions).view(batch, 1, 3, -1)
        world, positions = kinematics(rotations, joints)
        # One 3 x 4 transform a joint, blended over the joints for each vertex: b (row column) v
        offsets = positions - (world @ joints[..., None]).squeeze(-1)
        transforms = torch.cat([world, offsets[..., None]], -1).permute(0, 2, 3, 1).reshape(-1, 16)
        blended = (transforms @ mesh.weights).view(batch, 3, 4, -1)
        vertices = blended[:, :, 3]
        for axis in range(3):
            vertices = torch.addcmul(vertices, blended[:, :, axis], rest[:, :, axis])
        return vertices.transpose(1, 2).contiguous(), positions


def _full_precision(device_type: str) -> AbstractContextManager:
    """Autocast off, on those devices that have it."""
    available = torch.amp.is_autocast_available(device_type)
    return torch.autocast(device_type, enabled=False) if available else nullcontext()


def kinematics(
    rotations: Float[Tensor, "b 16 3 3"], joints: Float[Tensor, "b 16 3"]
) -> tuple[Float[Tensor, "b 16 3 3"], Float[Tensor, "b 16 3"]]:
    """World rotations and positions (m) of the joints, from those relative to their parents and the rest pose: the
    wrist, then the five fingers together, joint by joint."""
    rotation, position, parent = rotations[:, :1], joints[:, :1], joints[:, :1]
    worlds, positions = [], []
    for level in range(3):
        own = joints[:, 1 + level :: 3]
        position = position + (rotation @ (own - parent)[..., None]).squeeze(-1)
        rotation = rotation @ rotations[:, 1 + level :: 3]
        parent = own
        worlds.append(rotation)
        positions.append(position)
    fingers = torch.stack(worlds, 2).flatten(1, 2), torch.stack(positions, 2).flatten(1, 2)
    return torch.cat([rotations[:, :1], fingers[0]], 1), torch.cat([joints[:, :1], fingers[1]], 1)


class ManoLayer(nn.Module):
    """manopth's ManoLayer: its arguments and its results, in metres. Holds no parameters and saves nothing.

    Args:
        mano_root: where the hand is: a folder with MANO_RIGHT.pkl and MANO_LEFT.pkl, a file, "open" or "auto".
        use_pca: the finger pose is given in `ncomps` principal components instead of 45 axis-angle numbers.
        ncomps: how many components (1-45).
        flat_hand_mean: False: the finger pose is relative to the mean pose of the hand's file.
        side: "right" or "left".
        center_idx: joint (canonical order) that is put at the origin, None: leave the hand where it is.
        root_rot_mode: "axisang" (3 numbers) or "rot6d" (6 numbers; the first two COLUMNS of the matrix, as in manopth).
        hand: a loaded hand, instead of `mano_root`.

    Raises:
        ValueError: an argument that is out of range.
        HandFileError: no usable hand at `mano_root`.
    """

    def __init__(
        self,
        center_idx: int | None = None,
        flat_hand_mean: bool = True,
        ncomps: int = 6,
        side: Side = "right",
        mano_root: str | Path = "auto",
        use_pca: bool = True,
        root_rot_mode: str = "axisang",
        hand: Hand | None = None,
    ) -> None:
        super().__init__()
        if root_rot_mode not in ("axisang", "rot6d"):
            raise ValueError(f"root_rot_mode {root_rot_mode!r} should be 'axisang' or 'rot6d'")
        if not 1 <= ncomps <= NUM_COMPONENTS:
            raise ValueError(f"ncomps {ncomps} should lie in 1..{NUM_COMPONENTS}")
        if center_idx is not None and not 0 <= center_idx < 21:
            raise ValueError(f"center_idx {center_idx} should be one of the 21 joints, or None")
        self.hand = load(mano_root, side) if hand is None else hand
        if self.hand.side != side:
            raise ValueError(f"side={side!r}, but this is a {self.hand.side} hand")
        self.center_idx, self.use_pca, self.root_rot_mode = center_idx, use_pca, root_rot_mode
        self.root_size = 3 if root_rot_mode == "axisang" else 6
        self.pose_size = self.root_size + (ncomps if use_pca else NUM_COMPONENTS)
        for name, tensor in vars(skin_tensors(self.hand)).items():
            self.register_buffer(name, tensor, persistent=False)
        mean = np.zeros_like(self.hand.hands_mean) if flat_hand_mean else self.hand.hands_mean
        self.register_buffer("mean", torch.from_numpy(mean.copy()), persistent=False)
        self.register_buffer(
            "components", torch.from_numpy(self.hand.hands_components[:ncomps].copy()), persistent=False
        )
        self.register_buffer("tips", torch.from_numpy(np.array(FINGERTIPS[self.hand.tips])), persistent=False)
        self.register_buffer("order", torch.from_numpy(np.array(PERMUTATIONS["mano"])), persistent=False)

    @property
    def tensors(self) -> SkinTensors:
        """The layer's buffers as `skin` takes them."""
        return SkinTensors(self.template, self.directions, self.weights, self.joints, self.joint_directions)

    def rotations(self, pose: Float[Tensor, "b p"]) -> Float[Tensor, "b 16 3 3"]:
        """The 16 relative rotations that a pose vector stands for."""
        if pose.shape[-1] != self.pose_size:
            raise ValueError(f"pose has {pose.shape[-1]} numbers, this layer takes {self.pose_size}")
        pose = pose.to(self.mean.dtype)
        root, fingers = pose[:, : self.root_size], pose[:, self.root_size :]
        if self.use_pca:
            fingers = fingers @ self.components
        fingers = axis_angle_to_matrix((fingers + self.mean).unflatten(-1, (15, 3)))
        if self.root_rot_mode == "rot6d":
            return torch.cat([rotation_6d_to_matrix(root).transpose(-1, -2)[:, None], fingers], 1)
        return torch.cat([axis_angle_to_matrix(root)[:, None], fingers], 1)

    def forward(
        self,
        pose: Float[Tensor, "b p"],
        betas: Float[Tensor, "#b 10"] | None = None,
        trans: Float[Tensor, "#b 3"] | None = None,
    ) -> tuple[Float[Tensor, "b 778 3"], Float[Tensor, "b 21 3"]]:
        """Vertices and the 21 joints (canonical order, tips from the skin), metres.

        `center_idx` counts only where `trans` is absent or all zero, as in manopth: a translated hand is not centred.
        """
        rotations = self.rotations(pose)
        if betas is None:
            betas = rotations.new_zeros(1, NUM_BETAS)
        vertices, joints = skin(self.tensors, rotations, betas.expand(len(pose), NUM_BETAS))
        joints = torch.cat([joints, vertices[:, self.tips]], 1)[:, self.order]
        shift = vertices.new_zeros(1, 1, 3) if trans is None else trans.to(vertices.dtype)[:, None]
        if self.center_idx is not None:
            shift = shift - joints[:, self.center_idx, None] * (shift == 0).all()
        return vertices + shift, joints + shift
