"""Whole frames: zero to four small hands of people in a room, with a box round each, to train a detector of hands on.

(seed, split, index) decides a frame. All hands of a frame stand in one camera and one z-buffer, so they hide each other
as objects do. Left hands stay left: a frame is a photo and is never mirrored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ..contracts import HandBatch, HandInputs, HandTargets
from ..mano.hand import Hand
from ..render.shading import Lights, Topology, render
from ..skeleton import NUM_VERTICES
from .config import VirtualConfig
from .generator import VirtualHands, faces_for
from .hand.anatomy import Anatomy
from .hand.skin_tone import linear_to_screen
from .imaging import sensor
from .labels import JOINT_DEPTHS_M
from .parameters import Parameters, draw
from .records import float_tensor, take
from .rng import Streams, generator
from .scene import background, bodies
from .scene.light import Light

MAX_HANDS = 4  # hands of a frame
FIRST_FRAME_HAND = 2**41  # the frames' hands have numbers beyond those of all crops
HAND_SIZE_M = 0.18  # m, a hand's size, for its distance
WINDOW_M = 0.42  # m round the wrist in which a hand is drawn with its forearm
ELBOW_M = 0.24  # m from the wrist
MIN_CLEAR_FRACTION = 0.3  # share of a hand's joints that nothing else hides, from which the hand counts
PLACE_TRIES = 8  # capacity tried for a hand that does not lie on another


@dataclass
class FrameOptions:
    """What frames have beyond the generator's own options. Probabilities, and ranges in shares of the frame's side."""

    hands: list[float] = field(default_factory=lambda: [0.15, 0.35, 0.3, 0.12, 0.08])  # weights of 0, 1, ... 4 hands
    side: list[float] = field(default_factory=lambda: [0.05, 0.6])  # a hand's size, log-uniform
    focal: list[float] = field(default_factory=lambda: [0.7, 1.8])  # log-uniform
    left: float = 0.5
    same_person: float = 0.5  # skins alike
    bodies: float = 0.6  # hands whose owner stands in the frame
    bystanders: list[float] = field(
        default_factory=lambda: [0.55, 0.25, 0.2]
    )  # weights of 0, 1, 2 people without hands


@dataclass(frozen=True, eq=False)
class FrameHands:
    """The n hands of a frame that are to be found. Joints stand in canonical order; a left hand's are a left hand's."""

    boxes: Float[Tensor, "n 4"]  # px, x0, y0, x1, y1 round the hand without its arm, cut off at the frame
    is_left: Bool[Tensor, "n"]
    joints_2d: Float[Tensor, "n 21 2"]  # px
    visible: Bool[Tensor, "n 21"]
    joints: Float[Tensor, "n 21 3"]  # m, camera axes (not wrist-relative)
    clear: Float[Tensor, "n"]  # share of the joints inside the frame that nothing else hides


@dataclass(frozen=True, eq=False)
class Frames:
    images: Float[Tensor, "b 3 h w"]  # RGB in [0, 1]
    hands: list[FrameHands]
    intrinsics: Float[Tensor, "b 3 3"]  # px
    keys: list[str]

    def batch(self, capacity: int = MAX_HANDS) -> HandBatch:
        """As the rest_joints of the program takes it, with room for `capacity` hands a frame."""
        count = len(self.hands)
        boxes = torch.zeros(count, capacity, 4)
        valid, left = torch.zeros(2, count, capacity, dtype=torch.bool)
        for k, hands in enumerate(self.hands):
            n = min(capacity, len(hands.boxes))
            boxes[k, :n], left[k, :n], valid[k, :n] = hands.boxes[:n], hands.is_left[:n], True
        known = torch.ones(count, dtype=torch.bool)
        size = torch.full((count,), float(self.images.shape[-1]))
        targets = HandTargets(boxes=boxes, boxes_valid=valid, boxes_left=left, boxes_known=known, crop_size=size)
        inputs = HandInputs(image=self.images, intrinsics=self.intrinsics, intrinsics_valid=known)
        return HandBatch(inputs, targets.to(self.images.device), self.keys)


@dataclass(frozen=True, eq=False)
class Placed:
    """Where the first `count` of a frame's MAX_HANDS hands stand. A left hand is a right one in the mirrored frame."""

    count: int
    is_left: Bool[np.ndarray, "4"]
    alike: bool  # all hands are of one skin
    rotation: Float[np.ndarray, "4 3 3"]  # camera from rest_joints frame
    root: Float[np.ndarray, "4 3"]  # m
    focal: float  # in sides of the frame; the principal point is its middle


@dataclass(frozen=True, eq=False)
class Scene:
    """A frame into which layers are drawn, the nearest on top."""

    colour: Float[Tensor, "h w 3"]  # linear
    depth: Float[Tensor, "h w"]  # m, 0 where only the background is
    owner: Int64[Tensor, "h w"]  # number of the hand, MAX_HANDS for people, -1 for the background

    @classmethod
    def of(cls, background: Float[Tensor, "h w 3"]) -> Scene:
        """With nothing but a background."""
        shape = background.shape[:2]
        return cls(background, background.new_zeros(shape), torch.full(shape, -1, device=background.device))

    def lay(
        self,
        colour: Float[Tensor, "h w 3"],
        depth: Float[Tensor, "h w"],
        part: Int64[Tensor, "h w"],
        owner: int,
        x: int,
        y: int,
    ) -> None:
        """Put a layer's own pixels (`part` not -1) where they are the nearest so far; (x, y): its top-left corner."""
        window = slice(y, y + depth.shape[0]), slice(x, x + depth.shape[1])
        there = self.depth[window]
        nearer = (part >= 0) & ((there == 0) | (depth < there))
        self.depth[window] = torch.where(nearer, depth, there)
        self.owner[window] = self.owner[window].masked_fill(nearer, owner)
        self.colour[window] = torch.where(nearer[..., None], colour, self.colour[window])


class VirtualFrames:
    """Frames by index.

    Args:
        config: what hands, skins, lights, backgrounds and sensors are like.
        hand: a right hand.
        options: what else there is in a frame.
    """

    def __init__(self, config: VirtualConfig, hand: Hand, options: FrameOptions | None = None) -> None:
        if hand.side != "right":
            raise ValueError("virtual frames mirror a right hand themselves: pass the right hand")
        self.config, self.hand, self.options = config, hand, options or FrameOptions()
        self.anatomy, self._hands = Anatomy.of(hand), VirtualHands(config, hand)

    def __len__(self) -> int:
        return self.config.count

    @torch.no_grad()
    def render(self, indices: Sequence[int], size: int = 640, device: torch.device | str = "cpu") -> Frames:
        """The frames `indices`, `size` x `size` px, on `device`; each is rendered alone.

        Raises:
            IndexError: an index outside 0 .. config.count - 1.
        """
        if outside := [i for i in indices if not 0 <= i < self.config.count]:
            raise IndexError(f"virtual frames {outside} lie outside 0..{self.config.count - 1}")
        made = [self._frame(index, size, torch.device(device)) for index in indices]
        images, hands, intrinsics = zip(*made, strict=True)
        keys = [f"frames/{self.config.split}/{i:06d}" for i in indices]
        return Frames(torch.stack(images), list(hands), torch.stack(intrinsics), keys)

    def _frame(self, index: int, size: int, device: torch.device) -> tuple[Tensor, FrameHands, Tensor]:
        rng, first = generator(self.config, index, "frame"), FIRST_FRAME_HAND + index * MAX_HANDS
        p = draw(self.config, self.anatomy, range(first, first + MAX_HANDS))
        placed = self._place(rng, p)
        tone = linear_to_screen(p.skin.tone[0])
        paint = background.paint(generator(self.config, index, "background"), self.config, tone, size)
        scene = Scene.of(torch.from_numpy(paint).to(device).square_())
        self._draw_people(rng, p, placed, scene)
        labels = [self._draw_hand(p, placed, k, scene) for k in range(placed.count)]
        image, hidden = self._apply_sensor(scene, index)
        intrinsics = torch.diag(torch.tensor([placed.focal * size, placed.focal * size, 1.0]))
        intrinsics[:2, 2] = size / 2
        return image, _found(placed, labels, scene, hidden), intrinsics.to(device)

    def _place(self, rng: np.random.Generator, p: Parameters) -> Placed:
        options = self.options
        n = int(rng.choice(len(options.hands), p=np.array(options.hands) / np.sum(options.hands)))
        focal = float(np.exp(rng.uniform(*np.log(options.focal))))
        is_left = rng.random(MAX_HANDS) < options.left
        alike = bool(rng.random() < options.same_person)
        if alike and n == 2 and rng.random() < 0.8:
            is_left[1] = ~is_left[0]  # one person's two hands
        eye = np.broadcast_to(np.eye(3), (MAX_HANDS, 1, 3, 3))
        rest_joints = self.anatomy.pose(np.concatenate([eye, p.fingers], 1), p.shape)
        rotation, root = p.camera.rotation.copy(), np.zeros((MAX_HANDS, 3))
        taken: list[np.ndarray] = []
        common = np.exp(rng.uniform(*np.log(options.side)))
        for k in range(n):
            side = common * np.exp(rng.uniform(-0.4, 0.4)) if alike else np.exp(rng.uniform(*np.log(options.side)))
            side = float(np.clip(side, *options.side))
            for _ in range(PLACE_TRIES):
                turned, place, box = _stand(
                    rng.uniform(0.03, 0.97, 2), focal, side, p.camera.rotation[k], rest_joints[k]
                )
                mirrored = np.array([1 - box[2], box[1], 1 - box[0], box[3]]) if is_left[k] else box
                if all(_overlap(mirrored, other) < 0.05 for other in taken):
                    break
            rotation[k], root[k] = turned, place
            taken.append(mirrored)
        return Placed(n, is_left, alike, rotation, root, focal)

    def _draw_people(self, rng: np.random.Generator, p: Parameters, placed: Placed, scene: Scene) -> None:
        """Arms beyond the elbow, their owners, and people without hands."""
        options, people = self.options, []
        for k in range(placed.count):
            mirror = np.array([-1.0 if placed.is_left[k] else 1.0, 1, 1])
            end = p.forearm.bare[k, -1].mean(0)  # of the forearm, which bends at the wrist; the wrist if there is none
            end = end if np.linalg.norm(end) > ELBOW_M / 2 else np.array([ELBOW_M, 0, 0])
            elbow = mirror * (placed.root[k] + placed.rotation[k] @ end)
            tone = p.skin.tone[0 if placed.alike else k]
            body = rng.random() < options.bodies
            people.append(bodies.at_elbow(rng, elbow, mirror * placed.root[k], tone, body))
        weights = np.array(options.bystanders)
        people += [
            bodies.bystander(rng, p.skin.tone[int(rng.integers(MAX_HANDS))], placed.focal)
            for _ in range(int(rng.choice(len(weights), p=weights / weights.sum())))
        ]
        if not people:
            return
        joined, device, size = bodies.Blobs.cat(people), scene.colour.device, len(scene.colour)
        topology = Topology.build(torch.from_numpy(joined.faces).to(device), len(joined.vertices))
        light = p.light
        lights = Lights(
            *(float_tensor(a[:1], device) for a in (light.harmonics, light.direction, light.colour)),
            *(float_tensor(a[:1], device) for a in (p.skin.specular, p.skin.shininess)),
        )
        camera = float_tensor(np.array([[placed.focal, placed.focal, 0.5, 0.5]]) * size, device)
        behind = scene.colour.permute(2, 0, 1)[None]
        vertices, colours = float_tensor(joined.vertices, device)[None], float_tensor(joined.colours, device)
        made = render(vertices, topology, colours, camera, lights, behind)
        colour = made.rgb[0].permute(1, 2, 0).clamp(0, 1)
        scene.lay(colour, made.depth[0, 0], made.part[0].clamp(max=0), MAX_HANDS, 0, 0)

    def _draw_hand(self, p: Parameters, placed: Placed, k: int, scene: Scene) -> dict[str, Tensor]:
        """One hand with its arm and what it holds, in a window of the frame; joints and vertices in camera axes, m."""
        size, device = len(scene.colour), scene.colour.device
        root, focal = placed.root[k], placed.focal * size
        window = min(size, 32 * int(np.ceil(focal * 2 * WINDOW_M / max(root[2], 0.2) / 32)))
        middle = focal * root[:2] / root[2] + size / 2
        x, y = (int(v) for v in (middle - window / 2).round().clip(0, size - window))
        pinhole = np.array([[focal, focal, size / 2 - x, size / 2 - y]]) / window
        one = take(p, [k])
        if placed.alike:
            tone = {name: getattr(p.skin, name)[:1] for name in ("tone", "palm", "nail")}
            one = dataclasses.replace(one, skin=dataclasses.replace(one.skin, **tone))
        light = _mirrored(take(p.light, [0])) if placed.is_left[k] else take(p.light, [0])
        camera = dataclasses.replace(one.camera, rotation=placed.rotation[k][None], root=root[None], pinhole=pinhole)
        one = dataclasses.replace(one, camera=camera, light=light)
        behind = torch.zeros(1, window, window, 3, device=device)
        labels, made = self._hands.render_scenes(one, behind, False, _faces_for(focal * HAND_SIZE_M / root[2]))
        points = {name: (labels[name] + labels["root"][:, None])[0] for name in ("joints", "vertices")}
        layers = made.colour[0], made.depth[0], made.part[0]
        if placed.is_left[k]:
            layers = tuple(layer.flip(1) for layer in layers)
            points = {name: v * v.new_tensor([-1.0, 1, 1]) for name, v in points.items()}
            x = size - window - x
        scene.lay(*layers, k, x, y)
        return points

    def _apply_sensor(self, scene: Scene, index: int) -> tuple[Tensor, Bool[Tensor, "h w"]]:
        """The picture as stored, 3 x h x w, and what an occluder hides of it."""
        streams, device = Streams(self.config, index), scene.colour.device
        depth = scene.depth.cpu().numpy()
        picture = sensor.darken_gaps(streams["gaps"], scene.colour.cpu().numpy(), depth)
        picture = sensor.soften_edges(linear_to_screen(picture), depth)
        picture, mask = sensor.occlude(streams["occluder"], self.config, picture)
        stored = torch.from_numpy(sensor.expose(streams, self.config, picture)).to(device)
        hidden = torch.zeros_like(scene.depth, dtype=torch.bool)
        if mask is not None:
            hidden = torch.from_numpy(mask).to(device)
        return stored.permute(2, 0, 1).contiguous().float() / 255, hidden


def _found(placed: Placed, labels: list[dict[str, Tensor]], scene: Scene, hidden: Bool[Tensor, "h w"]) -> FrameHands:
    """Boxes and joints of the hands that can be found."""
    depth, size, n = scene.depth, len(scene.depth), len(labels)
    joints = torch.stack([v["joints"] for v in labels]) if n else depth.new_zeros(0, 21, 3)
    points = torch.stack([v["vertices"] for v in labels]) if n else depth.new_zeros(0, NUM_VERTICES, 3)
    pixels, outline = (v[..., :2] / v[..., 2:] * (placed.focal * size) + size / 2 for v in (joints, points))
    inside = ((pixels >= 0) & (pixels < size)).all(-1)
    column, row = pixels.long().clamp(0, size - 1).unbind(-1)
    behind = (depth[row, column] > 0) & (joints[..., 2] - depth[row, column] > JOINT_DEPTHS_M.to(depth.device))
    others = behind & (scene.owner[row, column] != torch.arange(n, device=depth.device)[:, None])
    covered = hidden[row, column]
    clear = (inside & ~others & ~covered).float().mean(1)
    boxes = torch.cat([outline.amin(1), outline.amax(1)], -1) if n else outline.new_zeros(0, 4)
    kept = clear >= MIN_CLEAR_FRACTION
    left = torch.from_numpy(placed.is_left[:n].copy()).to(depth.device)
    visible = inside & ~behind & ~covered
    return FrameHands(*(v[kept] for v in (boxes.clamp(0, size), left, pixels, visible, joints, clear)))


def _stand(
    centre: Float[np.ndarray, "2"],
    focal: float,
    side: float,
    rotation: Float[np.ndarray, "3 3"],
    rest_joints: Float[np.ndarray, "21 3"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A hand of size `side` round `centre` (both of the frame): its rotation, root (m) and box (of the frame)."""
    ray = np.array([*(centre - 0.5) / focal, 1.0])
    turned = _towards(ray) @ rotation
    seen = rest_joints @ turned.T
    root = ray * (focal * HAND_SIZE_M / side) - seen.mean(0)
    uv = (seen + root)[:, :2] / (seen + root)[:, 2:] * focal + 0.5
    return turned, root, np.concatenate([uv.min(0), uv.max(0)])


def _mirrored(light: Light) -> Light:
    """The light as a mirror (x -> -x) shows it."""
    signs = np.array([1, 1, 1, -1, -1, 1, 1, -1, 1])  # of the harmonics 1, y, z, x, xy, yz, zz, xz, xx - yy
    harmonics = light.harmonics * signs[:, None]
    return dataclasses.replace(light, harmonics=harmonics, direction=light.direction * [-1, 1, 1])


def _towards(ray: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The least rotation that takes the viewing axis to `ray`: a hand looks the same wherever it stands."""
    z = ray / np.linalg.norm(ray)
    v = np.array([-z[1], z[0], 0.0])
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + z[2])


def _overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Shared area of two boxes, of the smaller one's."""
    shared = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return float(shared / max(min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()), 1e-9))


def _faces_for(side: float) -> int:
    """Faces of a hand of `side` px. (Few different numbers: each costs seconds of preparation.)"""
    return 3000 if side < 130 else faces_for(160)
