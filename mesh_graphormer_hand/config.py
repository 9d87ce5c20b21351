"""YAML -> dataclasses, strictly, through OmegaConf. Imports no torch, so `--help` and the config tests are instant.

The dataclasses below are the only schema. A plug-in (model, data set) brings a `Config` of its own; its section of the
YAML stays a plain mapping here and is parsed by `parse` when `assembly` builds the plug-in.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from . import paths

T = TypeVar("T")
# A schema may have LIMITS: field -> least and largest value of its numbers; those of fields not named there: 0 or more,
# and CHOICES: field -> its possible values
SHARE = 0.0, 1.0
ANY = -math.inf, math.inf
# Keys that have another name now: the end of the old key's path -> its new last part. An old key is refused with the
# new one in the message; CHANGELOG.md, "Changed names", lists them all.
RENAMED = {
    "optimizer.rest": "adamw_lr_scale",
    "model.start": "init",
    "model.masked": "mask_ratio",
    "model.camera.backend": "projection",
    "model.depth": "backbone",
}


CROP_SOURCES = "box", "keypoints"  # what a hand's box encloses
HAND_OVER_KEYPOINTS = 1.125  # longer side of a hand's box over that of its keypoints', which leave out the flesh


class ConfigError(ValueError):
    """A config that cannot be used; the message names the key and the nearest valid one."""


@dataclass
class CropSpec:
    """How a model is shown a hand: the square crop around it, so many times as wide as the hand.

    Of the two boxes that a hand can have, one follows from the other: a detector's encloses the flesh, that of its 21
    keypoints does not. So one margin says both.
    """

    margin: float = 1.2  # side of the square over the longer side of the box of `source`
    source: str = "box"  # box: around all of the hand | keypoints: around its 21 keypoints
    LIMITS = {"margin": (0.1, 10.0)}
    CHOICES = {"source": CROP_SOURCES}

    def over(self, source: str) -> float:
        """The side of the square over the longer side of the box of `source`."""
        if source == self.source:
            return self.margin
        return self.margin * HAND_OVER_KEYPOINTS if source == "keypoints" else self.margin / HAND_OVER_KEYPOINTS


@dataclass
class DataConfig:
    """Which data sets, by file name in data/datasets/; each section holds that data set's own Config, and in `train`
    also `weight`, its share of the mixture (0: left out). An empty `test` evaluates nothing."""

    train: dict[str, dict[str, Any]] = field(default_factory=dict)
    test: dict[str, dict[str, Any]] = field(default_factory=dict)
    image_size: int = 224  # px, side of the square crops
    crop: CropSpec = field(default_factory=CropSpec)  # what they show; part of the model that is trained on them
    augment: dict[str, Any] = field(default_factory=dict)  # data.transforms.Augmentation
    workers: int = -1  # processes that prepare batches; 0: the training process itself; -1: by the number of cores
    on_device: bool = False  # render virtual samples on the training device instead of in workers
    LIMITS = {"image_size": (1, math.inf), "workers": (-1, math.inf)}


@dataclass
class OptimizerConfig:
    name: str = "adam"  # adam | adamw | muon (hidden layers; AdamW for the rest) | rmsprop | sgd
    lr: float = 1e-4
    weight_decay: float = 0.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])  # sgd: the first is its momentum
    schedule: str = "step"  # step (x0.1 at half, as published) | cosine | constant
    adamw_lr_scale: float = 0.1  # muon: AdamW's learning rate, as a share of lr
    warmup: int = 0  # steps
    clip_grad: float = 0.0  # largest gradient norm, 0: no clipping
    LIMITS = {"betas": SHARE}


@dataclass
class TrainConfig:
    name: str = ""  # of the run's folder; empty: the config file's name
    output: str = "runs"
    steps: int = 1000  # optimiser steps
    batch_size: int = 32  # samples per step, all devices and micro-batches together
    accumulate: int | str = "auto"  # micro-batches per step; auto: as many as the device's memory needs
    seed: int = 0
    init: str = ""  # models (run, folder, shipped name; "a, b") whose weights a new run starts from, where they fit
    init_parts: list[str] = field(default_factory=list)  # only parameters that begin so, such as backbone; empty: all
    precision: str = "auto"  # fp32 | bf16 | fp16 | auto (bf16 where the device computes in it, else fp32)
    freeze_norms: bool = False  # batch norms use and keep the statistics that they start with
    shard: bool = False  # FSDP: weights, gradients and optimiser spread over all processes
    gradient_checkpointing: bool = False  # activations are computed twice instead of kept: less memory, more time
    compile: bool = False  # torch.compile: a minute or more at the start, faster steps
    ema: float = 0.0  # decay of the averaged weights that evaluation and the demo use, 0: none
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    losses: dict[str, float] = field(default_factory=dict)  # name of a loss term -> weight
    log_every: int = 20  # steps
    checkpoint_every: int = 500  # steps
    keep: int = 2  # checkpoints
    evaluate_every: int = 0  # steps, 0: at the end only
    evaluate_samples: int = 0  # of the test split, 0: all
    pictures: int = 8  # predictions on so many fixed virtual samples, for TensorBoard and the report; 0: none
    bad_steps: int = 10  # in a row whose loss or gradients are not finite, before the run is stopped
    threads: int = 0  # of the training process on the CPU, 0: the cores that data.workers leave over
    LIMITS = {"checkpoint_every": (1, math.inf), "ema": SHARE, "seed": ANY, "accumulate": ANY}  # launch checks it


@dataclass
class Experiment:
    """One run: a model, its data, how it is trained."""

    model: dict[str, Any] = field(default_factory=dict)  # name: file under models/; the rest: that file's Config
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    hand: str = (
        "auto"  # auto (MANO_RIGHT.pkl in mano_assets if it is there, else the open hand) | open | a file or folder
    )


def parse(schema: type[T], raw: dict[str, Any], where: str = "") -> T:
    """Build dataclass `schema` from the mapping `raw`.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a value of the wrong type or a number outside of the
            schema's LIMITS, named by its full path.
    """
    _check_sections(schema, raw or {}, where)
    try:
        made = OmegaConf.to_object(OmegaConf.merge(_structured(schema), raw or {}))
    except ConfigKeyError as error:
        raise ConfigError(_unknown_key(schema, error.full_key or str(error.key), where)) from None
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (where, error.full_key)))
        raise ConfigError(f"{key}: {error.msg or error}".splitlines()[0]) from None
    except ConfigError as error:  # of a schema that looks at its values
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None
    check_values(made, where)
    return made


@functools.cache
def _structured(schema: type) -> DictConfig:
    """The schema with its defaults, for OmegaConf to merge into a copy of."""
    return OmegaConf.structured(schema)


def load(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Experiment:
    """Read an experiment's YAML and apply `a.b=value` overrides (values are YAML; a mapping replaces a whole section).

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong type, an override without "=".
    """
    return parse(Experiment, read(path, overrides))


def read(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """The plain mapping in a YAML file after overrides, unparsed. A name that is no file is looked for in configs/.

    `base: FILE` (in the same folder) at its top gives every key that the file itself leaves out.
    """
    path = find(path)
    overrides_to_mapping(overrides)  # checks them
    try:
        raw = _with_bases(path)
        for item in overrides:
            key = item.partition("=")[0]
            OmegaConf.update(raw, key, OmegaConf.select(OmegaConf.from_dotlist([item]), key), merge=False)
    except ConfigError:
        raise
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:  # YAML's own errors share no base class with OmegaConf's
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    return OmegaConf.to_container(raw, resolve=True)


def _with_bases(path: Path, above: tuple[Path, ...] = ()) -> DictConfig:
    """The YAML file merged over its base, and that over its own."""
    raw = OmegaConf.create(OmegaConf.load(path) or {})
    base = raw.pop("base", None) if isinstance(raw, DictConfig) else None
    if base is None:
        return raw
    file = (path.parent / str(base)).resolve()
    if not file.is_file() or file in above or file == path.resolve():
        raise ConfigError(f"{path}: base: {base} is " + ("its own base" if file.is_file() else "no file in its folder"))
    return OmegaConf.merge(_with_bases(file, (*above, path.resolve())), raw)


def overrides_to_mapping(overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """["a.b=1"] -> {"a": {"b": 1}}; values are YAML.

    Raises:
        ConfigError: an item without "=", or a value that is not YAML.
    """
    for item in overrides:
        if "=" not in item or item.startswith("="):
            raise ConfigError(f"override {item!r} should read key=value")
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist(list(overrides)))
    except Exception as error:  # YAML's own errors share no base class with OmegaConf's
        raise ConfigError(f"overrides {' '.join(overrides)!r} cannot be read: {error}".splitlines()[0]) from None


def find(path: str | Path) -> Path:
    """The config file that `path` names: as it stands, or among the shipped configs."""
    for candidate in (Path(path), paths.CONFIGS / path, paths.CONFIGS / f"{path}.yaml", paths.CONFIGS.parent / path):
        if candidate.is_file():
            return candidate
    known = sorted(str(p.relative_to(paths.CONFIGS)) for p in paths.CONFIGS.rglob("*.yaml"))
    raise ConfigError(f"no config file {path}{nearest(str(path), known)}; shipped: {', '.join(known)}")


def sources(init: str) -> list[str]:
    """The models that `train.init` names, in the order in which their weights are taken: of two that fit, the last."""
    return [name.strip() for name in init.split(",") if name.strip()]


def to_mapping(config: Any) -> dict[str, Any]:
    """The plain mapping of a config dataclass, for YAML, JSON and checkpoints."""
    return dataclasses.asdict(config)


def nearest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """ ", did you mean 'x'?" for the closest of `known`, or nothing."""
    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean {match[0]!r}?" if match else ""


def check_choice(key: str, value: Any, known: Iterable[Any]) -> None:
    """Refuse a value that is none of `known`.

    Raises:
        ConfigError: it names the key, the nearest value and all of them.
    """
    words = [str(k) for k in known]
    if str(value) not in words:
        raise ConfigError(f"{key} {value!r}{nearest(str(value), words)} (one of {', '.join(words)})")


def renamed(word: str, table: Mapping[str, str]) -> str:
    """ ", which is now 'x'" where `table` (old name -> new name) has the word, or nothing."""
    return f", which is now {table[word]!r}" if word in table else ""


def _check_sections(schema: type, raw: Any, where: str) -> None:
    """Refuse a plain value where a section belongs: OmegaConf's own message would not say where."""
    known = [f.name for f in dataclasses.fields(schema)]
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where or 'the config'}: {raw!r} should be a section ({', '.join(known)})")
    for name, kind in typing.get_type_hints(schema).items():
        key = ".".join(filter(None, (where, name)))
        if dataclasses.is_dataclass(kind) and name in raw:
            _check_sections(kind, raw[name], key)
        elif typing.get_origin(kind) is dict and raw.get(name) is not None:
            _check_mapping(kind, raw[name], key)


def _check_mapping(kind: Any, raw: Any, key: str) -> None:
    """Refuse anything but a mapping, or a mapping of mappings, where `kind` wants one."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{key}: {raw!r} should be a section, such as {{name: value}}")
    inner = typing.get_args(kind)[1]
    if typing.get_origin(inner) is dict:
        for name, value in raw.items():
            if value is not None:
                _check_mapping(inner, value, f"{key}.{name}")


def check_values(made: Any, where: str) -> None:
    """Refuse values of a parsed section, and of those inside it, that are none of its CHOICES or lie outside of its
    LIMITS. Sections of plug-ins are theirs to check."""
    limits, kinds = getattr(made, "LIMITS", None), typing.get_type_hints(type(made))
    choices = getattr(made, "CHOICES", {})
    for name, value in vars(made).items():
        key = ".".join(filter(None, (where, name)))
        for word in (value if isinstance(value, list) else [value]) if name in choices else ():
            check_choice(key, word, choices[name])
        if dataclasses.is_dataclass(value):
            check_values(value, key)
        elif limits is not None and (not isinstance(value, dict) or kinds[name] == dict[str, float]):
            low, high = limits.get(name, (0.0, math.inf))
            for inner, number in _numbers(value):
                if not (low <= number <= high and math.isfinite(number)):
                    wanted = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
                    raise ConfigError(f"{key}{inner}: {number} should be {wanted}")


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """The numbers in a value, a list or a mapping, with what to add to its key."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "", value
    elif isinstance(value, list):
        yield from ((f"[{i}]", v) for i, item in enumerate(value) for _, v in _numbers(item))
    elif isinstance(value, Mapping):
        yield from ((f".{k}", v) for k, item in value.items() for _, v in _numbers(item))


def _unknown_key(schema: type, full_key: str, where: str) -> str:
    *parents, leaf = full_key.split(".")
    owner: Any = schema
    for name in parents:
        owner = typing.get_type_hints(owner).get(name)
        if not dataclasses.is_dataclass(owner):
            break
    known = [f.name for f in dataclasses.fields(owner)] if dataclasses.is_dataclass(owner) else []
    key = ".".join(filter(None, (where, full_key)))
    for old, new in RENAMED.items():
        if new in known and f".{key}".endswith(f".{old}"):
            return f"unknown key {key!r}: it is called {key.removesuffix(leaf) + new!r} now"
    return f"unknown key {key!r}{nearest(leaf, known)} (known here: {', '.join(known)})"
