"""The canonical frame of a hand's joints (Zimmermann and Brox, ICCV 2017): what is left of a pose without its view.

The wrist is the origin, the middle finger's MCP lies on -y, the little finger's MCP at z = 0 and x > 0, and the middle
finger's proximal phalanx has length 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ..skeleton import WRIST

MIDDLE_MCP, MIDDLE_PIP, LITTLE_MCP = 9, 10, 17
ANCHORS = (WRIST, MIDDLE_MCP, MIDDLE_PIP, LITTLE_MCP)
MIN_UNIT = 1e-3  # m: no phalanx is shorter


def canonical_axes(joints: Float[Tensor, "*b 21 3"]) -> Float[Tensor, "*b 3 3"]:
    """The rotation from the canonical frame to the joints' own, for column vectors: its columns are x, y and z."""
    y = F.normalize(joints[..., WRIST, :] - joints[..., MIDDLE_MCP, :], dim=-1)
    across = joints[..., LITTLE_MCP, :] - joints[..., WRIST, :]
    x = F.normalize(across - (across * y).sum(-1, keepdim=True) * y, dim=-1)
    return torch.stack([x, y, torch.linalg.cross(x, y)], -1)


def unit_length(joints: Float[Tensor, "*b 21 3"]) -> Float[Tensor, "*b"]:
    """The length of the middle finger's proximal phalanx."""
    return (joints[..., MIDDLE_MCP, :] - joints[..., MIDDLE_PIP, :]).norm(dim=-1)


def to_canonical(joints: Float[Tensor, "*b 21 3"]) -> tuple[Float[Tensor, "*b 21 3"], Float[Tensor, "*b 3 3"]]:
    """Canonical joints, and the rotation that brings them back: joints - wrist = unit (rotation canonical)."""
    axes = canonical_axes(joints)
    relative = joints - joints[..., WRIST : WRIST + 1, :]
    return relative @ axes / unit_length(joints).clamp_min(MIN_UNIT)[..., None, None], axes


def anchored(valid: Bool[Tensor, "*b 21"]) -> Bool[Tensor, "*b"]:
    """Whether the joints that fix the frame are labelled."""
    return valid[..., list(ANCHORS)].all(-1)
