"""Virtual hands: indices in, pictures with every label out.

(seed, split, index) decides a sample. Parameters are drawn on the CPU from a stream of each index's own; pictures are
rendered in aligned blocks of 16 indices, because batched products differ in their last bits with the batch's size. So a
sample has equal bytes alone or in a batch, with one worker or ten, on every run of one machine type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..contracts import HandBatch, HandInputs, HandTargets
from ..geometry.rotations import matrix_to_axis_angle
from ..mano.hand import Hand
from ..mano.layer import skin
from ..render.shading import Lights
from ..skeleton import NUM_VERTICES, PERMUTATIONS
from . import labels
from .config import VirtualConfig, check_labels
from .hand.anatomy import Anatomy
from .hand.skin_tone import linear_to_screen
from .imaging import sensor
from .imaging.render_mesh import (
    LABEL,
    RenderMesh,
    attach_rings,
    is_skin,
    joint_rotations,
    material,
    render_mesh,
    rest_vertices,
)
from .imaging.shading import GBuffer, Material, draw_hands
from .parameters import Parameters, draw
from .records import float_tensor
from .rng import Streams, generator
from .scene import background, second_hand
from .scene.parts import MeshPart

BLOCK = 16


class VirtualHands:
    """The generator of one split.

    Args:
        config: what to draw.
        hand: a right hand; its render mesh is drawn where it has one, else its own 778 vertices.
        extra: names of config.EXTRA_LABELS to make as well.
    """

    def __init__(self, config: VirtualConfig, hand: Hand, extra: Sequence[str] = ()) -> None:
        if hand.side != "right":
            raise ValueError("virtual hands are right hands: pass the right hand")
        check_labels(extra)
        self.config, self.hand, self.anatomy, self.extra = config, hand, Anatomy.of(hand), tuple(extra)
        self._last: tuple[tuple, HandBatch] | None = None

    def __len__(self) -> int:
        return self.config.count

    def render(self, indices: Sequence[int], device: torch.device | str = "cpu", image_size: int = 224) -> HandBatch:
        """The samples `indices`, in their order, on `device`, as square crops of `image_size` px.

        Raises:
            IndexError: an index outside 0 .. config.count - 1.
        """
        if outside := [i for i in indices if not 0 <= i < self.config.count]:
            raise IndexError(f"virtual samples {outside} lie outside 0..{self.config.count - 1}")
        rows: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            rows.setdefault(index // BLOCK, []).append(position)
        parts, order = [], []
        for block, positions in rows.items():
            parts.append(self._block(block, [indices[p] % BLOCK for p in positions], str(device), image_size))
            order += positions
        batch = parts[0] if len(parts) == 1 else HandBatch.cat(parts)
        return batch if order == sorted(order) else batch[torch.tensor(order).argsort()]

    @torch.no_grad()
    def _block(self, block: int, rows: list[int], device: str, size: int) -> HandBatch:
        """Rows of one block; the last that was not taken whole is kept. What is returned may be overwritten."""
        key = (block, device, size)
        if self._last is None or self._last[0] != key:
            made = self._make(range(block * BLOCK, (block + 1) * BLOCK), torch.device(device), size)
            if rows == list(range(BLOCK)):
                return made
            self._last = key, made
        return self._last[1][torch.tensor(rows)]

    def _make(self, indices: range, device: torch.device, size: int) -> HandBatch:
        shadows = bool(generator(self.config, indices.start, "block").random() < self.config.shadow)
        keys = [f"virtual/{self.config.split}/{i:06d}" for i in indices]
        return self.render_samples(draw(self.config, self.anatomy, indices), indices, keys, device, size, shadows)

    @torch.no_grad()
    def render_samples(
        self,
        p: Parameters,
        indices: Sequence[int],
        keys: list[str],
        device: torch.device,
        size: int,
        shadows: bool,
        scenes: Sequence[int] | None = None,
    ) -> HandBatch:
        """The samples `p` with their labels; the streams of `indices` decide what their cameras do to the pictures, and
        those of `scenes` (the same by default) what is behind."""
        targets, picture = self.render_scenes(p, self._backgrounds(p, scenes or indices, size).to(device), shadows)
        if scenes is None:  # several views of one moment, or moments of one scene, show no second hand
            self._add_second(p, picture, indices, shadows)
        images, occluded = self._apply_sensor(p, picture, indices)
        pinhole, intrinsics = (
            float_tensor(p.camera.pinhole * size, device),
            torch.zeros(len(indices), 3, 3, device=device),
        )
        intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = pinhole[:, 0], pinhole[:, 1], 1
        intrinsics[:, :2, 2] = pinhole[:, 2:]
        everything = torch.ones(len(indices), dtype=torch.bool, device=device)
        targets = HandTargets(
            **targets,
            **labels.extra(self.extra, self.hand, p, targets, pinhole, picture, occluded),
            joints_visible=labels.visible(targets, picture.depth, occluded),
            mask=is_skin(picture.part) & ~occluded,
            mask_valid=everything,
            depth=picture.depth * ~occluded,
            depth_valid=everything,
        )
        inputs = HandInputs(image=images, intrinsics=intrinsics, intrinsics_valid=everything)
        return HandBatch(inputs, targets, keys)

    def _add_second(self, p: Parameters, picture: GBuffer, indices: Sequence[int], shadows: bool) -> None:
        """Draw second hands into the pictures that have one."""
        rows, other = second_hand.sample(self.config, self.anatomy, indices, p)
        if other is None:
            return
        at = torch.from_numpy(rows).to(picture.depth.device)
        made = self.render_scenes(other, picture.colour[at], shadows, mirrored=True)[1]
        depth = picture.depth[at]
        nearer = (made.depth > 0) & ((depth == 0) | (made.depth < depth))
        picture.colour[at] = torch.where(nearer[..., None], made.colour, picture.colour[at])
        picture.normal[at] = torch.where(nearer[..., None], made.normal, picture.normal[at])
        picture.depth[at] = torch.where(nearer, made.depth, depth)
        picture.part[at] = torch.where(nearer, LABEL["other hand"], picture.part[at])

    def render_scenes(
        self,
        p: Parameters,
        behind: Float[Tensor, "b h w 3"],
        shadows: bool,
        faces: int = 0,
        mirrored: bool = False,
    ) -> tuple[dict[str, Tensor], GBuffer]:
        """Pictures of the samples `p` by their cameras, linear and without a camera's faults, and the labels that the
        mesh gives.

        Args:
            behind: square backgrounds, linear, which are drawn over; pictures have their size and device.
            faces: about how many of the hand's skin; 0: the config's number, or by size.
            mirrored: the cameras' rotations mirror, too: left hands. Their labels are of no use.
        """
        size, device = behind.shape[1], behind.device
        parts = p.parts()
        wanted = faces or self.config.mesh_faces or faces_for(size)
        mesh = render_mesh(self.hand, wanted, tuple(part.shape for part in parts), device)
        targets, drawn, others, rotations = self._geometry(p, parts, mesh, device, size)
        pinhole = float_tensor(p.camera.pinhole * size, device)
        casters = torch.cat([targets["vertices"] + targets["root"][:, None], others], 1), mesh.casters
        pixel = p.camera.root[:, 2] / (p.camera.pinhole[:, 0] * size)  # m, of the hand's surface
        cover = material(mesh, p, parts, rotations, pixel)
        return targets, self._draw(p, mesh, cover, drawn, pinhole, casters if shadows else None, behind, mirrored)

    def _backgrounds(self, p: Parameters, indices: Sequence[int], size: int) -> Float[Tensor, "b h w 3"]:
        """Backgrounds, linear, on the CPU."""
        screen = linear_to_screen(p.skin.tone)
        painted: dict[int, np.ndarray] = {}
        for k, i in enumerate(indices):
            if i not in painted:  # a sequence has one background
                painted[i] = background.paint(generator(self.config, i, "background"), self.config, screen[k], size)
        return torch.from_numpy(np.stack([painted[i] for i in indices])).square_()

    def _geometry(
        self, p: Parameters, parts: list[MeshPart], mesh: RenderMesh, device: torch.device, size: int
    ) -> tuple[dict[str, Tensor], Float[Tensor, "b v 3"], Float[Tensor, "b e 3"], Float[Tensor, "b 16 3 3"]]:
        """Labels that the mesh gives; in camera axes, m: all drawn vertices, and those that are not the hand's; the
        rotations of the joints."""
        b = len(p.shape)
        rotation, root = float_tensor(p.camera.rotation, device), float_tensor(p.camera.root, device)
        rotations = torch.cat([rotation[:, None], float_tensor(p.fingers, device)], 1)
        shape = float_tensor(p.shape, device)
        skinned, joints = skin(mesh.hand.skin, rotations, shape)
        skinned = skinned - joints[:, :1]
        vertices = skinned[:, :NUM_VERTICES].contiguous()
        joints = torch.cat([joints - joints[:, :1], vertices[:, list(self.hand.tip_vertices)]], 1)
        joints = joints[:, list(PERMUTATIONS["mano"])]
        others = torch.baddbmm(root[:, None], float_tensor(rest_vertices(parts), device), rotation.transpose(1, 2))
        attach_rings(mesh, p, skinned[:, NUM_VERTICES:], joints, joint_rotations(rotations), root, others)
        drawn = torch.cat([skinned[:, NUM_VERTICES:] + root[:, None], others], 1)
        seen = (joints + root[:, None]).cpu().double()  # not every device has doubles
        pinhole = torch.from_numpy(p.camera.pinhole * size)[:, None]
        pixels = pinhole[..., :2] * seen[..., :2] / seen[..., 2:] + pinhole[..., 2:]
        valid = torch.ones(b, dtype=torch.bool, device=device)
        known = {
            "joints": joints,
            "joints_valid": valid[:, None].expand(b, 21).clone(),
            "joints_2d": pixels.float().to(device),
            "joints_2d_valid": valid[:, None].expand(b, 21).clone(),
            "vertices": vertices,
            "vertices_valid": valid,
            "root": root,
            "root_valid": valid,
            "pose": matrix_to_axis_angle(rotations),
            "shape": shape,
            "mano_valid": valid,
            "crop_size": torch.full((b,), float(size), device=device),
            "is_left": ~valid,
            "hand": torch.full((b,), self.hand.fingerprint, device=device),
        }
        return known, drawn, others, rotations

    def _draw(
        self,
        p: Parameters,
        mesh: RenderMesh,
        cover: Material,
        drawn: Float[Tensor, "b v 3"],
        pinhole: Float[Tensor, "b 4"],
        casters: tuple[Tensor, Tensor] | None,
        behind: Float[Tensor, "b h w 3"],
        mirrored: bool,
    ) -> GBuffer:
        """The scene without its camera's faults, linear."""
        device = drawn.device
        light = p.light
        lights = Lights(
            *(float_tensor(a, device) for a in (light.harmonics, light.direction, light.colour)),
            *(float_tensor(a, device) for a in (p.skin.specular, p.skin.shininess)),
        )
        faces = mesh.topology, mesh.hand.texels
        return draw_hands(drawn, *faces, cover, mesh.skin_faces, pinhole, lights, behind, casters, mirrored)

    def _apply_sensor(
        self, p: Parameters, drawn: GBuffer, indices: Sequence[int]
    ) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"]]:
        """Through occluders and the sensor, one by one on the CPU: images in [0, 1], what the occluders hide."""
        pictures, depth = drawn.colour.cpu().numpy(), drawn.depth.cpu().numpy()
        hidden = np.zeros(pictures.shape[:3], bool)
        stored = np.empty(pictures.shape, np.uint8)
        for k, index in enumerate(indices):
            streams = Streams(self.config, index)
            picture = sensor.darken_gaps(streams["gaps"], pictures[k], depth[k])
            if streams["ground"].random() < self.config.ground_shadow:
                focal = p.camera.pinhole[k, 0] * len(picture) / p.camera.root[k, 2]  # px / m
                light = p.light.direction[k], p.light.share()[k]
                picture = sensor.cast_shadow(streams["ground"], picture, depth[k], focal, *light)
            picture = sensor.soften_edges(linear_to_screen(picture), depth[k])
            picture, mask = sensor.occlude(streams["occluder"], self.config, picture)
            if mask is not None:
                hidden[k] = mask
            stored[k] = sensor.expose(streams, self.config, picture)
        device = drawn.colour.device
        images = torch.from_numpy(stored).to(device).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return images, torch.from_numpy(hidden).to(device)


def faces_for(size: int) -> int:
    """Faces of the hand that a crop of `size` px can show."""
    return 5000 if size <= 192 else 7000
