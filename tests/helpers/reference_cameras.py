"""Cameras as PyTorch3D has them, and ours in the same place."""

import torch

from mesh_graphormer_hand.geometry.cameras import LearnedCamera

FLIP = torch.tensor([-1.0, -1, 1])  # between PyTorch3D's axes (x left, y up) and ours


def stored_camera(stored, backend="builtin"):
    """Our camera for PyTorch3D's stored R (row vectors, its axes) and T."""
    rotation = (stored["R"] * FLIP).transpose(-1, -2)
    return LearnedCamera(rotation, stored["t"] * FLIP, stored["s"][:, 0], backend)


def random_rotations(count):
    q, r = torch.linalg.qr(torch.randn(count, 3, 3))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q * q.det()[:, None, None]
