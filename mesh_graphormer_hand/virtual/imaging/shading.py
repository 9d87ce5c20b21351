"""Draws the hand and lights every pixel of it: skin's own relief and colour, highlights, soft light, cast shadows.

`render.shade` draws pictures for people; this draws the millions that a network sees once, so it keeps one sample a
pixel, values skin up in a table, and lights image by image, in pieces that a CPU's cache holds.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ...render.effects import camera_points, dot, shadow, unit
from ...render.rasterizer.raster import Raster, Settings, interpolate, rasterize
from ...render.shading import Lights, Topology, sh_irradiance, vertex_normals
from ..hand import skin_relief, tattoo
from ..hand.skin_texture import Texels
from . import noise

IMAGES_PER_CHUNK = {"cpu": 4}  # images rasterised at a time
SHADOW_SIDE_PX, SHADOW_BIAS_M = 128, 0.0035  # px, m
WRAP = (0.30, 0.10, 0.06)  # how far red, green and blue light creep through skin into its own shade
SHOULDER_LIGHT = 0.55  # linear light above which a camera gives ever less
CLOTH_GRAIN = 0.12  # strength of grain on what is not skin


@dataclass(frozen=True, eq=False)
class Channels:
    """A material's channels by name, at vertices or, interpolated, at pixels. All are views of `values`."""

    values: Float[Tensor, "*n 8"]

    WIDTH: ClassVar[int] = 8

    @classmethod
    def ones(cls, b: int, v: int, device: torch.device) -> Channels:
        """Ones for b meshes of v vertices."""
        return cls(torch.ones(b, v, cls.WIDTH, device=device))

    @property
    def colour(self) -> Float[Tensor, "*n 3"]:
        """Linear RGB."""
        return self.values[..., :3]

    @property
    def shine(self) -> Float[Tensor, "*n 1"]:
        """Factor on the strength of highlights."""
        return self.values[..., 3:4]

    @property
    def bend(self) -> Float[Tensor, "*n 1"]:
        """How bent the nearest joint is: 1 at a right angle."""
        return self.values[..., 4:5]

    @property
    def grain(self) -> Float[Tensor, "*n 1"]:
        """How hairy skin is, how strong the weave of cloth is, 0 to 1."""
        return self.values[..., 5:6]

    @property
    def uv(self) -> Float[Tensor, "*n 2"]:
        """m along and across the surface."""
        return self.values[..., 6:8]

    def __getitem__(self, rows: slice) -> Channels:
        return Channels(self.values[rows])


@dataclass(frozen=True, eq=False)
class Material:
    """What each image's mesh is covered with; see `render_mesh.material`."""

    channels: Channels  # of the b images' v vertices
    tangents: Float[Tensor, "b f 6"]  # of the hand's faces, posed
    start: Int64[Tensor, "b"]  # first row of the texels' table
    detail: Float[Tensor, "b channels 10"]  # of a texel: logarithm of colour and normal's shift along the tangents, and
    # how both change where a joint is bent
    noise: Float[Tensor, "b 4 3"]  # of the noise: logarithm of colour
    shift: Float[Tensor, "b 2"]  # where the noise begins
    texel: Float[Tensor, "b"]  # m, of the noise
    nail: Float[Tensor, "b 6"]  # colour, cover, strength and exponent of its highlight
    grain: Float[Tensor, "b"]  # how coarse cloth is
    tattoo: Float[Tensor, "b 7"]  # see `tattoo.sample`

    def __getitem__(self, rows: slice) -> Material:
        return dataclasses.replace(self, **{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


@dataclass(frozen=True, eq=False)
class GBuffer:
    """What is drawn at each pixel of b images."""

    colour: Float[Tensor, "b h w 3"]  # linear
    depth: Float[Tensor, "b h w"]  # m along z, 0 where empty
    part: Int64[Tensor, "b h w"]  # label of the part, a position in contracts.SEGMENTATION_CLASSES; -1 where empty
    normal: Float[Tensor, "b h w 3"]  # unit, camera axes, of the mesh; 0 where empty


@dataclass(frozen=True, eq=False)
class Pixels:
    """Covered pixels of one or several images."""

    image: Int64[Tensor, "p"] | None  # of the images at hand; None: there is one
    face: Int64[Tensor, "p"]
    bary: Float[Tensor, "p 3"]
    point: Float[Tensor, "p 3"]  # m
    material: Channels
    normal: Float[Tensor, "p 3"]
    lit: Float[Tensor, "p"] | None  # share of the directional light that arrives

    def of(self, values: Shaped[Tensor, "b *c"]) -> Shaped[Tensor, "q *c"]:
        """Each pixel's row of something that images have."""
        return values if self.image is None else values.index_select(0, self.image)

    def times(self, rows: Float[Tensor, "p k"], matrices: Float[Tensor, "b k c"]) -> Float[Tensor, "p c"]:
        """Rows times their images' matrices."""
        if self.image is None:
            return rows @ matrices[0]
        return torch.bmm(rows[:, None], matrices.index_select(0, self.image))[:, 0]


def draw_hands(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    texels: Texels,
    material: Material,
    skin_faces: int,
    cameras: Float[Tensor, "b 4"],
    lights: Lights,
    background: Float[Tensor, "b h w 3"],
    casters: tuple[Float[Tensor, "b q 3"], Int64[Tensor, "g 3"]] | None = None,
    mirrored: bool = False,
) -> GBuffer:
    """Draw meshes (m, camera axes) into `background`, which is overwritten.

    Args:
        vertices: of the drawn meshes.
        topology: their faces and parts.
        texels: of the first faces.
        material: colours of the vertices and all that lies between them.
        skin_faces: how many faces, the first ones, are skin.
        cameras: fx, fy, cx, cy in px.
        lights: one set an image.
        background: linear RGB.
        casters: vertices and faces of the (coarser) meshes that cast shadows, None for no shadows.
        mirrored: the faces run the other way round.
    """
    out, tile = _empty(background), noise.tile(vertices.device)
    b, height, width = out.depth.shape
    step = IMAGES_PER_CHUNK.get(vertices.device.type, b)
    settings = Settings(cull="front" if mirrored else "back")
    with torch.inference_mode():  # some thousand small operations, each a little cheaper so; `out` is of the usual kind
        for start in range(0, b, step):
            rows = slice(start, start + step)
            normals = vertex_normals(vertices[rows], topology)
            normals = -normals if mirrored else normals
            raster = rasterize(vertices[rows], topology.faces, cameras[rows], (height, width), settings)
            values = interpolate(raster, topology.faces, torch.cat([normals, material.channels.values[rows]], 2))[:, 0]
            face, image, depth = raster.face[:, 0], raster.image, raster.depth[:, 0]
            points = camera_points(raster.pixel, depth, cameras[rows], height, width)
            lit = None
            if casters is not None:
                meshes = casters[0][rows], casters[1]
                lit = shadow(*meshes, lights.direction[rows], SHADOW_SIDE_PX, SHADOW_BIAS_M, points, image)
            normal = unit(values[:, :3])
            everything = Pixels(image, face, raster.bary[:, 0], points, Channels(values[:, 3:]), normal, lit)
            pieces = [(slice(None), rows, everything)] if vertices.is_cuda else _by_image(everything, rows)
            colour = torch.empty_like(points)
            for part, of, pixels in pieces:
                colour[part] = _light(pixels, texels, tile, material[of], skin_faces, lights[of])
            _write(out, rows, raster, topology, colour, normal)
    return out


def _by_image(pixels: Pixels, rows: slice) -> list[tuple[slice, slice, Pixels]]:
    """Each image's pixels by themselves (they lie together), and the image's place in the batch."""
    count = torch.bincount(pixels.image).tolist()
    pieces, start = [], 0
    for k, n in enumerate(count):
        part = slice(start, start + n)
        values = (None if getattr(pixels, f.name) is None else getattr(pixels, f.name)[part] for f in _PIXEL_FIELDS)
        if n:
            pieces.append((part, slice(rows.start + k, rows.start + k + 1), Pixels(None, *values)))
        start += n
    return pieces


_PIXEL_FIELDS = dataclasses.fields(Pixels)[1:]


def _light(
    p: Pixels, texels: Texels, tile: Float[Tensor, "texels 4"], material: Material, skin_faces: int, lights: Lights
) -> Float[Tensor, "p 3"]:
    """Linear light that leaves every pixel towards the camera."""
    skin = (p.face < skin_faces).float()[:, None]
    colour, normal, plate = _skin(p, texels, tile, material, skin)
    nail = p.of(material.nail)
    towards = -unit(p.point)
    direction = p.of(lights.direction)
    facing = dot(normal, direction)
    wrap = skin * colour.new_tensor(WRAP)
    sun = p.of(lights.colour) if p.lit is None else p.of(lights.colour) * p.lit[:, None]
    spread = (facing + wrap).div_(wrap.add_(1)).clamp_(min=0)
    around = _ambient(p, normal, lights)
    shine = p.material.shine * p.of(lights.specular[:, None])
    strength = torch.lerp(shine, nail[:, 4:5].expand_as(shine), plate)
    exponent = torch.lerp(p.of(lights.shininess[:, None]).expand_as(shine), nail[:, 5:6].expand_as(shine), plate)
    halfway = dot(normal, unit(direction + towards)).clamp_(min=1e-4)
    grazing = (1 - dot(normal, towards)).clamp_(0, 1)
    rim = grazing * grazing
    rim = rim * rim
    highlight = torch.exp2(halfway.log2_() * exponent) * strength * (facing > 0) * (1 + 2 * rim)
    sheen = 0.02 + (0.35 * shine + 0.25 * plate) * rim + 0.06 * plate
    out = torch.addcmul(around, sun, spread).mul_(colour).add_(sun * highlight).add_(around.mul_(sheen))
    over = (out - SHOULDER_LIGHT).clamp_(min=0)
    bent = (over * (-1 / (1 - SHOULDER_LIGHT))).exp_().neg_().add_(1).mul_(1 - SHOULDER_LIGHT)
    return out.sub_(over).add_(bent)


def _skin(
    p: Pixels, texels: Texels, tile: Float[Tensor, "texels 4"], material: Material, skin: Float[Tensor, "p 1"]
) -> tuple[Float[Tensor, "p 3"], Float[Tensor, "p 3"], Float[Tensor, "p 1"]]:
    """Colour, normal with the skin's relief, and what is nail."""
    row = texels.rows(p.face, p.bary, p.of(material.start))
    texel = texels.table.index_select(0, row).float()
    change = p.times(texel, material.detail)
    change = torch.addcmul(change[:, :5], change[:, 5:], p.material.bend)
    strewn = tile.index_select(0, noise.rows(p.material.uv, p.of(material.shift), p.of(material.texel)[:, None]))
    strewn[:, 3:] *= p.material.grain
    plate = texel[:, skin_relief.PLATE : skin_relief.PLATE + 1]
    log = change[:, :3] + p.times(strewn * (1 - plate), material.noise) * skin
    log = log + (1 - skin) * p.material.grain * CLOTH_GRAIN * strewn[:, 1:2] * p.of(material.grain)[:, None]
    if p.image is not None or bool(material.tattoo[0, 0] > 0):
        inked = tattoo.cover(p.material.uv, p.material.grain, p.of(material.tattoo)) * skin
        log = log - inked * log.new_tensor(tattoo.COLOUR)
    colour = p.material.colour * log.exp_()
    nail = p.of(material.nail)
    white = texel[:, skin_relief.WHITE : skin_relief.WHITE + 1]
    painted = nail[:, :3] * (1 + (0.5 * white) * (nail[:, 3:4] < 0.9))
    colour = torch.lerp(colour, painted, plate * nail[:, 3:4])
    hand = p.face.clamp(max=texels.faces - 1)
    if p.image is not None:
        hand = hand + p.image * texels.faces
    tangents = material.tangents.view(-1, 6).index_select(0, hand)
    normal = p.normal + change[:, 3:4] * tangents[:, :3] + change[:, 4:5] * tangents[:, 3:]
    return colour, unit(normal), plate


def _ambient(p: Pixels, normal: Float[Tensor, "p 3"], lights: Lights) -> Float[Tensor, "p 3"]:
    """Light from all around."""
    if p.image is None:
        return sh_irradiance(normal[None], lights.sh)[0].clamp_(min=0)
    return sh_irradiance(normal[:, None], p.of(lights.sh))[:, 0].clamp_(min=0)


def draw(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    colours: Float[Tensor, "b v 4"],
    cameras: Float[Tensor, "b 4"],
    lights: Lights,
    background: Float[Tensor, "b h w 3"],
    casters: tuple[Float[Tensor, "b q 3"], Int64[Tensor, "g 3"]] | None = None,
) -> GBuffer:
    """Draw meshes (m, camera axes) lit at their vertices, for what is far or plain, into `background` (overwritten).

    Args:
        vertices: of the drawn meshes.
        topology: their faces and parts.
        colours: linear RGB and the share of the highlights.
        cameras: fx, fy, cx, cy in px.
        lights: one set an image.
        background: linear RGB.
        casters: vertices and faces of the (coarser) meshes that cast shadows, None for no shadows.
    """
    b, height, width = background.shape[:3]
    out = _empty(background)
    step = IMAGES_PER_CHUNK.get(vertices.device.type, b)
    for start in range(0, b, step):
        rows = slice(start, start + step)
        shadows = casters and (casters[0][rows], casters[1])
        lit = light_vertices(vertices[rows], topology, colours[rows], lights[rows], shadows)
        raster = rasterize(vertices[rows], topology.faces, cameras[rows], (height, width), Settings(cull="back"))
        _fill(out, rows, raster, topology, torch.cat([lit, vertex_normals(vertices[rows], topology)], 2))
    return out


def light_vertices(
    vertices: Float[Tensor, "b v 3"],
    topology: Topology,
    colours: Float[Tensor, "b v 4"],
    lights: Lights,
    casters: tuple[Float[Tensor, "b q 3"], Int64[Tensor, "g 3"]] | None = None,
) -> Float[Tensor, "b v 3"]:
    """Ambient + diffuse + Blinn-Phong light that leaves each vertex towards the camera."""
    normal = vertex_normals(vertices, topology)
    direction = lights.direction[:, None]
    towards = dot(normal, direction).clamp_min_(0)
    sun = lights.colour[:, None] * towards.sign()
    if casters is not None:
        b, v = vertices.shape[:2]
        image = torch.arange(b, device=vertices.device).repeat_interleave(v)
        points = vertices.reshape(-1, 3)
        seen = shadow(*casters, lights.direction, SHADOW_SIDE_PX, SHADOW_BIAS_M, points, image)
        sun = sun * seen.view(b, v, 1)
    half = unit(direction - unit(vertices))
    highlight = torch.exp2(dot(normal, half).clamp_min_(1e-4).log2_() * lights.shininess[:, None, None])
    highlight *= lights.specular[:, None, None] * colours[..., 3:]
    diffuse = torch.addcmul(sh_irradiance(normal, lights.sh).clamp_min_(0), sun, towards)
    return torch.addcmul(sun * highlight, colours[..., :3], diffuse)


def _fill(out: GBuffer, rows: slice, raster: Raster, topology: Topology, lit: Float[Tensor, "b v c"]) -> None:
    """Write the covered pixels of a chunk; `lit` may bring normals after its colours."""
    values = interpolate(raster, topology.faces, lit)[:, 0]
    _write(out, rows, raster, topology, values[:, :3], unit(values[:, 3:]))


def _write(
    out: GBuffer,
    rows: slice,
    raster: Raster,
    topology: Topology,
    colour: Float[Tensor, "p 3"],
    normal: Float[Tensor, "p 3"],
) -> None:
    out.colour[rows].view(-1, 3).index_copy_(0, raster.pixel, colour)
    out.depth[rows].view(-1).index_copy_(0, raster.pixel, raster.depth[:, 0])
    out.part[rows].view(-1).index_copy_(0, raster.pixel, topology.parts.index_select(0, raster.face[:, 0]))
    out.normal[rows].view(-1, 3).index_copy_(0, raster.pixel, normal)


def _empty(background: Float[Tensor, "b h w 3"]) -> GBuffer:
    shape = background.shape[:3]
    part = torch.full(shape, -1, dtype=torch.int64, device=background.device)
    return GBuffer(background, background.new_zeros(shape), part, torch.zeros_like(background))
