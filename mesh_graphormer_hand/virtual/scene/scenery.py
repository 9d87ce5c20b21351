"""Places to hold a hand in front of: rooms with furniture and shelves, table tops, gardens and streets, and people.

Everything is painted on 8-bit RGB screens of any size with OpenCV, a few dozen shapes each; `background` blurs, lights
and frames them. Lengths are in shares of the screen's side.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float

from .brushes import Number, Random, Screen, box, ellipse, fill, line, noise, rectangle, shaded, to_bytes

# Hue (share of the circle), its spread, saturation: what walls, wood, cloth, metal and plants are coloured like
PALETTES = ((0.08, 0.03, 0.35), (0.1, 0.05, 0.15), (0.6, 0.06, 0.25), (0.05, 0.04, 0.55), (0.3, 0.08, 0.3))


def colour(rng: Random, low: float | int = 0.14, high: float | int = 0.95) -> Float[np.ndarray, "3"]:
    """A screen colour as objects have it: mostly dull, some bright, now and then vivid."""
    value = rng.uniform(low, high)
    kind = rng.random()
    if kind < 0.3:
        hue, saturation = rng.random(), 0.08 * rng.random()
    elif kind < 0.9:
        hue, spread, most = PALETTES[int(rng.integers(len(PALETTES)))]
        hue, saturation = hue + spread * rng.standard_normal(), most * rng.uniform(0.3, 1.3)
    else:
        hue, saturation = rng.random(), rng.uniform(0.35, 0.95)
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return value * (1 - min(saturation, 1) * np.clip(np.minimum(k, 4 - k), 0, 1))


def room(rng: Random, size: int, skin: Float[np.ndarray, "3"]) -> Screen:
    """Walls, floor and ceiling in one-point perspective, furniture, shelves, windows, pictures; perhaps a person."""
    screen = np.empty((size, size, 3), np.uint8)
    vanish = rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.6)
    reach = rng.uniform(0.15, 0.6, 4)
    left, right = vanish[0] - reach[0] - 0.1, vanish[0] + reach[1] + 0.1
    top, bottom = vanish[1] - reach[2], vanish[1] + 0.1 + 0.6 * reach[3]
    wall, ground = colour(rng, 0.35), colour(rng, 0.15, 0.75)
    screen[:] = to_bytes(wall)
    far = 6.0

    def out(x: Number, y: Number) -> tuple[float, float]:
        return vanish[0] + far * (x - vanish[0]), vanish[1] + far * (y - vanish[1])

    corners = (left, top), (right, top), (right, bottom), (left, bottom)
    shades = colour(rng, 0.7, 1), wall * rng.uniform(0.6, 1.1), ground, wall * rng.uniform(0.6, 1.1)  # top, right, ...
    for k in range(4):
        a, b = corners[k], corners[(k + 1) % 4]
        fill(screen, (a, b, out(*b), out(*a)), shades[k])
    if rng.random() < 0.6:
        _boards(rng, screen, vanish, bottom, ground)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(left - 0.2, right), rng.uniform(top - 0.1, bottom - 0.2)
        _on_wall(rng, screen, x, y, rng.uniform(0.12, 0.5), rng.uniform(0.12, 0.45))
    for _ in range(int(rng.integers(1, 5))):
        x, height = rng.uniform(-0.2, 1), rng.uniform(0.1, 0.5)
        floor = max(bottom, vanish[1] + 0.12) + rng.uniform(0, 0.45)
        _cuboid(rng, screen, vanish, x, floor - height, rng.uniform(0.12, 0.5), height)
    uneven = rng.uniform(0.05, 0.35)
    screen = cv2.multiply(
        screen, shaded(np.ones(3), 1 - 0.5 * uneven, uneven, noise(rng, size, rng.uniform(0.5, 3))), scale=1 / 255
    )
    if rng.random() < 0.3:
        person(rng, screen, skin)
    for _ in range(int(rng.integers(0, 3))):  # a pole, a lamp's cord, a table's leg
        x, lean = rng.uniform(0, 1), rng.normal() * 0.3
        width = max(1, int(size * rng.uniform(0.004, 0.04)))
        line(screen, (x, -0.1), (x + lean, 1.1), colour(rng), width)
    return screen


def table(rng: Random, size: int, skin: Float[np.ndarray, "3"]) -> Screen:
    """A surface from above with objects on it and their shadows."""
    screen = material(rng, size)
    shadow, offset = np.zeros((size, size), np.uint8), rng.normal(size=2) * 0.03
    objects = [
        (rng.uniform(-0.1, 1.1, 2), rng.uniform(0.03, 0.3, 2), rng.uniform(0, 180)) for _ in range(rng.integers(6))
    ]
    for centre, half, turn in objects:
        box(shadow, centre + offset, half, turn, 255)
    if objects:
        shadow = cv2.GaussianBlur(shadow, (0, 0), size * rng.uniform(0.006, 0.03))
        screen = cv2.multiply(
            screen, cv2.merge([255 - (shadow * rng.uniform(0.3, 0.7)).astype(np.uint8)] * 3), scale=1 / 255
        )
    for centre, half, turn in objects:
        kind, paint = rng.random(), colour(rng)
        if kind < 0.25:
            ellipse(screen, centre, half[[0, 0]], 0, paint)
            ellipse(screen, centre, 0.8 * half[[0, 0]], 0, np.clip(paint * rng.uniform(0.5, 1.5), 0, 1))
            continue
        box(screen, centre, half, turn, paint)
        if kind < 0.6:  # print, keys, a screen
            box(screen, centre, half * rng.uniform(0.7, 0.93), turn, colour(rng))
            for t in np.linspace(-0.7, 0.7, int(rng.integers(2, 9))):
                axis = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
                beside = centre + half[1] * t * np.array([-axis[1], axis[0]])
                reach = 0.7 * half[0] * axis * rng.uniform(0.5, 1)
                line(screen, beside - reach, beside + reach, paint, max(1, size // 200))
    if rng.random() < 0.15:
        limb(rng, screen, skin)
    return screen


def outdoors(rng: Random, size: int, skin: Float[np.ndarray, "3"]) -> Screen:
    """Sky, trees, leaves, grass and ground; perhaps a person."""
    screen = np.empty((size, size, 3), np.uint8)
    horizon = rng.uniform(-0.3, 1.0)
    sky = np.array([rng.uniform(0.55, 0.95), rng.uniform(0.7, 0.97), rng.uniform(0.85, 1)])
    ramp = np.linspace(0, 1, size)[:, None, None]
    screen[:] = to_bytes(sky * (0.75 + 0.25 * ramp))
    green = rng.uniform(0.3, 0.6)
    grass = green * np.array([rng.uniform(0.55, 1.05), 1, rng.uniform(0.3, 0.7)])
    ground = grass if rng.random() < 0.5 else colour(rng, 0.25, 0.7)
    below = int(np.clip(horizon, 0, 1) * size)
    screen[below:] = shaded(ground, 0.5, 1.0, noise(rng, size, rng.uniform(1.2, 4)))[below:]
    trees = (noise(rng, size, rng.uniform(0.4, 1.2)) > rng.uniform(0.3, 0.6)) & (
        np.arange(size)[:, None] < below + 0.05 * size
    )
    leaf = grass * rng.uniform(0.5, 1.1)
    cv2.copyTo(shaded(leaf, 0.15, 1.5, noise(rng, size, rng.uniform(1.5, 4))), trees.astype(np.uint8), screen)
    for _ in range(int(rng.integers(0, 110))):
        place, reach = rng.uniform(-0.05, 1.05, 2), np.abs(rng.normal(0, 0.022)) + 0.005
        shade = np.clip(leaf * rng.uniform(0.35, 1.8) + 0.06 * rng.normal(size=3), 0, 1)
        ellipse(screen, place, (reach, reach * rng.uniform(0.25, 0.8)), rng.uniform(0, 180), shade)
    for _ in range(int(rng.integers(0, 3))):
        x, bark = rng.uniform(0, 1), colour(rng, 0.15, 0.45)
        line(screen, (x, -0.1), (x + 0.1 * rng.normal(), 1.1), bark, int(size * rng.uniform(0.01, 0.1)) + 1)
    if rng.random() < 0.25:
        person(rng, screen, skin)
    return screen


def material(rng: Random, size: int) -> Screen:
    """Wood, stone, cloth, carpet, tiles, wallpaper or a plain sheet."""
    base, kind = colour(rng, 0.2, 0.98), rng.random()
    if kind < 0.25:  # plain, unevenly lit or worn
        uneven = rng.uniform(0.02, 0.2)
        return shaded(base, 1 - 0.5 * uneven, uneven, noise(rng, size, 0.5))
    if kind < 0.45:  # wood: noise drawn out along the grain
        grain = cv2.resize(noise(rng, size, 2)[: max(2, size // 12)], (size, size))
        grain = grain.T if rng.random() < 0.5 else grain
        wood = np.array([rng.uniform(0.45, 0.85), 0, 0])
        wood[1:] = wood[0] * rng.uniform(0.65, 0.85), wood[0] * rng.uniform(0.35, 0.65)
        return shaded(wood, 0.75, 0.5, np.ascontiguousarray(grain))
    if kind < 0.6:  # stone, carpet, plaster
        rough = rng.uniform(0.2, 1.2)
        return shaded(base, 1 - 0.5 * rough, rough, noise(rng, size, rng.uniform(1, 4)))
    if kind < 0.75:
        return _tiles(rng, size, base)
    return _printed(rng, size, base)


def person(rng: Random, screen: Screen, skin: Float[np.ndarray, "3"]) -> None:
    """A torso in cloth, a neck and a face with hair, out of blobs, often cut by the border; and an arm."""
    scale, at = rng.uniform(0.5, 1.7), rng.uniform([-0.2, 0.1], [1.2, 0.6])
    face = np.clip(skin * rng.uniform(0.8, 1.15) + 0.03 * rng.normal(size=3), 0, 1)
    cloth, hair = colour(rng), rng.uniform(0.05, 0.45) * np.array([1, 0.78, 0.6])
    head = np.array([0.12, 0.155]) * scale
    neck = at + [0, 0.9 * head[1]]
    shoulder = 0.24 * scale
    ellipse(screen, at - [0, 0.25 * head[1]], head * [1.15, 1.05], 0, hair)
    line(screen, neck, neck + [0, 0.12 * scale], face * 0.75, int(len(screen) * 0.1 * scale) + 1)
    body = neck + [0, 0.08 * scale]
    reach = (shoulder, 0.09 * scale)
    corners = [
        body + [-reach[0], reach[1]],
        body + [-0.1 * scale, 0],
        body + [0.1 * scale, 0],
        body + [reach[0], reach[1]],
    ]
    fill(screen, [*corners, body + [1.2 * reach[0], 1.5], body + [-1.2 * reach[0], 1.5]], cloth)
    for sign in (-1, 1):
        fill(
            screen,
            _tapered(
                body + [sign * reach[0], 1.1 * reach[1]],
                body + [sign * 1.4 * reach[0], 0.6],
                0.07 * scale,
                0.06 * scale,
            ),
            cloth * 0.85,
        )
    for k in range(6):  # rounder: lighter towards one side
        ellipse(
            screen, at + [0.02 * k * head[0], 0], head * (1 - 0.09 * k), 0, np.clip(face * (0.86 + 0.045 * k), 0, 1)
        )
    for sign in (-1, 1):
        eye = at + [sign * 0.4 * head[0], -0.08 * head[1]]
        ellipse(screen, eye, head * [0.2, 0.08], 0, (0.85, 0.83, 0.8))
        ellipse(screen, eye, head[[0, 0]] * 0.08, 0, (0.15, 0.1, 0.08))
        line(
            screen,
            eye - [0.2 * head[0], 0.2 * head[1]],
            eye + [0.2 * head[0], -0.22 * head[1]],
            hair,
            max(1, int(9 * scale * len(screen) / 640)),
        )
    line(
        screen,
        at + [0, 0],
        at + [0.04 * scale * 0.3, 0.3 * head[1]],
        face * 0.75,
        max(1, int(len(screen) * 0.008 * scale)),
    )
    ellipse(screen, at + [0, 0.55 * head[1]], head * [0.32, 0.07], 0, face * [0.85, 0.55, 0.55])
    if rng.random() < 0.5:
        limb(rng, screen, face)


def limb(rng: Random, screen: Screen, skin: Float[np.ndarray, "3"]) -> None:
    """An arm or leg of skin, rounded by shading, out of the picture at one end."""
    start, stop = rng.uniform(-0.3, 1.3, 2), rng.uniform(0.1, 0.9, 2)
    start[int(rng.integers(2))] = rng.choice((-0.3, 1.3))
    wide = rng.uniform(0.04, 0.16)
    along = (stop - start) / np.linalg.norm(stop - start)
    beside = np.array([-along[1], along[0]]) * wide * rng.choice((-1, 1))
    tone = np.clip(skin * rng.uniform(0.75, 1.1), 0, 1)
    for k in range(6):
        shade = tone * (0.72 + 0.06 * k)
        shift = 0.06 * k * beside
        share = 1 - 0.13 * k
        fill(screen, _tapered(start + shift, stop + shift, wide * share, 0.75 * wide * share), shade)
        ellipse(screen, stop + shift, (0.75 * wide * share,) * 2, 0, shade)


# ------------------------------------------------------------------------------------------------------ parts of them


def _boards(
    rng: Random, screen: Screen, vanish: tuple[float, float], bottom: Number, ground: Float[np.ndarray, "3"]
) -> None:
    shade = np.clip(ground * rng.uniform(0.7, 1.2), 0, 1)
    for x in np.linspace(-3, 4, int(rng.integers(8, 30))):
        start = vanish[0] + (x - vanish[0]) * (bottom - vanish[1]) / (1.6 - vanish[1])
        line(screen, (start, bottom), (x, 1.6), shade, 1)


def _on_wall(rng: Random, screen: Screen, x: Number, y: Number, w: Number, h: Number) -> None:
    """A window, a picture, a screen, a door, or shelves full of objects."""
    rectangle(screen, x, y, w, h, colour(rng))
    inset, kind = 0.06 * min(w, h), rng.random()
    if kind < 0.3:
        rectangle(
            screen,
            x + inset,
            y + inset,
            w - 2 * inset,
            h - 2 * inset,
            np.array([0.95, 0.97, 1]) * rng.uniform(0.7, 1.05),
        )
        line(screen, (x + w / 2, y), (x + w / 2, y + h), colour(rng), max(1, len(screen) // 90))
    elif kind < 0.5:
        rectangle(screen, x + inset, y + inset, w - 2 * inset, h - 2 * inset, colour(rng))
    else:
        rows = int(rng.integers(2, 5))
        rectangle(screen, x + inset, y + inset, w - 2 * inset, h - 2 * inset, colour(rng, 0.05, 0.5))
        shelf = h / rows
        kinds = [colour(rng) for _ in range(5)]
        for row in range(rows):
            at, base = x + inset, y + (row + 1) * shelf
            while at < x + w - 2 * inset:
                wide, high = rng.uniform(0.008, 0.045), shelf * rng.uniform(0.4, 0.85)
                paint = kinds[int(rng.integers(5))] * rng.uniform(0.7, 1.1)
                rectangle(screen, at, base - high, wide, high, paint)
                rectangle(screen, at + 0.25 * wide, base - high, 0.2 * wide, high, np.clip(paint * 1.4 + 0.05, 0, 1))
                at += wide * rng.uniform(1.05, 1.5)
            line(screen, (x, base), (x + w, base), colour(rng, 0.3), max(1, len(screen) // 110))


def _cuboid(
    rng: Random, screen: Screen, vanish: tuple[float, float], x: Number, y: Number, w: Number, h: Number
) -> None:
    """A table, a chest, a chair's seat: front, side and top."""
    paint, back, v = colour(rng), rng.uniform(0.55, 0.85), np.array(vanish)
    front = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    behind = v + back * (front - v)
    for a, b, light in ((0, 1, 1.15), (1, 2, 0.75), (3, 0, 0.8)):
        fill(screen, (front[a], front[b], behind[b], behind[a]), np.clip(paint * light, 0, 1))
    fill(screen, front, paint)
    if rng.random() < 0.5:  # a table: the space under it
        rectangle(screen, x + 0.06 * w, y + 0.15 * h, 0.88 * w, h, paint * 0.35)
    elif rng.random() < 0.6:
        for t in np.linspace(0, 1, int(rng.integers(2, 5)))[1:]:
            line(screen, (x, y + t * h), (x + w, y + t * h), paint * 0.6, 1)


def _tiles(rng: Random, size: int, base: Float[np.ndarray, "3"]) -> Screen:
    rows, columns = rng.integers(2, 11, 2)
    cells = (1 + rng.uniform(0.02, 0.25) * rng.standard_normal((rows, columns))).astype(np.float32)
    cells = cv2.resize(cells, (size, size), interpolation=cv2.INTER_NEAREST)
    screen = to_bytes(base * cells[..., None])
    joint = colour(rng)
    for k in range(1, max(rows, columns)):
        line(screen, (0, k / rows), (1, k / rows), joint, max(1, size // 120))
        line(screen, (k / columns, 0), (k / columns, 1), joint, max(1, size // 120))
    return screen


def _printed(rng: Random, size: int, base: Float[np.ndarray, "3"]) -> Screen:
    """A repeated motif of blobs, or stripes and checks."""
    side = int(np.clip(size * rng.uniform(0.06, 0.45), 12, size))
    motif = np.empty((side, side, 3), np.uint8)
    motif[:] = to_bytes(base)
    if rng.random() < 0.4:
        for axis in range(int(rng.integers(1, 3))):
            for _ in range(int(rng.integers(1, 4))):
                a, wide = rng.integers(side), 1 + int(side * rng.uniform(0.02, 0.3))
                view = motif[a : a + wide] if axis else motif[:, a : a + wide]
                view[:] = (0.5 * view + 0.5 * to_bytes(colour(rng))).astype(np.uint8)
    else:
        inks = [colour(rng) for _ in range(3)]
        for _ in range(int(rng.integers(3, 12))):
            place, reach, paint_colour = rng.random(2), rng.uniform(0.03, 0.16), inks[int(rng.integers(3))]
            for _ in range(int(rng.integers(1, 6))):
                degrees = rng.uniform(0, 360)
                outwards = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
                shade = np.clip(paint_colour * rng.uniform(0.7, 1.2), 0, 1)
                ellipse(motif, place + 0.8 * reach * outwards, (reach, 0.6 * reach), degrees, shade)
    times = size // side + 1
    return np.ascontiguousarray(np.tile(motif, (times, times, 1))[:size, :size])


def _tapered(start: Float[np.ndarray, "2"], stop: Float[np.ndarray, "2"], wide: Number, narrow: Number) -> np.ndarray:
    along = (stop - start) / max(np.linalg.norm(stop - start), 1e-6)
    beside = np.array([-along[1], along[0]])
    return np.array([start + wide * beside, stop + narrow * beside, stop - narrow * beside, start - wide * beside])
