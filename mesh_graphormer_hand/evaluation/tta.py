"""Test-time augmentation as Mesh Graphormer publishes it, in process: 5 scales x 19 turns of every crop.

Each of the 95 predictions is aligned to the plain one by a similarity (proper rotations; joints and vertices each by
themselves), and all of them and the plain one are averaged. Published numbers use it: name it with yours. 2D joints
are mapped back through the crops' own maps and averaged; all other fields are the plain prediction's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..contracts import HandInputs, HandPrediction
from ..geometry.alignment import procrustes
from ..geometry.crops import apply_affine, crop_affine, homogeneous

SCALES_OF_CROP = (0.7, 0.8, 0.9, 1.0, 1.1)  # side of the crop, of the given crop's
ROTATIONS_DEG = tuple(float(d) for k in range(10) for d in dict.fromkeys((10 * k, -10 * k)))  # degrees
VIEWS = len(SCALES_OF_CROP) * len(ROTATIONS_DEG)


class TestTimeAugmentation(nn.Module):
    """A predictor of the mean of `predict` over scales and rotations of its crop."""

    def __init__(
        self,
        predict: Callable[[HandInputs], HandPrediction],
        scales: Sequence[float] = SCALES_OF_CROP,
        rotations: Sequence[float] = ROTATIONS_DEG,
    ) -> None:
        super().__init__()
        self.predict, self.scales, self.rotations = predict, tuple(scales), tuple(rotations)

    @torch.no_grad()
    def forward(self, inputs: HandInputs) -> HandPrediction:
        """The averaged prediction of a batch."""
        plain = self.predict(inputs)
        sums = {name: getattr(plain, name).float().clone() for name in _fields(plain)}
        for scale in self.scales:
            for rotation in self.rotations:
                seen, old_from_new = augmented_view(inputs, scale, rotation)
                answer = self.predict(seen)
                for name in sums:
                    sums[name] += _in_plain_crop(name, answer, plain, old_from_new)
        count = 1 + len(self.scales) * len(self.rotations)
        means = {name: total / count for name, total in sums.items()}
        for name in ("joints", "vertices"):  # alignments move the origin a little: it is the wrist
            if name in means and "joints" in means:
                means[name] = means[name] - sums["joints"][:, :1] / count
        return replace(plain, **means)


def augmented_view(inputs: HandInputs, scale: float, rotation: float) -> tuple[HandInputs, Float[Tensor, "b 2 3"]]:
    """The crops `scale` times as wide, their content turned by `rotation` degrees (black beyond the old crop, as
    published), and old_from_new, px."""
    image = inputs.image
    count, size = len(image), image.shape[-1]
    centre = image.new_full((count, 2), size / 2)
    angle = torch.deg2rad(image.new_full((count,), rotation))
    old_from_new = crop_affine(centre, image.new_full((count,), size * scale), size, angle)
    theta = _normalised(old_from_new, size)
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    changed = {"image": moved}
    if inputs.intrinsics is not None:
        new_from_old = torch.linalg.inv(homogeneous(old_from_new))
        cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        back = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], -1).view(count, 3, 3)
        changed["intrinsics"] = new_from_old @ inputs.intrinsics @ back
    return replace(inputs, **changed), old_from_new


def _fields(prediction: HandPrediction) -> list[str]:
    return [n for n in ("joints", "vertices", "joints_2d") if getattr(prediction, n) is not None]


def _in_plain_crop(
    name: str, answer: HandPrediction, plain: HandPrediction, old_from_new: Float[Tensor, "b 2 3"]
) -> Tensor:
    points = getattr(answer, name).float()
    if name == "joints_2d":
        return apply_affine(points, old_from_new)
    return procrustes(points, getattr(plain, name).float())


def _normalised(old_from_new: Float[Tensor, "b 2 3"], size: int) -> Tensor:
    """The map between crops in affine_grid's [-1, 1] from edge to edge."""
    linear, shift = old_from_new[..., :2], old_from_new[..., 2]
    centre = size / 2
    moved = (shift + (linear * centre).sum(-1) - centre) / centre
    return torch.cat([linear, moved[..., None]], -1)
