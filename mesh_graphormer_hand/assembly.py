"""Composition root: names in a config become live objects. The only module that imports plug-ins by name.

The file name is the registry: `models/baselines/hand_seg_net.py` is the model `hand_seg_net`, `data/datasets/folder.py`
the data set `folder`. Deleting a file removes it, adding one adds it; nothing else has to be edited.

A plug-in file holds a dataclass `Config` and a function `build`: for a model `build(config: HandModelConfig, hand) ->
HandModel`, for a data set `build(config: Config, split, hand, image_size) -> HandDataset`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import logging
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import config as configs
from . import paths
from .config import ConfigError, CropSpec, Experiment
from .files import sha256

if TYPE_CHECKING:
    import torch

    from .data.base import HandDataset
    from .data.stream import Stream
    from .mano.hand import Hand
    from .models.base import HandModel

logger = logging.getLogger(__name__)

PLUGIN_PACKAGES = {
    "models": f"{__package__}.models",
    "datasets": f"{__package__}.data.datasets",
    "protocols": f"{__package__}.metrics.protocols",
}


def available(group: str) -> dict[str, str]:
    """Plug-in name -> module path of every plug-in of `group` (a key of PLUGIN_PACKAGES), without importing any."""
    package = importlib.import_module(PLUGIN_PACKAGES[group])
    found = pkgutil.walk_packages(package.__path__, prefix=PLUGIN_PACKAGES[group] + ".")
    modules = [m.name for m in found if not m.ispkg]
    names = {path.rpartition(".")[2]: path for path in modules}
    return {name: path for name, path in sorted(names.items()) if name != "base" and not name.startswith("_")}


def plugin(group: str, name: str, where: str = "") -> ModuleType:
    """Import one plug-in.

    Raises:
        ConfigError: no plug-in of that name; `where` is the config key that named it.
    """
    known = available(group)
    if name not in known:
        key = f"{where}: " if where else ""
        hint = configs.nearest(str(name), list(known))
        raise ConfigError(f"{key}no {group[:-1]} named {name!r}{hint} (there are: {', '.join(known)})")
    return importlib.import_module(known[name])


def load_hand(experiment: Experiment) -> Hand:
    """The hand that an experiment names."""
    from .mano import hand

    return hand.load(experiment.hand)


def build_model(experiment: Experiment, hand: Hand) -> HandModel:
    """A model with fresh weights from the section `model` of an experiment.

    Raises:
        ConfigError: no name, an unknown one, or an unknown option.
    """
    from .models.base import HandModelConfig

    name, options, module = _model_options(experiment)
    crop = dataclasses.asdict(experiment.data.crop)
    size, fingerprint = experiment.data.image_size, hand.fingerprint_hex
    config = HandModelConfig(name=name, options=options, image_size=size, hand=fingerprint, crop=crop)
    return module.build(config, hand)


def load_model(path: str | Path, hand: Hand | None = None) -> HandModel:
    """Any model that `save_pretrained` wrote, whatever its architecture, in evaluation mode, on the CPU.

    The hand is the one that the model was trained with, found by its fingerprint, unless `hand` is given.

    Raises:
        ConfigError: `path` holds no such model or a damaged one, or its plug-in or hand is not on this machine.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from .mano import hand as hands
    from .models.base import HandModelConfig

    path = Path(path)
    for name in ("config.json", "model.safetensors"):
        if not (path / name).is_file():
            raise ConfigError(f"{path} is not a saved model: it has no {name}")
    config = HandModelConfig.from_pretrained(path)
    module = plugin("models", config.name, where=f"{path / 'config.json'}: name")
    model = module.build(config, hand or hands.find(config.hand))
    logger.info(about_weights(path))
    try:
        model.load_state_dict(model.migrate(load_file(path / "model.safetensors")))
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path / 'model.safetensors'} cannot be read ({error}): copy it again") from None
    except RuntimeError as error:
        raise ConfigError(f"{path / 'model.safetensors'} does not fit its config.json: {error}") from None
    return model.eval()


def warm_start(model: HandModel, source: str | Path, parts: list[str]) -> int:
    """Take over what fits, by name and shape, from the saved model that `source` names; only parameters that begin with
    one of `parts`, where there are any. Returns how many tensors were taken.

    Weights that were trained on another hand are taken, too: no number of a hand is saved, and training on the new one
    makes them its own.

    Raises:
        ConfigError: no such model, a damaged file, or nothing in it fits.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    own, folder = model.state_dict(), find_model(source)
    try:
        saved = model.migrate(load_file(folder / "model.safetensors"))
        trained_on = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("hand", "")
    except (OSError, SafetensorError, ValueError) as error:
        raise ConfigError(f"train.init: {folder} cannot be read ({error}): is it whole?") from None
    if trained_on != model.config.hand:
        logger.warning("%s was trained on the hand %s, this run has %s", source, trained_on, model.config.hand)
    logger.info(about_weights(folder))
    fits = {
        name: value
        for name, value in saved.items()
        if name in own and own[name].shape == value.shape and (not parts or name.startswith(tuple(parts)))
    }
    if not fits:
        raise ConfigError(f"train.init: nothing in {source} fits this model" + f" under {parts}" * bool(parts))
    model.load_state_dict(fits, strict=False)
    return len(fits)


def virtual_seeds(source: str | Path) -> set[int]:
    """Seeds of the virtual hands that the saved model `source` was trained on, as far as they are known: shipped
    weights have a training.json, runs a config.yaml."""
    folder = find_model(source)
    pieces, settings = folder / "training.json", folder.parent / "config.yaml"
    try:
        if pieces.is_file():
            made = [piece["experiment"] for piece in json.loads(pieces.read_text(encoding="utf-8"))["pieces"]]
        else:
            made = [configs.read(settings)] if settings.is_file() else []
        train = [experiment["data"]["train"] for experiment in made]
        return {(sets["virtual"] or {}).get("seed", 0) for sets in train if "virtual" in sets}
    except (ConfigError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s: its training data cannot be read (%s)", folder, error)
        return set()


def build_dataset(
    name: str,
    raw: dict[str, Any] | None,
    split: str,
    hand: Hand,
    image_size: int,
    crop: CropSpec | None = None,
    where: str = "",
) -> HandDataset:
    """The data set `name` with the options `raw` of its own Config; `split` is "train" or "test". `crop`: of the model
    that its samples are for; None: the default one.

    Raises:
        ConfigError: an unknown name or option.
    """
    where = where or f"data.{split}.{name}"
    module, config = _dataset_config(name, raw, where)
    try:
        dataset = module.build(config, split, hand, image_size)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    dataset.fit_crop(crop or CropSpec())
    return dataset


def build_tests(experiment: Experiment, hand: Hand) -> dict[str, HandDataset]:
    """Every data set of the section `data.test`, by name."""
    data = experiment.data
    built = {
        name: build_dataset(name, raw, "test", hand, data.image_size, data.crop) for name, raw in data.test.items()
    }
    return {name: mask_foreign_3d(map_labels_to_hand(dataset, hand), hand) for name, dataset in built.items()}


def mask_foreign_3d(dataset: HandDataset, hand: Hand) -> HandDataset:
    """The data set, with its 3D labels masked and a warning where they belong to another hand than `hand`: an
    evaluation during training neither compares them nor stops there."""
    if dataset.hand in (0, hand.fingerprint):
        return dataset
    from .data.hand_mapping import Without3D
    from .mano.registration import map as registration

    hint = registration.registration_hint(hand.fingerprint, dataset.hand)
    logger.warning("data.test: 3D labels of another hand are not compared; %s", hint)
    return Without3D(dataset, hand.fingerprint)


def map_labels_to_hand(dataset: HandDataset, hand: Hand) -> HandDataset:
    """The data set, with its labels mapped to `hand` where they belong to another hand and the two are registered."""
    if dataset.hand in (0, hand.fingerprint):
        return dataset
    from .data.hand_mapping import RemappedDataset
    from .mano.registration import map as registration

    to_model = registration.find(dataset.hand, hand.fingerprint)
    return dataset if to_model is None else RemappedDataset(dataset, to_model)


def build_stream(
    experiment: Experiment, hand: Hand, micro_batches: int = 1, device: str | torch.device = "cpu"
) -> Stream:
    """The training batches as a function of the step, each split into `micro_batches`, of all devices together.

    `stream[step * micro_batches + part]` is one part of the batch of `step`, made on `device`.

    Raises:
        ConfigError: an unknown data set or option, no data set, a bad weight, a batch that does not split evenly.
    """
    from .data.stream import Stream
    from .data.transforms import Augmentation

    data, train = experiment.data, experiment.train
    if train.batch_size < 1 or train.batch_size % micro_batches:
        raise ConfigError(f"train.batch_size: {train.batch_size} does not split into {micro_batches} equal parts")
    datasets, weights = [], []
    for name, raw in data.train.items():
        raw, weight = _split_weight(name, raw)
        if weight > 0:
            weights.append(weight)
            dataset = build_dataset(name, raw, "train", hand, data.image_size, data.crop)
            datasets.append(map_labels_to_hand(dataset, hand))
    if not datasets:
        raise ConfigError("data.train names no data set with a weight above 0, such as data.train.virtual.weight=1")
    augmentation = configs.parse(Augmentation, data.augment, where="data.augment")
    return Stream(
        datasets,
        weights=weights,
        batch_size=train.batch_size,
        micro_batches=micro_batches,
        seed=train.seed,
        augmentation=augmentation,
        device=device,
    )


def is_model(path: str | Path) -> bool:
    """Whether `path` is a folder that `load_model` can read."""
    try:
        return "options" in json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def find_model(path: str | Path) -> Path:
    """The saved model that `path` names: shipped weights by their bare name, else a folder of save_pretrained, a run,
    or a run's name. What is called like shipped weights is named by its path: `runs/graphormer_lite`.

    Raises:
        ConfigError: there is none; the message lists the shipped ones.
    """
    shipped = sorted(p.name for p in paths.WEIGHTS.glob("*/") if is_model(p))
    name = str(Path(path))
    own = [folder for base in (Path(path), Path("runs") / path) for folder in (base / "model", base)]
    found = next((folder for folder in own if is_model(folder)), None)
    if found is not None and path == name and name in shipped:  # a Path, "./name" and "name/" are no bare names
        logger.warning("%s means the shipped weights; for the others say %s", name, _as_path(found))
        found = None
    if found is None and name not in shipped:
        hint = configs.nearest(name, shipped)
        known = ", ".join(shipped) or "none"
        raise ConfigError(f"no model in {path}, runs/{path} or the shipped weights ({known}){hint}")
    return found or paths.WEIGHTS / name


def _as_path(folder: Path) -> str:
    run = folder.parent if folder.name == "model" else folder
    return str(run) if len(run.parts) > 1 else f"./{run}"


def is_shipped(folder: Path) -> bool:
    """Whether a saved model lies among the shipped weights."""
    return folder.resolve().parent == paths.WEIGHTS.resolve()


def about_weights(folder: Path, file: str = "model.safetensors") -> str:
    """Which weights a saved model has: their name or folder, the beginning of their check sum, and their hand."""
    from .mano import hand as hands

    fingerprint = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("hand", "")
    try:
        hand = f"{hands.find(fingerprint).name} ({fingerprint})"
    except hands.UnknownHandError:
        hand = f"not here ({fingerprint})"
    name = f"{folder.name} (shipped)" if is_shipped(folder) else str(folder)
    return f"weights: {name}, sha256 {sha256(folder / file)[:8]}, hand {hand}"


def check(experiment: Experiment) -> None:
    """Parse every plug-in's section without building anything, so that a mistake is found at once.

    Raises:
        ConfigError: an unknown plug-in or option, a value of the wrong type.
    """
    from .data.transforms import Augmentation

    _model_options(experiment)
    for name, raw in experiment.data.train.items():
        _dataset_config(name, _split_weight(name, raw)[0], f"data.train.{name}")
    for name, raw in experiment.data.test.items():
        _dataset_config(name, raw, f"data.test.{name}")
    configs.parse(Augmentation, experiment.data.augment, where="data.augment")


def _model_options(experiment: Experiment) -> tuple[str, dict[str, Any], ModuleType]:
    options = dict(experiment.model)
    name = options.pop("name", None)
    if not name:
        wrong = difflib.get_close_matches("name", list(options), n=1)
        problem = f"unknown key 'model.{wrong[0]}', did you mean 'name'?" if wrong else "model.name is missing"
        raise ConfigError(f"{problem} (there are: {', '.join(available('models'))})")
    module = plugin("models", name, where="model.name")
    configs.parse(module.Config, options, where="model")
    return name, options, module


def _dataset_config(name: str, raw: dict[str, Any] | None, where: str) -> tuple[ModuleType, Any]:
    module = plugin("datasets", name, where=where)
    if "weight" in (raw or {}) and "weight" not in {f.name for f in dataclasses.fields(module.Config)}:
        raise ConfigError(f"{where}.weight: a share of the mixture belongs to data.train only; leave it out here")
    return module, configs.parse(module.Config, dict(raw or {}), where=where)


def _split_weight(name: str, raw: dict[str, Any] | None) -> tuple[dict[str, Any], float]:
    """A training section without its `weight`, and that weight, 1 by default."""
    raw, where = dict(raw or {}), f"data.train.{name}"
    value = raw.pop("weight", 1.0)
    known = [f.name for f in dataclasses.fields(plugin("datasets", name, where=where).Config)]
    for key in raw.keys() - set(known):
        if configs.nearest(key, [*known, "weight"]) == configs.nearest("weight", ["weight"]):
            raise ConfigError(f"unknown key {where + '.' + key!r}, did you mean 'weight'?")
    try:
        weight = float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}.weight: {value!r} is not a number") from None
    if not 0 <= weight < float("inf"):
        raise ConfigError(f"{where}.weight: {value!r} should be 0 or more")
    return raw, weight
