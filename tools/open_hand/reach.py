"""What the pose sampler reaches, and how deep digits lie in each other: measured on the skin itself.

python -m tools.open_hand.reach [--count 2000] [--hand FILE] [--plot docs/open_hand_coverage.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from mesh_graphormer_hand import paths
from mesh_graphormer_hand.mano.io import read_npz
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.hand.anatomy import FINGER_CHAINS, THUMB, Anatomy
from mesh_graphormer_hand.virtual.parameters import draw_hands
from mesh_graphormer_hand.virtual.rng import Draws

from .volumes import posed_by

NEAR = 12.0  # mm: skin farther off is not what a vertex lies behind
BLOCK = 250


def main() -> None:
    """Print percentiles of the deepest penetration; draw the coverage."""
    parser = argparse.ArgumentParser(prog="python -m tools.open_hand.reach", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--hand", type=Path, default=paths.MANO_ASSETS / "open_hand.npz")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    with np.load(args.hand) as file:
        arrays = dict(file)
    anatomy, config = Anatomy.of(read_npz(args.hand)), VirtualConfig()
    depth, rotations = [], []
    for start in range(0, args.count, BLOCK):
        rows = range(start, min(start + BLOCK, args.count))
        shape, drawn = draw_hands(Draws(config, rows, "pose"), config, anatomy)
        rotations.append(drawn)
        depth.append(depths(arrays, drawn, shape))
    depth = np.concatenate(depth)
    print(f"{len(depth)} poses: deepest penetration of the skin, mm")
    print(*(f"p{p} {np.percentile(depth, p):.1f}" for p in (50, 90, 95, 99, 100)), sep="   ")
    print(f"under 3 mm: {100 * (depth < 3).mean():.1f} %")
    if args.plot:
        plot(anatomy, np.concatenate(rotations), args.plot)


def depths(
    arrays: dict[str, np.ndarray], rotations: Float[np.ndarray, "b 16 3 3"], shape: Float[np.ndarray, "b 10"]
) -> Float[np.ndarray, "b"]:
    """How far the skin of one part lies behind the skin of another, mm, the deepest vertex of each hand's template."""
    may, faces = _may_meet(arrays["weights"].argmax(1)), arrays["faces"]
    rows = np.flatnonzero(may.any(1))
    out = np.empty(len(rotations))
    for k, rotation in enumerate(rotations):
        v = 1e3 * posed_by(arrays, rotation, "", shape[k])
        normals = _normals(v, faces)
        square = (v**2).sum(1)
        distance = square[rows, None] + square - 2 * v[rows] @ v.T
        distance[~may[rows]] = np.inf
        nearest = distance.argmin(1)
        behind = ((v[nearest] - v[rows]) * normals[nearest]).sum(1)
        close = distance[np.arange(len(rows)), nearest] < NEAR**2
        opposed = (normals[rows] * normals[nearest]).sum(1) < 0.5
        out[k] = np.where(close & opposed, behind, 0).max().clip(0)
    return out


def plot(anatomy: Anatomy, rotations: Float[np.ndarray, "b 16 3 3"], path: Path) -> None:
    """Fingers' middle joints against knuckles, and spread; where each thumb tip gets to."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 5, figsize=(15, 6), constrained_layout=True)
    names = ("index", "middle", "ring", "little")
    for k, (name, chain) in enumerate(zip(names, FINGER_CHAINS, strict=True)):
        base, middle = (_flexion(anatomy, rotations, j) for j in (chain.start, chain.start + 1))
        axes[0, k].hexbin(base, middle, gridsize=22, cmap="viridis", bins="log")
        axes[0, k].set(title=name, xlabel="knuckle, degrees", ylabel="middle joint")
        axes[1, k].hexbin(base, _spread(anatomy, rotations, chain.start), gridsize=22, cmap="viridis", bins="log")
        axes[1, k].set(xlabel="knuckle, degrees", ylabel="spread")
    bend = [_flexion(anatomy, rotations, j) for j in (THUMB.start + 1, THUMB.start + 2)]
    axes[0, 4].hexbin(*bend, gridsize=22, cmap="viridis", bins="log")
    axes[0, 4].set(title="thumb", xlabel="middle joint, degrees", ylabel="last joint")
    tip = 1e3 * anatomy.pose(rotations)[:, 4]
    axes[1, 4].hexbin(tip[:, 2], tip[:, 1], gridsize=22, cmap="viridis", bins="log")
    axes[1, 4].set(xlabel="thumb tip, mm towards its side", ylabel="mm towards the back")
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _flexion(anatomy: Anatomy, rotations: np.ndarray, joint: int) -> Float[np.ndarray, "b"]:
    along, _, up = anatomy.frames[joint]
    turned = rotations[:, joint] @ along
    return np.degrees(np.arctan2(-(turned @ up), turned @ along))


def _spread(anatomy: Anatomy, rotations: np.ndarray, joint: int) -> Float[np.ndarray, "b"]:
    """Of the finger's own axis across, which flexion leaves alone."""
    along, across, _ = anatomy.frames[joint]
    turned = rotations[:, joint] @ across
    return np.degrees(np.arctan2(-(turned @ along), turned @ across))


def _may_meet(owner: np.ndarray) -> Bool[np.ndarray, "v v"]:
    """Pairs of vertices that belong to parts apart: digits past their first phalanx, and all other parts."""
    digit = np.where(owner == 0, -1, (owner - 1) // 3)
    bone = np.where(owner == 0, -1, (owner - 1) % 3)
    thumb = digit == 4
    root = bone <= 0  # palm, first phalanges, the thumb's metacarpal
    near_palm = root | (thumb & (bone == 1))
    apart = (digit[:, None] != digit) & ~(near_palm[:, None] & near_palm)
    return apart & ~root[:, None]


def _normals(v: Float[np.ndarray, "v 3"], faces: np.ndarray) -> Float[np.ndarray, "v 3"]:
    a, b, c = (v[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    out = np.stack([np.bincount(faces.ravel(), cross[:, k].repeat(3), len(v)) for k in range(3)], 1)
    return out / np.linalg.norm(out, axis=1, keepdims=True).clip(1e-12)


if __name__ == "__main__":
    main()
