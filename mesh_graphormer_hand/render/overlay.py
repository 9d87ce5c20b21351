"""Pictures for people: the mesh on the photo, the mesh from the side, the skeleton, pictures side by side.

Images are RGB uint8 (h, w, 3) arrays; vertices are metres in camera axes; pixels are measured from the image's corner.
Every function returns a new image and leaves its arguments alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from .. import skeleton
from .shading import Lights, Look, Topology, render
from .subdivide import smooth

Image = UInt8[np.ndarray, "h w 3"]
AnyImage = UInt8[np.ndarray, "_ _ 3"]  # of a shape of its own
MATERIALS = {"porcelain": (0.49, 0.62, 0.80), "skin": (0.72, 0.47, 0.36), "clay": (0.66, 0.64, 0.61)}  # linear RGB
MASK_COLOUR, MASK_OPACITY = (60, 220, 120), 0.55
# quality -> how to draw, and how many times larger than the picture: light and shade then have smooth edges, too
QUALITY = {
    "fine": (
        Look(
            "coverage", ambient_occlusion=0.85, ambient_radius=0.025, shadow=112, shadow_samples=8, shadow_radius=0.25
        ),
        2,
    ),
    "fast": (Look("ssaa"), 1),
}
STRETCHED_PX = 800  # px: a hand drawn this large may be stretched to a larger picture
TEXT_SIDE = 1100.0  # px: longer side of a picture whose text is drawn at the font's own size
SUBPIXEL = 4  # bits of sub-pixel position that cv2 is given
LIMIT = 1 << 20  # px: what lies further out is cut, since cv2's coordinates have 32 bits


class Window(NamedTuple):
    """Part of an image, in px."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the part's pixels."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


def draw_mesh(
    image: Image,
    vertices_cam: Float[np.ndarray, "v 3"],
    faces: Int64[np.ndarray, "f 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    colour: str | Float[np.ndarray, "v 3"] = "porcelain",
    opacity: float = 0.95,
    quality: str = "fine",
) -> Image:
    """The shaded, anti-aliased mesh over the photo that `intrinsics` (px) belongs to.

    Args:
        colour: a name in MATERIALS or linear RGB for each vertex.
        quality: "fine", or "fast" for video: no shadows.

    Raises:
        ValueError: an image, vertices, a colour or a quality of the wrong kind.
    """
    _check_image(image)
    vertices = _vertices(vertices_cam)
    camera = torch.tensor([intrinsics[0][0], intrinsics[1][1], intrinsics[0][2], intrinsics[1][2]]).float()
    window = _window(vertices, camera, image.shape[:2])
    if window is None:
        return image.copy()
    camera = camera - camera.new_tensor([0, 0, window.left, window.top])
    size = (window.bottom - window.top, window.right - window.left)
    shaded, alpha = _shade(vertices, faces, camera, size, colour, quality)
    out = image.copy()
    part = out[window.slices].astype(np.float32)
    out[window.slices] = np.rint(part + (shaded * 255 - part) * (alpha * opacity)).astype(np.uint8)
    return out


def side_view(
    vertices_cam: Float[np.ndarray, "v 3"],
    faces: Int64[np.ndarray, "f 3"],
    size: tuple[int, int],
    degrees: float | int = 90,
    colour: str | Float[np.ndarray, "v 3"] = "porcelain",
    quality: str = "fine",
    fill: float = 0.8,
) -> Image:
    """The mesh turned about the vertical axis through its centre, on a plain ground.

    Args:
        size: height and width of the picture, px.
        degrees: of the turn; positive ones bring the mesh's right-hand side to the front.
        fill: share of the picture that the mesh spans; the same for every turn, so that views stay comparable.

    Raises:
        ValueError: vertices, a colour or a quality of the wrong kind.
    """
    vertices = _vertices(vertices_cam)
    vertices = vertices - (vertices.amax(0) + vertices.amin(0)) / 2
    angle = np.deg2rad(degrees)
    turn = torch.tensor([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).float()
    radius = float(torch.linalg.vector_norm(vertices, dim=1).max())
    distance = 6 * radius  # far enough for little perspective
    focal = 0.5 * fill * min(size) * distance / radius
    turned = vertices @ turn.T + vertices.new_tensor([0, 0, distance])
    camera = torch.tensor([focal, focal, size[1] / 2, size[0] / 2]).float()
    shaded, alpha = _shade(turned, faces, camera, size, colour, quality)
    ground = _ground(size, alpha)
    return np.rint(255 * (ground + (shaded - ground) * alpha)).astype(np.uint8)


def draw_skeleton(
    image: Image,
    joints_2d: Float[np.ndarray, "21 2"],
    valid: Sequence[bool] | Bool[np.ndarray, "21"] | None = None,
    thickness: float | int | None = None,
    outline: float = 0.55,
) -> Image:
    """The 21 joints and their bones in the fingers' colours, outlined so that they show on any photo.

    Args:
        joints_2d: px from the image's corner; joints that are not finite, or not `valid`, are left out.
        thickness: of a bone at its base, px; by default it follows the hand's size in the picture.
        outline: opacity of the dark outline.

    Raises:
        ValueError: an image or joints of the wrong shape.
    """
    _check_image(image)
    joints = np.asarray(joints_2d, np.float64)
    if joints.shape != (skeleton.NUM_JOINTS, 2):
        raise ValueError(f"joints_2d has shape {joints.shape}, should be ({skeleton.NUM_JOINTS}, 2)")
    shown = np.isfinite(joints).all(1)
    if valid is not None:
        shown &= np.asarray(valid, bool)
    if not shown.any():
        return image.copy()
    width = _thickness(image, joints[shown]) if thickness is None else float(thickness)
    joints = np.clip(np.where(shown[:, None], joints, 0), -LIMIT, LIMIT) - 0.5  # cv2 counts from pixel centres
    rim = max(1.0, 0.22 * width)
    dark = _strokes(image.copy(), joints, shown, width, rim, dark=True)
    return _strokes(cv2.addWeighted(dark, outline, image, 1 - outline, 0), joints, shown, width, 0.0, dark=False)


def draw_mask(image: Image, mask: Bool[np.ndarray, "h1 w1"]) -> Image:
    """The image with a mask, of any size, in colour over it."""
    covers = cv2.resize(mask.astype(np.float32), image.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    covers *= MASK_OPACITY
    return np.rint(image * (1 - covers) + covers * np.array(MASK_COLOUR)).astype(np.uint8)


def draw_text(image: Image, text: str, place: Sequence[float] | np.ndarray) -> Image:
    """A copy with a line of ASCII text whose top left corner is `place` (px), moved into the picture."""
    height, width = image.shape[:2]
    scale = max(height, width) / TEXT_SIDE
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    (wide, high), below = cv2.getTextSize(text, font, scale, thickness)
    x = int(np.clip(place[0], 0, max(width - wide, 0)))
    y = int(np.clip(place[1] + high, high, max(height - below, high)))
    drawn = np.ascontiguousarray(image).copy()
    for colour, line in ((0, 0, 0), 3 * thickness), ((255, 255, 255), thickness):
        cv2.putText(drawn, text, (x, y), font, scale, colour, line, cv2.LINE_AA)
    return drawn


def panel(
    images: Sequence[AnyImage], height: int | None = None, gap: int = 8, ground: tuple[int, int, int] = (255, 255, 255)
) -> AnyImage:
    """The images side by side, all `height` px high (the tallest one's by default), `gap` px of ground between.

    Raises:
        ValueError: no image, or one of the wrong kind.
    """
    if not images:
        raise ValueError("a panel needs at least one image")
    for image in images:
        _check_image(image)
    height = height or max(image.shape[0] for image in images)
    spacer = np.full((height, gap, 3), ground, np.uint8)
    parts = [part for image in images for part in (_to_height(image, height), spacer)]
    return np.concatenate(parts[:-1], 1)


def _check_image(image: np.ndarray) -> None:
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image must be an RGB uint8 array (height, width, 3), this is {kind}")


def _vertices(vertices: np.ndarray) -> Float[Tensor, "v 3"]:
    v = torch.as_tensor(np.asarray(vertices), dtype=torch.float32)
    if v.dim() != 2 or v.shape[1] != 3 or not bool(v.isfinite().all()):
        raise ValueError(f"vertices must be finite and of shape (vertices, 3), these are of shape {tuple(v.shape)}")
    return v


def _window(v: Float[Tensor, "v 3"], camera: Float[Tensor, "4"], size: tuple[int, int]) -> Window | None:
    """The part of the image that the mesh may cover, None where there is none: a hand is small in a large photo."""
    height, width = size
    if float(v[:, 2].min()) < 0.02:  # m: at or behind the camera, its outline is no outline of the picture
        return Window(0, 0, width, height) if float(v[:, 2].max()) > 0.02 else None
    xy = v[:, :2] / v[:, 2:] * camera[:2] + camera[2:]
    low = (xy.amin(0).floor() - 2).clamp(-LIMIT, LIMIT).int().tolist()
    high = (xy.amax(0).ceil() + 2).clamp(-LIMIT, LIMIT).int().tolist()
    window = Window(max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height))
    return window if window.left < window.right and window.top < window.bottom else None


def _shade(
    vertices: Float[Tensor, "v 3"],
    faces: Int64[np.ndarray, "f 3"],
    camera: Float[Tensor, "4"],
    size: tuple[int, int],
    colour: str | Float[np.ndarray, "v1 3"],
    quality: str,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w 1"]]:
    """The mesh in display colours in [0, 1] and the share of each pixel that it covers."""
    if quality not in QUALITY:
        raise ValueError(f"quality is {quality!r}, should be one of {', '.join(QUALITY)}")
    style, scale = QUALITY[quality]
    scale = min(scale, STRETCHED_PX / max(size))
    drawn = [max(1, round(scale * side)) for side in size]
    stretch = camera.new_tensor([drawn[1] / size[1], drawn[0] / size[0]]).repeat(2)
    faces = torch.as_tensor(np.asarray(faces), dtype=torch.int64)
    with torch.no_grad():
        smoothed, faces, albedo = smooth(vertices[None], faces, _albedo(colour, len(vertices)))
        topology, black = Topology.build(faces, len(albedo)), torch.zeros(1, 3, *drawn)
        out = render(smoothed, topology, albedo, (camera * stretch)[None], _studio(), black, style, "none")
        rgb, alpha = (_resize(v, size)[0].permute(1, 2, 0).numpy() for v in (out.rgb, out.alpha))
    return _to_display(rgb / np.maximum(alpha, 1e-6)), alpha


def _resize(picture: Float[Tensor, "1 c h1 w1"], size: tuple[int, int]) -> Float[Tensor, "1 c h w"]:
    if picture.shape[2] >= size[0]:
        return F.interpolate(picture, size, mode="area")
    return F.interpolate(picture, size, mode="bilinear", align_corners=False)


def _albedo(colour: str | Float[np.ndarray, "v1 3"], count: int) -> Float[Tensor, "v 3"]:
    if isinstance(colour, str):
        if colour not in MATERIALS:
            raise ValueError(f"colour is {colour!r}, should be one of {', '.join(MATERIALS)} or RGB for each vertex")
        return torch.tensor(MATERIALS[colour]).expand(count, 3)
    albedo = torch.as_tensor(np.asarray(colour), dtype=torch.float32)
    if albedo.shape != (count, 3):
        raise ValueError(f"colours have shape {tuple(albedo.shape)}, should be ({count}, 3)")
    return albedo


def _studio() -> Lights:
    """A key light from the upper left, a sky above and a weak fill from the camera."""
    sh = torch.zeros(1, 9, 3)
    sh[0, 0] = torch.tensor([0.30, 0.32, 0.36]) / 0.282095
    sh[0, 1] = torch.tensor([-0.14, -0.15, -0.17]) / (0.488603 * 2 / 3)  # from above: y points down
    sh[0, 2] = torch.tensor([-0.10, -0.09, -0.08]) / (0.488603 * 2 / 3)  # from the camera
    key = torch.tensor([[-0.55, -0.70, -0.62]])
    colour = torch.tensor([[0.95, 0.90, 0.83]])
    return Lights(sh, key / key.norm(), colour, torch.tensor([0.10]), torch.tensor([28.0]))


def _to_display(linear: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    """Linear light -> sRGB's transfer curve, after a soft shoulder that keeps highlights from burning out."""
    soft = np.where(linear > 0.7, 0.7 + 0.3 * (1 - np.exp(-(linear - 0.7) / 0.3)), linear)
    soft = np.clip(soft, 0, 1)
    return np.where(soft <= 0.0031308, 12.92 * soft, 1.055 * soft ** (1 / 2.4) - 0.055)


def _ground(size: tuple[int, int], alpha: Float[np.ndarray, "h w 1"]) -> Float[np.ndarray, "h w 3"]:
    """A light backdrop, darker towards the corners, with the mesh's soft shadow on it."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    edge = ((x + 0.5) / width - 0.5) ** 2 + ((y + 0.5) / height - 0.45) ** 2
    backdrop = 0.965 - 0.16 * edge
    reach = 0.035 * min(size)
    move = np.float32([[1, 0, 0.6 * reach], [0, 1, 0.9 * reach]])
    cast = cv2.GaussianBlur(cv2.warpAffine(alpha[..., 0], move, (width, height)), (0, 0), reach)
    return (backdrop * (1 - 0.20 * cast))[..., None] * np.array([0.985, 0.993, 1.0])


def _thickness(image: Image, joints: Float[np.ndarray, "n 2"]) -> float:
    """Bone width in px: a fortieth of the hand's extent, within what is legible in the image."""
    side = min(image.shape[:2])
    extent = float((joints.max(0) - joints.min(0)).max())
    return float(np.clip(extent / 40, max(1.5, side / 160), max(2.0, side / 40)))


def _strokes(
    canvas: Image,
    joints: Float[np.ndarray, "21 2"],
    shown: Bool[np.ndarray, "21"],
    width: float,
    rim: float,
    dark: bool,
) -> Image:
    """Bones, tapered towards the tips, then joints, on `canvas`, each `rim` px wider."""
    outline = (18, 18, 22)
    for parent, child in skeleton.BONES:
        if shown[parent] and shown[child]:
            step = (child - 1) % 4
            taper = width * (1 - 0.12 * step), width * (1 - 0.12 * (step + 1))
            _bone(canvas, joints[[parent, child]], taper, rim, outline if dark else _colour(child))
    for joint in np.flatnonzero(shown).tolist():
        radius = width * (0.95 if joint else 1.2)
        _disc(canvas, joints[joint], radius + rim, outline if dark else _colour(joint))
        if not dark:
            _disc(canvas, joints[joint], radius * 0.45, (255, 255, 255))
    return canvas


def _colour(joint: int) -> tuple[int, int, int]:
    return (235, 235, 235) if joint == skeleton.WRIST else skeleton.FINGER_COLOURS[(joint - 1) // 4]


def _bone(
    canvas: Image, ends: Float[np.ndarray, "2 2"], width: tuple[float, float], rim: float, colour: tuple[int, ...]
) -> None:
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
    half = [across * (w / 2 + rim) for w in width]
    corners = np.stack((ends[0] + half[0], ends[1] + half[1], ends[1] - half[1], ends[0] - half[0]))
    cv2.fillConvexPoly(canvas, _fixed_point(corners), colour, cv2.LINE_AA, SUBPIXEL)


def _disc(canvas: Image, centre: Float[np.ndarray, "2"], radius: float, colour: tuple[int, ...]) -> None:
    x, y = _fixed_point(centre).tolist()
    cv2.circle(canvas, (x, y), max(1, round(radius * (1 << SUBPIXEL))), colour, cv2.FILLED, cv2.LINE_AA, SUBPIXEL)


def _fixed_point(points: Float[np.ndarray, "*n 2"]) -> np.ndarray:
    return np.rint(points * (1 << SUBPIXEL)).astype(np.int32)


def _to_height(image: AnyImage, height: int) -> AnyImage:
    if image.shape[0] == height:
        return image
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    )
