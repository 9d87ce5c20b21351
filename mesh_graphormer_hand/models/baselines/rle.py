"""Residual log-likelihood estimation: 2D or 2.5D joints by regression, with their uncertainty. Li, Bian, Zeng, Wang,
Pang, Liu, Lu, "Human Pose Regression with Residual Log-likelihood Estimation", ICCV 2021. Written from the paper.

A ResNet's mean feature x -> positions W x / |x| + b and spreads sigma = sigmoid(V x + c), in sides of the crop, from
its centre. With e = (place - label) / sigma, a Laplace density Q and a flow G (RealNVP, six couplings, nets 2-64-64-2,
in training only) the loss of a joint is (`likelihood`)

    log sigma - log Q(e) - log G(e)

ResNet-50: 23.7 M parameters and the flow's 53,784 (55,332 in 3D). `density` names the seed's whole chapter: l1 (no
sigma), gauss, laplace (-log Q(e) + log sigma), flow. `depth` adds the third coordinate: 2.5D joints, in metres by the
template's palm; samples without 3D labels then teach place alone, by Laplace.
Deviations: each term counts once (both public codes count log G and log sigma several times: `density: official` is
their sum in 2D); sigma is kept above 0.001, for the logarithm; nothing is pretrained.
Published: COCO AP .706 with ResNet-50 (direct L1: .581).
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...backbones.base import BackboneConfig, build_backbone
from ...config import ConfigError, parse
from ...contracts import HandBatch, HandInputs, HandPrediction, HandTargets
from ...geometry.masked import masked_mean
from ...geometry.relative_depth import crop_camera, joints_from_25d
from ...layers.camera_head import at_least_float32
from ...layers.flow import RealNVP
from ...mano.hand import Hand
from ...mano.template import hand_template
from ...skeleton import NUM_JOINTS, PALM
from ..base import HandModel, HandModelConfig

MIN_SIGMA = 1e-3  # sides of the crop
LOG_2, LOG_2_PI = math.log(2), math.log(2 * math.pi)


@dataclass
class Config:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("resnet_50"))
    density: str = "flow"  # l1 | gauss | laplace | flow | official
    depth: bool = False  # 2.5D joints instead of 2D ones
    CHOICES = {"density": ("l1", "gauss", "laplace", "flow", "official")}


class ResidualLikelihood(HandModel):
    """Image -> joints, their spreads, and in training the flow's weights."""

    produces = ("joints_2d", "confidence")
    private_terms = ("likelihood",)
    output_layers = ("positions", "spreads")

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: a density that 2.5D joints do not have.
        """
        super().__init__(config, hand)
        self.options = options = parse(Config, config.options, where="model")
        if options.density == "official" and options.depth:
            raise ConfigError("model.density official is of 2D joints: model.depth=false")
        self.backbone = build_backbone(options.backbone)
        self.size = 3 if options.depth else 2
        # what spreads mean (metrics/calibration.py); the flow corrects a Laplace density
        self.sigma_density = {"l1": None, "gauss": "gauss"}.get(options.density, "laplace")
        channels = self.backbone.dims[-1]
        self.positions = nn.Linear(channels, NUM_JOINTS * self.size)
        self.spreads = nn.Linear(channels, NUM_JOINTS * self.size) if options.density != "l1" else None
        for layer in (self.positions, self.spreads):
            if layer is not None:
                nn.init.xavier_uniform_(layer.weight, gain=0.01)
                nn.init.zeros_(layer.bias)
        self.flow = RealNVP(self.size) if options.density in ("flow", "official") else None
        known = ("joints_2d",) if options.density == "l1" else ("joints_2d", "confidence")
        self.produces = (*known, "joints_25d", "joints", "camera") if options.depth else known

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The palm of the template."""
        return {"palm": hand_template(hand).joints[list(PALM)], "fingerprint": torch.tensor(hand.fingerprint)}

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 32."""
        feature = at_least_float32(self.backbone(self.normalise(inputs.image))[-1].mean((-1, -2)))
        with torch.autocast(feature.device.type, enabled=False):
            unit = feature / feature.norm(dim=-1, keepdim=True).clamp_min(1e-6)
            positions = self.positions(unit).unflatten(-1, (NUM_JOINTS, self.size))
            fields = self._joints(positions, float(inputs.image.shape[-1]))
            aux = {"positions": positions}
            if self.spreads is not None:
                sigma = self.spreads(feature).sigmoid().clamp_min(MIN_SIGMA).unflatten(-1, (NUM_JOINTS, self.size))
                aux["sigma"] = sigma
                fields["confidence"] = 1 - sigma.mean(-1)
        if self.flow is not None and self.training:
            aux["flow"] = self.flow.weights.expand(positions.shape[0], -1)
        return HandPrediction(**fields, aux=aux)

    def _joints(self, positions: Float[Tensor, "b 21 d"], side: float) -> dict[str, Tensor]:
        """Fields of the prediction: 2D joints, and in 3D what 2.5D joints say."""
        found = {"joints_2d": (positions[..., :2] + 0.5) * side}
        if not self.options.depth:
            return found
        z = 2 * positions[..., 2:]
        uvz = torch.cat([2 * positions[..., :2], z - z.mean(1, keepdim=True)], -1)
        joints, camera = joints_from_25d(uvz, self.palm)
        return found | {
            "joints_25d": uvz,
            "joints": joints,
            "camera": camera,
            "hand": self.fingerprint.expand(positions.shape[0]),
        }

    def private_losses(self, prediction: HandPrediction, batch: HandBatch) -> dict[str, Float[Tensor, "b"]]:
        """The negative log-likelihood of the labels by the density of the options, nats; L1 in sides for `l1`."""
        targets = batch.targets
        if targets.joints_2d is None:
            return {}
        wanted, flat, deep = self._labels(targets)
        positions, aux = prediction.aux["positions"], prediction.aux
        if self.options.density == "l1":
            value = masked_mean((positions - wanted).abs()[..., :2].sum(-1), flat)
            if self.options.depth:
                value = value + masked_mean((positions - wanted).abs()[..., 2], deep)
            return {"likelihood": value}
        error = (positions - wanted) / aux["sigma"]
        cost = aux["sigma"].log() + (_gauss(error) if self.options.density == "gauss" else _laplace(error))
        total = cost[..., :2].sum(-1)
        if self.options.depth:
            total = total + torch.where(deep, cost[..., 2], torch.zeros_like(total))
        weights = aux.get("flow")  # none outside of training
        if self.flow is not None and weights is not None:
            measured = deep if self.options.depth else flat
            log_prob = self.flow.log_prob(weights[0], torch.where(measured[..., None], error, 0.0).flatten(0, 1))
            log_prob = torch.where(measured, log_prob.unflatten(0, measured.shape), 0.0)
            total = total - log_prob
            if self.options.density == "official":
                total = total - log_prob + aux["sigma"].log().sum(-1)
        return {"likelihood": masked_mean(total, flat)}

    def _labels(self, targets: HandTargets) -> tuple[Float[Tensor, "b 21 d"], Tensor, Tensor]:
        """The labels in sides of the crop, from its centre; which joints have a place, and which a depth as well."""
        flat = targets.joints_2d_valid
        targets_2d = targets.joints_2d.masked_fill(~flat[..., None], 0)
        positions = targets_2d / targets.crop_size[:, None, None] - 0.5
        if not self.options.depth or targets.joints is None:
            padded = nn.functional.pad(positions, (0, self.size - 2))
            return padded, flat, torch.zeros_like(flat)
        _, camera, deep = crop_camera(targets)
        z = camera[:, :1] * targets.joints[..., 2] / 2
        mean = masked_mean(z, deep)[:, None]
        return torch.cat([positions, torch.where(deep, z - mean, 0.0)[..., None]], -1), flat, deep


def _laplace(error: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    return error.abs() + LOG_2


def _gauss(error: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    return (error.square() + LOG_2_PI) / 2


def build(config: HandModelConfig, hand: Hand) -> ResidualLikelihood:
    """The network with fresh weights."""
    return ResidualLikelihood(config, hand)
