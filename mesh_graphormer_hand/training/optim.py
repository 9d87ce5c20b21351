"""Optimiser, learning-rate schedule and averaged weights; each saves itself as named tensors or plain numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from ..config import ConfigError, OptimizerConfig, nearest
from .distributed import local_shard, shard_like
from .muon import Muon, hidden

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": Muon,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
RMSPROP_ALPHA = 0.99  # decay of the squared gradients' mean, as of Torch's and of the recipes that name RMSprop
FINAL_RATE = 0.01  # of the cosine schedule, as a share of the peak
# the state of one parameter: Adam's, Muon's, RMSprop's, SGD's
SLOTS = ("step", "exp_avg", "exp_avg_sq", "momentum", "square_avg", "momentum_buffer")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a name of OPTIMIZERS over every trainable parameter; biases and norms (vectors) are not decayed.

    Raises:
        ConfigError: an unknown optimiser, or numbers that it cannot use.
    """
    if config.name not in OPTIMIZERS:
        hint = nearest(config.name, list(OPTIMIZERS))
        raise ConfigError(f"train.optimizer.name: no optimiser {config.name!r}{hint} ({', '.join(OPTIMIZERS)})")
    if len(config.betas) != 2 or not config.lr > 0:
        raise ConfigError("train.optimizer: lr should be above 0 and betas should be two numbers")
    trainable = [p for p in model.parameters() if p.requires_grad]
    taken = {id(p) for p in hidden(model)} if config.name == "muon" else set()
    matrices = [p for p in trainable if p.ndim > 1 and id(p) not in taken]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.name == "muon":
        groups = [group | {"lr_scale": config.adamw_lr_scale} for group in groups]
        hidden_group = {"params": [p for p in trainable if id(p) in taken], "hidden": True}
        groups.append(hidden_group | {"weight_decay": config.weight_decay})
    fused = all(p.device.type in ("cpu", "cuda") for p in trainable)
    groups = [group for group in groups if group["params"]]
    if config.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=config.lr, alpha=RMSPROP_ALPHA)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0])
    return OPTIMIZERS[config.name](groups, lr=config.lr, betas=tuple(config.betas), fused=fused)


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) in a run of `steps`: a pure function, so that resuming needs no state.

    "step" is the published recipe (times 0.1 from the half on); "cosine" falls to 1 %; both after a linear warm-up.

    Raises:
        ConfigError: an unknown schedule.
    """
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * (0.1 if step >= steps / 2 else 1.0)
    if config.schedule == "cosine":
        done = min(1.0, (step - config.warmup) / max(1, steps - config.warmup))
        return config.lr * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done)))
    known = ["step", "cosine", "constant"]
    hint = nearest(config.schedule, known)
    raise ConfigError(f"train.optimizer.schedule: no schedule {config.schedule!r}{hint} ({', '.join(known)})")


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate, times its `lr_scale` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as "<slot>/<parameter name>" -> tensor."""
    state = optimizer.state
    named = [(name, p) for name, p in model.named_parameters() if p in state]
    return {f"{slot}/{name}": state[p][slot] for name, p in named for slot in SLOTS if slot in state[p]}


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Shaped[Tensor, "..."]]
) -> None:
    """Put back what `optimizer_tensors` gave (whole tensors), on each parameter's device, in its layout and sharding.

    Raises:
        ValueError: a tensor of a parameter that the model does not have, or of another shape.
    """
    parameters = dict(model.named_parameters())
    for key, value in tensors.items():
        slot, _, name = key.partition("/")
        parameter = parameters.get(name)
        if parameter is None or slot not in SLOTS:
            raise ValueError(f"the optimiser's state holds {key!r}, which this model does not have")
        if slot == "step":
            fused = getattr(optimizer, "adamw", optimizer).defaults.get("fused")
            moved = value.to(parameter.device if fused else "cpu", copy=True)
        else:
            if value.shape != parameter.shape:
                raise ValueError(f"optimiser state {key!r}: {tuple(value.shape)} instead of {tuple(parameter.shape)}")
            moved = shard_like(value, parameter.detach())
        optimizer.state[parameter][slot] = moved.detach()


class Ema:
    """Exponential moving average of a model's parameters and persistent buffers.

    The decay grows from 0.1 to its final value, (1 + step) / (10 + step), so that the first random weights are
    forgotten; integer buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model after optimiser step `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = {name: local_shard(value) for name, value in model.state_dict().items()}
        average = {name: local_shard(value) for name, value in self.average.items()}
        floats = [name for name, value in average.items() if value.is_floating_point()]
        torch._foreach_lerp_([average[n] for n in floats], [current[n] for n in floats], 1 - decay)
        for name in average.keys() - set(floats):
            average[name].copy_(current[name])

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        """Replace the average by saved tensors."""
        for name, value in self.average.items():
            local_shard(value).copy_(local_shard(shard_like(tensors[name], value)))

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights inside the `with`, and with its own again after it, bit for bit."""
        own = {name: local_shard(value).detach().clone() for name, value in model.state_dict().items()}
        try:
            self._copy(model, self.average)
            yield
        finally:
            self._copy(model, own)

    @staticmethod
    @torch.no_grad()
    def _copy(model: nn.Module, values: Mapping[str, Shaped[Tensor, "..."]]) -> None:
        for name, value in model.state_dict().items():
            local_shard(value).copy_(local_shard(values[name]))
