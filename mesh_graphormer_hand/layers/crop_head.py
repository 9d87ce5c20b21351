"""What a crop shows as a whole: whether there is a hand, and whether it is a left one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CropHead(nn.Module):
    """Pooled image feature and the keypoints' places -> logits of "a left hand" and of "a hand".

    Keypoints are read, not trained: where they lie in 2.5D tells the sides apart, how sharp they are tells hands.
    """

    def __init__(self, feature: int, keypoints: int, hidden: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature + keypoints, hidden)
        self.out = nn.Linear(hidden, 2)

    def forward(
        self, pooled: Float[Tensor, "b f"], keypoints: Float[Tensor, "b k"]
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Logits (left, presence)."""
        known = torch.cat([pooled, keypoints.detach().to(pooled.dtype)], -1)
        return self.out(nn.functional.gelu(self.hidden(known))).unbind(-1)
