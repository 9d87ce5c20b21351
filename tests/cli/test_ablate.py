"""hand-ablate: rows trained alike, scored, gone on with; the shipped rows can be built and trained."""

import copy
import json
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState

from helpers.interruption import interrupt_after_a_step
from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly, config, paths
from mesh_graphormer_hand.cli import ablate, console
from mesh_graphormer_hand.losses import check_terms

SHIPPED = sorted((paths.CONFIGS / "ablations").glob("*.yaml"))
ROWS = {"config": "tiny.yaml", "steps": 2, "rows": {"as it is": [], "slower": ["train.optimizer.lr=1e-4"]}}


@pytest.fixture
def command(tmp_path, monkeypatch) -> list[str]:
    """The toy's config and two rows, in an empty working directory; the frozen split is left out."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))
    monkeypatch.setattr(ablate, "VIRTUAL", "toy:samples=3")
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(copy.deepcopy(CONFIG)))
    Path("rows.yaml").write_text(yaml.safe_dump(ROWS, sort_keys=False))
    return ["rows.yaml", "--data", "toy:samples=6", "--out", "out", "--workers", "0", "--device", "cpu"]


def cells(path: str = "out/table.md") -> list[list[str]]:
    lines = [line for line in Path(path).read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_rows_are_trained_scored_and_kept(command, capsys, monkeypatch):
    assert ablate.main(command) == 0
    heading, first, second = cells()
    assert heading[1:-1] == ["toy, PA-MPJPE, mm", "toy, MPJPE, mm"] * 2 and [first[0], second[0]] == [
        "as it is",
        "slower",
    ]
    assert first[1:5] != second[1:5] and "train.optimizer.lr=1e-4" in second[-1] and "train.steps=2" in second[-1]
    assert len(list(Path("out").glob("*/model"))) == 2

    # killed after the first row: that one is not trained again, and a new setting is a new run
    state = json.loads(Path("out/table.json").read_text())
    gone = state["trained"].pop()
    Path("out/table.json").write_text(json.dumps({k: v for k, v in state.items() if not k.startswith(gone)}))
    train_run, trained = ablate.train_run, []
    monkeypatch.setattr(ablate, "train_run", lambda c, o: trained.append(o[-1]) or train_run(c, o))
    before = Path("out/table.md").read_text()
    AcceleratorState._reset_state(True)
    assert ablate.main(command) == 0
    assert trained == [f"train.name={gone}"] and Path("out/table.md").read_text() == before
    AcceleratorState._reset_state(True)
    assert ablate.main([*command, "train.ema=0"]) == 0
    assert len(trained) == 3 and "train.ema=0" in cells()[1][-1]


def test_an_interrupted_row_is_no_row(command, monkeypatch, capsys):
    """Ctrl-C in the first row: it is neither scored nor called trained, no other row begins, and it is gone on with."""
    assert ablate.main([*command, "--out", "whole"]) == 0
    go_on = interrupt_after_a_step(monkeypatch)
    AcceleratorState._reset_state(True)
    assert ablate.main(command) == console.INTERRUPTED
    (run,) = (path.parent for path in Path("out").glob("*/step_*"))
    assert run.name.startswith("as_it_is")
    assert not Path("out/table.json").exists() and not Path("out/table.md").exists()
    go_on()
    AcceleratorState._reset_state(True)
    assert ablate.main(command) == 0
    assert Path("out/table.json").read_text() == Path("whole/table.json").read_text()


def test_seeds_are_averaged(command):
    Path("rows.yaml").write_text(yaml.safe_dump({**ROWS, "seeds": 2, "rows": {"only": []}}))
    assert ablate.main(command) == 0
    text = cells()[1][1]
    values = [v["pa_mpjpe"] for k, v in json.loads(Path("out/table.json").read_text()).items() if "samples=3" in k]
    assert len(values) == 2 and values[0] != values[1]
    assert text == f"{sum(values) / 2:.1f} ± {abs(values[0] - values[1]) / 2:.1f}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"bad": ["train.stesp=3"]}}, "row 'bad': unknown key 'train.stesp', did you mean 'steps'"),
        ({"rows": {}}, "give `rows`"),
        ({"stpes": 3}, "did you mean 'steps'"),
        ({"config": "tyny.yaml"}, "no config file tyny.yaml"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(command, capsys, change, message):
    Path("rows.yaml").write_text(yaml.safe_dump({**ROWS, **change}))
    assert ablate.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error and not Path("out").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_rows_have_a_network_for_their_losses(path):
    table = ablate.read(str(path), [], None)
    experiments = [config.load(table.config, [*table.shared, *settings]) for settings in table.rows.values()]
    for experiment in experiments:
        check_terms(experiment.train.losses, assembly.build_model(experiment, assembly.load_hand(experiment)).produces)
    assert len({json.dumps(config.to_mapping(e), sort_keys=True) for e in experiments}) == len(table.rows)
