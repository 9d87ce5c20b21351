"""The table of terms and the rule that applies it: which fields each needs, what is skipped and what is an error.

A term whose target no sample of the batch has is skipped. A term that a model can never feed, because it does not
produce the field, and a name that is no term are errors. The caller weighs and reduces.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ..config import ConfigError, nearest
from ..contracts import LABELS, HandPrediction, HandTargets
from ..geometry.heatmaps import HeatmapCodec
from ..mano.template import HandTemplate
from . import crop, dense_correspondence, heatmaps, joints, mano_parameters, mesh
from .common import Context

R = TypeVar("R", HandPrediction, HandTargets)


@dataclass(frozen=True)
class Term:
    """One supervised term and the fields that it reads."""

    function: Callable[[HandPrediction, HandTargets, Context], Tensor]
    prediction: tuple[str, ...]
    # a batch without the first one skips the term, one without another or a mask is an error; none: a prior
    labels: tuple[str, ...]
    template: bool = False  # reads Context.template

    @property
    def targets(self) -> tuple[str, ...]:
        """The labels with the masks that they declare (contracts.LABELS)."""
        masks = [mask for name in self.labels if (mask := LABELS[name].mask) is not None]
        return tuple(dict.fromkeys((*self.labels, *masks)))

    def __call__(
        self, prediction: HandPrediction, targets: HandTargets, context: Context | None = None
    ) -> Float[Tensor, "b"]:
        """One value per sample, in float32 (float64 for a float64 prediction) whatever the autocast.

        Raises:
            ValueError: the prediction or the targets lack a field, or the context lacks the template.
        """
        context = context or Context()
        for owner, record, names in (("prediction", prediction, self.prediction), ("targets", targets, self.targets)):
            for name in names:
                if getattr(record, name) is None:
                    raise ValueError(f"loss {self.function.__name__!r} needs {owner}.{name}, which is absent")
        if self.template and context.template is None:
            raise ValueError(f"loss {self.function.__name__!r} needs the hand's template")
        with torch.autocast(getattr(prediction, self.prediction[0]).device.type, enabled=False):
            labels = _without_unlabelled(_wide(targets, self.targets), self.labels)
            return self.function(_wide(prediction, self.prediction), labels, context)


TERMS: dict[str, Term] = {
    "vertices": Term(mesh.vertices, ("vertices",), ("vertices",)),
    "vertices_coarse": Term(mesh.vertices_coarse, ("vertices_coarse",), ("vertices",), template=True),
    "edge_length": Term(mesh.edge_length, ("vertices",), ("vertices",), template=True),
    "normal": Term(mesh.normal, ("vertices",), ("vertices",), template=True),
    "joints": Term(joints.joints, ("joints",), ("joints",)),
    "joints_l1": Term(joints.joints_l1, ("joints",), ("joints",)),
    "joints_token": Term(joints.joints_token, ("joints_token",), ("joints",)),
    "joints_token_l1": Term(joints.joints_token_l1, ("joints_token",), ("joints",)),
    "joints_2d": Term(joints.joints_2d, ("joints_2d",), ("joints_2d", "crop_size")),
    "joints_2d_l1": Term(joints.joints_2d_l1, ("joints_2d",), ("joints_2d", "crop_size")),
    "joints_token_2d": Term(joints.joints_token_2d, ("joints_token_2d",), ("joints_2d", "crop_size")),
    "joints_token_2d_l1": Term(joints.joints_token_2d_l1, ("joints_token_2d",), ("joints_2d", "crop_size")),
    "vertices_local": Term(mesh.vertices_local, ("vertices", "rotation"), ("vertices", "pose")),
    "joints_local_l1": Term(joints.joints_local_l1, ("joints", "rotation"), ("joints", "pose")),
    "joints_token_local_l1": Term(joints.joints_token_local_l1, ("joints_token", "rotation"), ("joints", "pose")),
    "rotation": Term(mesh.rotation, ("rotation",), ("pose",)),
    "pose": Term(mano_parameters.pose, ("pose",), ("pose",)),
    "shape": Term(mano_parameters.shape, ("shape",), ("shape",)),
    "pose_prior": Term(mano_parameters.pose_prior, ("pose",), ()),
    "shape_prior": Term(mano_parameters.shape_prior, ("shape",), ()),
    "joints_25d_l1": Term(dense_correspondence.joints_25d_l1, ("joints_25d",), ("joints", "joints_2d", "crop_size")),
    "surface": Term(
        dense_correspondence.surface, ("surface",), ("vertices", "joints", "joints_2d", "crop_size"), template=True
    ),
    "heatmaps": Term(heatmaps.heatmaps, ("heatmaps",), ("joints_2d", "crop_size")),
    "heatmaps_mse": Term(heatmaps.heatmaps_mse, ("heatmaps",), ("joints_2d", "crop_size")),
    "handedness": Term(crop.handedness, ("left_logit",), ("joints_2d", "crop_size")),
    "presence": Term(crop.presence, ("presence_logit",), ("joints_2d", "crop_size")),
    "mask": Term(crop.mask, ("mask",), ("mask",)),
}


def check_terms(names: Collection[str], produces: Collection[str] | None = None, private: Collection[str] = ()) -> None:
    """Refuse loss names before training starts: `produces` are the model's prediction fields, `private` its own losses.

    Raises:
        ConfigError: a name that is neither a term nor private, or a term on a field that the model does not produce.
    """
    for name in names:
        if name in private:
            continue
        if name not in TERMS:
            known = sorted({*TERMS, *private})
            raise ConfigError(f"unknown loss {name!r}{nearest(name, known)} (known: {', '.join(known)})")
        missing = set(TERMS[name].prediction) - set(TERMS[name].prediction if produces is None else produces)
        if missing:
            raise ConfigError(f"loss {name!r} needs {', '.join(sorted(missing))}, which this model does not produce")


def supervised_losses(
    prediction: HandPrediction,
    targets: HandTargets,
    weights: Mapping[str, float],
    template: HandTemplate | None = None,
    codec: HeatmapCodec | None = None,
    private: Collection[str] = (),
) -> dict[str, Float[Tensor, "b"]]:
    """The unweighted value per sample of every term in `weights` whose targets this batch has.

    Names in `private` (the model's own losses) and terms of weight 0 are left out.

    Raises:
        ConfigError: an unknown name, or a term whose field the prediction lacks.
        ValueError: a mesh term without `template`, a label without its mask, vertices without a fingerprint, hand masks
            of different shapes.
    """
    check_terms(
        weights, [n for n in HandPrediction.__dataclass_fields__ if getattr(prediction, n) is not None], private
    )
    context = Context(template, codec or HeatmapCodec())
    losses = {}
    for name, weight in weights.items():
        if name in private or weight == 0:
            continue
        term = TERMS[name]
        if not term.labels or getattr(targets, term.labels[0]) is not None:
            losses[name] = term(prediction, targets, context)
    return losses


def _wide(record: R, names: tuple[str, ...]) -> R:
    """`record` with the named half-precision fields in float32."""
    values = {n: getattr(record, n) for n in names}
    half = (torch.float16, torch.bfloat16)
    return replace(record, **{n: v.float() for n, v in values.items() if v.dtype in half})


def _without_unlabelled(targets: HandTargets, names: tuple[str, ...]) -> HandTargets:
    """`targets` with zeros where the named fields have no label: a NaN there would come back as a NaN gradient, since
    0 x NaN is NaN, however the error is masked afterwards."""
    values = {name: getattr(targets, name) for name in names if LABELS[name].mask is not None}
    masks = {name: getattr(targets, LABELS[name].mask) for name in values}
    return replace(targets, **{n: v.masked_fill(~_spread(masks[n], v), 0) for n, v in values.items()})


def _spread(mask: Bool[Tensor, "*m"], like: Shaped[Tensor, "*s"]) -> Tensor:
    """`mask` with as many dimensions as `like`, by trailing ones."""
    return mask.reshape(*mask.shape, *[1] * (like.ndim - mask.ndim))
