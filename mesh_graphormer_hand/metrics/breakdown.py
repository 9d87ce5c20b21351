"""Generalisation: which kind of sample a score comes from. Samples are sorted into bins by what their labels know.

visible     share of the 21 joints in sight: all, most (over 0.75), half (over 0.5), few
view        what of the hand faces the camera: back, palm, edge, or fingers (pointing at or away from the camera)
hand_size   wrist to middle knuckle, mm, by thirds of the data set      size_in_crop  longer side of the keypoints' box
skin        lightness of the back of the hand (CIELAB L*): light, medium, dark
light       how much comes from one direction: soft, mixed, hard        exposure      dim, normal, bright skin
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ..contracts import HandTargets
from ..skeleton import WRIST

INDEX_MCP, MIDDLE_MCP, LITTLE_MCP = 5, 9, 17
MM_PER_M = 1000.0
POINTING_COSINE = 0.82  # cosine: fingers within 35 degrees of the line of sight
FLAT_PALM_COSINE = 0.5  # cosine: the palm's normal within 60 degrees of it
TO_LUMINANCE = (0.2126, 0.7152, 0.0722)
HARMONIC_0 = 0.282095  # of the constant spherical harmonic

# attribute -> names of its bins and the limits between them; None: thirds of what the data set holds
BINS: dict[str, tuple[tuple[str, ...], tuple[float, ...] | None]] = {
    "visible": (("few", "half", "most", "all"), (0.5, 0.75, 0.999)),
    "view": (("back", "palm", "edge", "fingers"), (0.5, 1.5, 2.5)),
    "hand_size": (("small", "medium", "large"), None),
    "size_in_crop": (("small", "medium", "large"), (0.45, 0.65)),
    "skin": (("dark", "medium", "light"), (42.0, 60.0)),
    "light": (("soft", "mixed", "hard"), (0.25, 0.5)),
    "exposure": (("dim", "normal", "bright"), None),
}


@torch.no_grad()
def attributes(targets: HandTargets) -> dict[str, Float[Tensor, "b"]]:
    """What the labels know of each sample; NaN where one does not, absent where none can."""
    out: dict[str, Tensor] = {}
    if targets.joints_visible is not None:
        known = targets.joints_2d_valid
        known = torch.ones_like(targets.joints_visible) if known is None else known
        share = (targets.joints_visible & known).float().sum(-1) / known.float().sum(-1).clamp_min(1)
        out["visible"] = torch.where(known.any(-1), share, torch.nan)
    if targets.joints is not None and targets.joints_valid is not None:
        palm = [WRIST, INDEX_MCP, MIDDLE_MCP, LITTLE_MCP]
        known = targets.joints_valid[:, palm].all(-1)
        out["view"] = torch.where(known, _view(targets), torch.nan)
        length = torch.linalg.vector_norm(targets.joints[:, MIDDLE_MCP] - targets.joints[:, WRIST], dim=-1)
        out["hand_size"] = torch.where(known, MM_PER_M * length.float(), torch.nan)
    if targets.joints_2d is not None and targets.joints_2d_valid is not None and targets.crop_size is not None:
        out["size_in_crop"] = _size_in_crop(targets)
    if targets.appearance_valid is not None:
        out |= {n: torch.where(targets.appearance_valid, v, torch.nan) for n, v in _appearance(targets).items()}
    return {name: value.float().cpu() for name, value in out.items()}


def table(
    values: Mapping[str, Float[Tensor, "n"]], known: Mapping[str, Float[Tensor, "n"]]
) -> dict[str, dict[str, dict[str, float | int]]]:
    """Means of the metrics `values` by attribute and bin: {attribute: {bin: {metric: mean, "samples": count}}}.

    Bins without a sample are left out, and so are attributes that put all samples into one bin of thirds.
    """
    out: dict[str, dict[str, dict[str, float | int]]] = {}
    for name, attribute in known.items():
        labels, limits = BINS[name]
        seen = attribute[~attribute.isnan()]
        if not len(seen):
            continue
        edges = torch.tensor(limits) if limits else torch.quantile(seen, torch.tensor([1 / 3, 2 / 3]))
        place = torch.bucketize(attribute, edges.to(attribute.dtype))
        rows = {}
        for i, label in enumerate(labels):
            mine = (place == i) & ~attribute.isnan()
            if mine.any():
                means = {metric: float(torch.nanmean(v[mine].double())) for metric, v in values.items()}
                rows[_named(label, i, edges, limits)] = {"samples": int(mine.sum())} | {
                    metric: mean for metric, mean in means.items() if mean == mean
                }
        if rows and (limits is not None or len(rows) > 1):
            out[name] = rows
    return out


def _named(label: str, index: int, edges: Float[Tensor, "e"], limits: tuple[float, ...] | None) -> str:
    """A bin's name; of thirds with what it spans, since that is the data set's."""
    if limits is not None:
        return label
    low = "" if index == 0 else f"{float(edges[index - 1]):.3g}"
    high = "" if index == len(edges) else f"{float(edges[index]):.3g}"
    return f"{label} ({low}-{high})" if low and high else f"{label} ({'<' + high if high else '>' + low})"


def _view(targets: HandTargets) -> Float[Tensor, "b"]:
    """0 back, 1 palm, 2 edge, 3 fingers along the line of sight."""
    joints = targets.joints.float()
    along = _unit(joints[:, MIDDLE_MCP] - joints[:, WRIST])
    across = joints[:, LITTLE_MCP] - joints[:, INDEX_MCP]
    # of a right hand (all are): (index to little finger) x fingers leaves the back of the hand
    back = _unit(torch.linalg.cross(across, along))
    sight = torch.zeros_like(along)
    sight[:, 2] = 1.0
    if targets.root is not None and targets.root_valid is not None:
        middle = targets.root.float() + joints[:, MIDDLE_MCP] / 2
        sight = torch.where(targets.root_valid[:, None], _unit(middle), sight)
    facing, pointing = (back * sight).sum(-1), (along * sight).sum(-1).abs()
    flat = torch.where(facing < -FLAT_PALM_COSINE, 0.0, torch.where(facing > FLAT_PALM_COSINE, 1.0, 2.0))
    return torch.where(pointing > POINTING_COSINE, torch.full_like(flat, 3.0), flat)


def _size_in_crop(targets: HandTargets) -> Float[Tensor, "b"]:
    known = targets.joints_2d_valid[..., None]
    high = torch.where(known, targets.joints_2d, -torch.inf).amax(1)
    low = torch.where(known, targets.joints_2d, torch.inf).amin(1)
    side = (high - low).amax(-1) / targets.crop_size
    return torch.where(side > 0, side, torch.nan)


def _appearance(targets: HandTargets) -> dict[str, Float[Tensor, "b"]]:
    weights = targets.skin_tone.new_tensor(TO_LUMINANCE)
    luminance = targets.skin_tone @ weights
    lightness = torch.where(luminance > 0.008856, 116 * luminance.clamp_min(1e-9) ** (1 / 3) - 16, 903.3 * luminance)
    around = HARMONIC_0 * targets.light_sh[:, 0] @ weights
    direct = targets.light_colour @ weights
    total = (around + direct).clamp_min(1e-6)
    return {"skin": lightness, "light": direct / total, "exposure": luminance * total}


def _unit(vectors: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3"]:
    return vectors / torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp_min(1e-9)
