"""Meshes, cameras and the slow twin that the rendering tests share."""

import numpy as np
import torch
import trimesh

from helpers.places import DATA

REFERENCE = DATA / "pytorch3d_cameras_raster.npz"  # what PyTorch3D 0.7.9 gives
CAMERA = torch.tensor([[100.0, 100.0, 16.0, 16.0]])  # fx, fy, cx, cy of a 32 x 32 image


def reference() -> dict[str, np.ndarray]:
    """The stored outputs of PyTorch3D 0.7.9."""
    with np.load(REFERENCE, allow_pickle=False) as data:
        return {key: data[key].astype(np.int64) if data[key].dtype == np.int16 else data[key] for key in data}


def sphere(level=2, radius=0.08, centre=(0.0, 0.0, 0.5)):
    """Vertices (v, 3) m and faces (f, 3) of an icosphere, counter-clockwise from outside."""
    mesh = trimesh.creation.icosphere(level)
    vertices = torch.tensor(mesh.vertices * radius + np.array(centre), dtype=torch.float32)
    return vertices, torch.tensor(np.array(mesh.faces), dtype=torch.int64)


def blob(level=3, seed=0, centre=(0.0, 0.0, 0.5)):
    """A sphere pushed in and out by smooth waves, so that it hides parts of itself."""
    rng = np.random.default_rng(seed)
    vertices, faces = sphere(level, 1.0, (0, 0, 0))
    waves = np.sin(vertices.numpy() @ rng.normal(size=(3, 6)) * 3 + rng.uniform(0, 6.3, 6)).mean(1)
    moved = vertices.numpy() * (0.07 * (1 + 0.9 * waves[:, None])) + np.array(centre)
    return torch.tensor(moved, dtype=torch.float32), faces


def blobs(count, level=3):
    """A batch of different blobs (count, v, 3) and their faces."""
    both = [blob(level, seed, (0.01 * seed - 0.02, 0.01, 0.45 + 0.03 * seed)) for seed in range(count)]
    return torch.stack([b[0] for b in both]), both[0][1]


def slow_rasterize(vertices, faces, camera, size):
    """The obvious rasteriser of one image, in float64: each face over all pixels, the nearest wins.

    Returns face (h, w) with -1 where empty, depth m, barycentrics (h, w, 3), and how near (px) the pixel's centre lies
    to an edge of any face: where that is next to nothing, two right answers exist.
    """
    v = np.asarray(vertices, np.float64)
    fx, fy, cx, cy = np.asarray(camera, np.float64)
    height, width = size
    px, py = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    face_of = np.full(size, -1)
    depth, bary, margin = np.full(size, np.inf), np.zeros((*size, 3)), np.full(size, np.inf)
    for index, face in enumerate(np.asarray(faces)):
        x, y, z = v[face].T
        if z.min() <= 0.01:
            continue
        u, w = fx * x / z + cx, fy * y / z + cy
        area = (u[1] - u[0]) * (w[2] - w[0]) - (u[2] - u[0]) * (w[1] - w[0])
        if area == 0:
            continue
        screen = []
        for i, j in ((1, 2), (2, 0), (0, 1)):
            cross = (u[j] - u[i]) * (py - w[i]) - (px - u[i]) * (w[j] - w[i])
            margin = np.minimum(margin, np.abs(cross) / max(np.hypot(u[j] - u[i], w[j] - w[i]), 1e-12))
            screen.append(cross / area)
        screen = np.stack(screen, -1)
        corrected = screen / z
        here = 1 / np.where(corrected.sum(-1) == 0, 1, corrected.sum(-1))
        wins = (screen >= 0).all(-1) & (here < depth)
        depth[wins], face_of[wins] = here[wins], index
        bary[wins] = (corrected * here[..., None])[wins]
    return face_of, depth, bary, margin
