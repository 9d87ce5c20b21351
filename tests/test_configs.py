"""Every shipped config goes through the real parser, and every key of it, misspelt by a letter, is told apart."""

import copy
from collections.abc import Iterator

import pytest

from helpers.places import ROOT
from mesh_graphormer_hand import assembly, config, paths
from mesh_graphormer_hand.config import ConfigError, Experiment
from mesh_graphormer_hand.losses import check_terms

SHIPPED = [path for path in sorted(paths.CONFIGS.rglob("*.yaml")) if "train" in config.read(path)]


def key_paths(mapping: dict, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key at any depth, as a path."""
    for key, value in mapping.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from key_paths(value, (*prefix, key))


def misspell(key: str) -> str:
    """One letter changed, in the middle."""
    middle = len(key) // 2
    return key[:middle] + ("q" if key[middle] != "q" else "z") + key[middle + 1 :]


def check(raw: dict) -> Experiment:
    """What hand-train checks before it builds anything, and the names of losses, which it checks with the model."""
    experiment = config.parse(Experiment, raw)
    assembly.check(experiment)
    check_terms(experiment.train.losses, private=private_terms(experiment.model["name"]))
    return experiment


def private_terms(name: str) -> tuple[str, ...]:
    """The losses that the model `name` alone has."""
    module = assembly.plugin("models", name)
    own = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(c.private_terms for c in own if hasattr(c, "private_terms"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_is_valid_as_shipped(path):
    experiment = check(config.read(path))
    assert experiment.train.losses and experiment.data.train and experiment.data.test


FREE = {"sets"}  # sections whose keys are names of the user's own
CASES = [(path, k) for path in SHIPPED for k in key_paths(config.read(path)) if not FREE & set(k[:-1])]


@pytest.mark.parametrize(("path", "keys"), CASES, ids=[f"{p.stem}-{'.'.join(k)}" for p, k in CASES])
def test_a_misspelt_key_is_an_error_that_suggests_the_right_one(path, keys):
    raw = copy.deepcopy(config.read(path))
    section = raw
    for key in keys[:-1]:
        section = section[key]
    wrong = misspell(keys[-1])
    section[wrong] = section.pop(keys[-1])
    with pytest.raises(ConfigError) as caught:
        check(raw)
    assert wrong in str(caught.value) and f"did you mean '{keys[-1]}'" in str(caught.value)


def test_a_parsed_config_shares_nothing_with_the_next():
    first, second = (config.parse(Experiment, {}) for _ in range(2))
    first.train.optimizer.betas.append(0.5)
    first.data.train["toy"] = {}
    assert second == config.parse(Experiment, {}) == Experiment()


def test_an_old_key_is_refused_with_its_new_name():
    with pytest.raises(
        ConfigError, match=r"'train\.optimizer\.rest': it is called 'train\.optimizer\.adamw_lr_scale' now"
    ):
        config.load("graphormer_lite", ["train.optimizer.rest=0.2"])


@pytest.mark.parametrize(("old", "new"), config.RENAMED.items())
def test_changed_names_are_in_the_changelog(old, new):
    rows = [line.split("|") for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("| `")]
    pairs = [(row[1].strip(" `"), row[2].strip(" `")) for row in rows]
    found = [after for before, after in pairs if f".{before}".endswith(f".{old}")]
    assert [name.rpartition(".")[2] for name in found] == [new], f"CHANGELOG.md, Changed names: a row for {old}"


@pytest.mark.parametrize("schema", [config.DataConfig, config.TrainConfig, config.OptimizerConfig, Experiment])
def test_every_key_of_every_schema_is_suggested(schema):
    for name in schema.__dataclass_fields__:
        with pytest.raises(ConfigError, match=f"unknown key 'here.{misspell(name)}', did you mean '{name}'"):
            config.parse(schema, {misspell(name): None}, where="here")


@pytest.mark.parametrize("name", sorted(assembly.available("datasets")))
def test_every_option_of_every_data_set_is_suggested(name):
    for option in [*assembly.plugin("datasets", name).Config.__dataclass_fields__, "weight"]:
        raw = {
            "data": {"train": {name: {misspell(option): 1}}},
            "model": {"name": next(iter(assembly.available("models")))},
        }
        with pytest.raises(ConfigError, match=f"{misspell(option)}', did you mean '{option}'"):
            assembly.check(config.parse(Experiment, raw))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.steps"], "override 'train.steps' should read key=value"),
        (["train.steps=many"], "train.steps: .*many"),
        (["train.optimizer=3"], "train.optimizer"),
        (["train.stesp=3"], "unknown key 'train.stesp', did you mean 'steps'"),
        (["train.optimizer.lrr=3"], "unknown key 'train.optimizer.lrr', did you mean 'lr'"),
        (["trian.steps=3"], "unknown key 'trian', did you mean 'train'"),
        (["train.steps=[1"], "cannot be read"),
    ],
)
def test_bad_overrides(overrides, message):
    with pytest.raises(ConfigError, match=message):
        config.load("graphormer_lite", overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.evaluate_every=-2", "train.evaluate_every: -2 should be 0 or more"),
        ("train.checkpoint_every=0", "train.checkpoint_every: 0 should be 1 or more"),
        ("train.ema=2", "train.ema: 2.0 should be from 0 to 1"),
        ("train.optimizer.warmup=-9", "train.optimizer.warmup: -9 should be 0 or more"),
        ("train.optimizer.weight_decay=-1", "train.optimizer.weight_decay: -1.0 should be"),
        ("train.optimizer.betas=[0.9, -1]", r"train.optimizer.betas\[1\]: -1.0 should be from 0 to 1"),
        ("train.optimizer.lr=.nan", "train.optimizer.lr: nan should be"),
        ("train.losses.joints=-1", "train.losses.joints: -1.0 should be 0 or more"),
        ("data.image_size=0", "data.image_size: 0 should be 1 or more"),
        ("data.workers=-2", "data.workers: -2 should be -1 or more"),
        ("data.augment.rotation=-30", "data.augment.rotation: -30.0 should be 0 or more"),
        ("data.augment.noise=2", "data.augment.noise: 2.0 should be from 0 to 1"),
        ("data.train.virtual.shape_std=-1", "data.train.virtual.shape_std: -1.0 should be 0 or more"),
        ("data.train.virtual.fill=[-0.1, 0.9]", r"data.train.virtual.fill\[0\]: -0.1 should be"),
        ("data.train=[virtual]", r"data.train: \['virtual'\] should be a section"),
        ("data.train.virtual=3", "data.train.virtual: 3 should be a section"),
        ("data.augment=3", "data.augment: 3 should be a section"),
        ("data.train.weight=0.3", "data.train.weight: 0.3 should be a section"),
        ("data.train.virtual.split=trian", "data.train.virtual: split .trian. is none of .*, did you mean .train."),
        ("data.test.virtual.weight=3", "data.test.virtual.weight: a share of the mixture belongs to data.train only"),
    ],
)
def test_numbers_and_sections_that_cannot_be(override, message):
    """A negative number once went through: a rotation of -30 degrees was an error of a batch, hours later."""
    with pytest.raises(ConfigError, match=message):
        assembly.check(config.load("graphormer_lite", [override]))


def test_overrides_set_values_and_replace_sections():
    experiment = config.load(
        "graphormer_lite", ["train.steps=7", "train.optimizer.lr=1e-2", "data.test={}", "hand=open"]
    )
    assert experiment.train.steps == 7 and experiment.train.optimizer.lr == 0.01
    assert experiment.data.test == {} and experiment.hand == "open"
    assert config.load("graphormer_lite", ["train.losses={joints: 1}"]).train.losses == {"joints": 1.0}


def test_unknown_file_is_told_with_the_nearest_shipped_one():
    with pytest.raises(ConfigError, match="no config file graphormer_lit, did you mean 'graphormer_lite.yaml'"):
        config.load("graphormer_lit")


def test_not_yaml(tmp_path):
    (tmp_path / "bad.yaml").write_text("train: [1\nsteps: }")
    with pytest.raises(ConfigError, match="bad.yaml is not valid YAML"):
        config.load(tmp_path / "bad.yaml")


def test_a_base_gives_what_a_config_does_not_say(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {steps: 5, optimizer: {lr: 0.1, warmup: 3}}\ndata: {image_size: 64}\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.yaml").write_text("base: ../a.yaml\ntrain: {optimizer: {lr: 0.2}}\n")
    found = config.load(tmp_path / "sub" / "b.yaml", ["train.steps=7"])
    assert (found.train.steps, found.train.optimizer.lr, found.train.optimizer.warmup) == (7, 0.2, 3)
    assert found.data.image_size == 64


@pytest.mark.parametrize("base, message", [("b.yaml", "its own base"), ("nowhere.yaml", "no file"), ("c.yaml", "own")])
def test_a_base_that_cannot_be(tmp_path, base, message):
    (tmp_path / "b.yaml").write_text(f"base: {base}\n")
    (tmp_path / "c.yaml").write_text("base: b.yaml\n")
    with pytest.raises(ConfigError, match=message):
        config.read(tmp_path / "b.yaml")
