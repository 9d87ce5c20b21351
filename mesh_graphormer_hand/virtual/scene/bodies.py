"""People made of blobs, for whole frames: bodies at the arms of hands, and bystanders without hands.

Ellipsoids and tapered limbs, in a person's own frame (m, origin at the base of the neck, y down, face towards -z).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from ..hand.anatomy import turn
from .solids import sphere

SPHERE, FACES = sphere(18, 11)
SHOULDER = np.array([0.175, 0.03, 0.0])  # m, of the person's left one as the camera sees it (x to the right)
UPPER_ARM = 0.29  # m
Point = np.ndarray | tuple[float | int, ...]


@dataclass(frozen=True, eq=False)
class Blobs:
    """A mesh of blobs."""

    vertices: Float[np.ndarray, "v 3"]  # m
    faces: Int64[np.ndarray, "f 3"]
    colours: Float[np.ndarray, "v 4"]  # linear RGB, share of the highlights

    @classmethod
    def cat(cls, parts: list[Blobs]) -> Blobs:
        """Several as one."""
        starts = np.cumsum([0, *(len(p.vertices) for p in parts)])
        faces = [p.faces + start for p, start in zip(parts, starts, strict=False)]
        vertices, colours = ([getattr(p, name) for p in parts] for name in ("vertices", "colours"))
        return cls(np.concatenate(vertices), np.concatenate(faces), np.concatenate(colours))

    def moved(self, rotation: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, "3"], scale: float = 1.0) -> Blobs:
        """In another frame."""
        return Blobs(scale * self.vertices @ rotation.T + shift, self.faces, self.colours)


def blob(centre: Point, radii: Point, colour: Float[np.ndarray, "*v 3"]) -> Blobs:
    """An ellipsoid; `colour` is linear RGB, or one for each vertex."""
    return _coloured(SPHERE * np.array(radii) + np.array(centre), colour)


def limb(start: Point, stop: Point, thick: float, thin: float, colour: Float[np.ndarray, "*v 3"]) -> Blobs:
    """A round limb with radii (m) from `thick` at its start to `thin` at its end."""
    start, stop = np.array(start), np.array(stop)
    along = stop - start
    length = max(float(np.linalg.norm(along)), 1e-6)
    z = along / length
    x = np.cross(z, [0.3, 0.2, 0.9] if abs(z[1]) > 0.9 else [0.0, 1, 0])
    x /= np.linalg.norm(x)
    t = (SPHERE[:, 2] + 1) / 2
    radius = thick + (thin - thick) * t
    # a sphere stretched along its axis with blunter ends
    round_ = np.sqrt(1 - np.minimum(np.abs(SPHERE[:, 2]), 1) ** 4)
    flat = SPHERE[:, :2] / np.maximum(np.linalg.norm(SPHERE[:, :2], axis=1, keepdims=True), 1e-9)
    ring = flat * (radius * round_)[:, None]
    return _coloured(start + ring[:, :1] * x + ring[:, 1:] * np.cross(z, x) + t[:, None] * along, colour)


def _coloured(vertices: Float[np.ndarray, "n 3"], colour: Float[np.ndarray, "*v 3"]) -> Blobs:
    colours = np.broadcast_to(np.asarray(colour, np.float64), (len(vertices), 3))
    return Blobs(vertices, FACES, np.concatenate([colours, np.full((len(vertices), 1), 0.3)], 1))


def at_elbow(
    rng: np.random.Generator,
    elbow: Float[np.ndarray, "3"],
    wrist: Float[np.ndarray, "3"],
    skin: Float[np.ndarray, "3"],
    body: bool,
) -> Blobs:
    """The upper arm from an elbow (m, camera axes) on, and with `body` the person whom it belongs to."""
    away = (elbow - wrist) / np.linalg.norm(elbow - wrist)
    cloth = _cloth(rng)
    bare = rng.random() < 0.4
    direction = 0.6 * away + np.array([rng.uniform(-0.6, 0.6), rng.uniform(-1.1, 0.1), rng.uniform(0.0, 0.9)])
    direction /= np.linalg.norm(direction)
    shoulder = elbow + UPPER_ARM * direction * rng.uniform(0.9, 1.1)
    arm = limb(elbow - 0.03 * away, shoulder, 0.042, 0.058, skin if bare else cloth)
    if not body or shoulder[2] < 0.55:
        return arm
    side = 1.0 if rng.random() < 0.5 else -1.0
    rotation = _stance(rng)
    scale = rng.uniform(0.9, 1.05)
    person = standing(rng, skin, cloth, without=side)
    return Blobs.cat([arm, person.moved(rotation, shoulder - scale * rotation @ (SHOULDER * [side, 1, 1]), scale)])


def bystander(rng: np.random.Generator, skin: Float[np.ndarray, "3"], focal: float) -> Blobs:
    """Somebody without hands (behind the back, in pockets) somewhere in a frame whose focal length is `focal` sides."""
    distance = np.exp(rng.uniform(np.log(0.9), np.log(5)))
    place = distance * np.array([rng.uniform(-0.6, 0.6) / focal, rng.uniform(-0.45, 0.35) / focal, 1])
    return standing(rng, skin, _cloth(rng), without=0.0).moved(_stance(rng), place, rng.uniform(0.75, 1.1))


def standing(
    rng: np.random.Generator, skin: Float[np.ndarray, "3"], cloth: Float[np.ndarray, "*v 3"], without: float
) -> Blobs:
    """A person upright; the arm of the side `without` (+1, -1; 0: none) is left out, arms end without hands."""
    trousers, hair = _cloth(rng), rng.uniform(0.004, 0.12) * np.array([1, 0.75, 0.55]) * rng.uniform(0.5, 1.3)
    face = skin * rng.uniform(0.9, 1.15)
    parts = [
        limb((0, -0.02, 0), (0, 0.3, 0), 0.15, 0.15, cloth),
        limb((-0.1, 0.06, 0), (0.02, 0.56, 0), 0.11, 0.12, cloth),
        limb((0.1, 0.06, 0), (-0.02, 0.56, 0), 0.11, 0.12, cloth),
        limb((0, 0.02, 0), (0, -0.16, -0.01), 0.06, 0.05, face),
        blob((0, -0.235, -0.02), (0.074, 0.112, 0.092), face),
        blob((0, -0.265, 0.015), (0.083, 0.105, 0.09), hair),
        limb((0, -0.25, -0.108), (0, -0.215, -0.122), 0.009, 0.014, face),
        blob((0, -0.178, -0.1), (0.024, 0.007, 0.01), face * [0.8, 0.45, 0.45]),
        *(blob((x, -0.25, -0.1), (0.013, 0.008, 0.008), np.full(3, 0.02)) for x in (-0.032, 0.032)),
    ]
    parts += [limb((x, 0.5, 0), (x * 1.2, 1.3, 0.02), 0.1, 0.06, trousers) for x in (-0.09, 0.09)]
    bare = rng.random() < 0.4
    for side in (-1.0, 1.0):
        shoulder = SHOULDER * [side, 1, 1]
        parts.append(blob(tuple(shoulder), (0.065, 0.065, 0.065), cloth))
        if side != without:
            elbow = shoulder + [side * rng.uniform(0.02, 0.14), 0.26, rng.uniform(-0.03, 0.1)]
            hand = np.array([side * rng.uniform(0.02, 0.12), 0.46, rng.uniform(0.06, 0.12)])  # in the back's shade
            parts.append(limb(shoulder, elbow, 0.055, 0.044, skin if bare else cloth))
            parts.append(limb(elbow, hand, 0.043, 0.03, skin if bare or rng.random() < 0.3 else cloth))
    return Blobs.cat(parts)


def _stance(rng: np.random.Generator) -> Float[np.ndarray, "3 3"]:
    yaw, roll, pitch = rng.normal(0, 0.7), rng.normal(0, 0.12), rng.normal(0, 0.15)
    return (
        turn(np.array([0.0, 0, 1]), np.array(roll))
        @ turn(np.array([1.0, 0, 0]), np.array(pitch))
        @ turn(np.array([0.0, 1, 0]), np.array(yaw))
    )


def _cloth(rng: np.random.Generator) -> np.ndarray:
    """One linear colour, or stripes over the blob's vertices."""
    colour = rng.random(3) ** 2 if rng.random() < 0.6 else np.full(3, rng.random() ** 2)
    if rng.random() < 0.7:
        return np.clip(colour, 0.01, 0.9)
    wave = np.sin(rng.uniform(3, 25) * SPHERE[:, int(rng.integers(3))])[:, None]
    return np.clip(colour * (1 + rng.uniform(0.1, 0.8) * wave), 0.01, 0.9)
