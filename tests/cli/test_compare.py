"""hand-compare: rows trained on equal terms, scored, gone on with; mistakes in the file."""

import copy
import json
import re
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState

from helpers.interruption import interrupt_after_a_step
from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly, config, paths
from mesh_graphormer_hand.cli import compare, console
from mesh_graphormer_hand.evaluation.comparison import terms

SHIPPED = sorted((paths.CONFIGS / "comparisons").glob("*.yaml"))
ROWS = {"wide (2001)": "tiny.yaml", "slow (2002)": {"config": "tiny.yaml", "settings": ["train.optimizer.lr=1e-4"]}}
FILE = {"samples": 8, "shared": ["data.image_size=16"], "data": ["toys=toy:samples=6"], "rows": ROWS}


@pytest.fixture
def command(tmp_path, monkeypatch) -> list[str]:
    """The toy's config and two rows, in an empty working directory."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(copy.deepcopy(CONFIG)))
    Path("file.yaml").write_text(yaml.safe_dump(FILE, sort_keys=False))
    return ["file.yaml", "--data", "toy:samples=5", "--out", "out", "--workers", "0", "--device", "cpu"]


def scores(path: str) -> str:
    """The table without what the machine's speed says."""
    lines = Path(path, "comparison.md").read_text().splitlines()
    return "\n".join(re.sub(r"\| [^|]*\|$", "|", line) for line in lines if line.startswith("|"))


def test_rows_are_trained_scored_and_kept(command, capsys, monkeypatch):
    """Ctrl-C in the first row ends it without a score; the same command then fills the table that an undisturbed run
    fills, and a third time computes nothing."""
    assert compare.main([*command, "--out", "whole"]) == 0
    assert scores("whole").count("wide (2001)") == 4  # two columns, and by view
    assert "8 samples of toy, 16 px" in Path("whole/comparison.md").read_text()
    assert Path("whole/comparison_time.png").stat().st_size > 5_000
    assert "data:image/png;base64" in Path("whole/comparison.html").read_text()

    go_on = interrupt_after_a_step(monkeypatch)
    AcceleratorState._reset_state(True)
    assert compare.main(command) == console.INTERRUPTED
    assert not Path("out/comparison.md").exists()
    go_on()
    AcceleratorState._reset_state(True)
    assert compare.main(command) == 0
    assert scores("out") == scores("whole")
    before = Path("out/comparison.md").read_text()
    monkeypatch.setattr(compare, "train_run", lambda *_: pytest.fail("trained again"))
    assert compare.main(command) == 0
    assert Path("out/comparison.md").read_text() == before, "the times are kept, too"


def test_dry_run_tells_the_budget_and_writes_nothing(command, capsys):
    assert compare.main([*command, "--dry-run", "--train-samples", "40"]) == 0
    header, *rows, total = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert header[:4] == ["row", "M parameters", "GMAC", "samples"] and total[0] == "all"
    assert [row[0] for row in rows] == list(ROWS) and [row[3] for row in rows] == ["40", "40"]
    assert all(float(row[4]) > 0 for row in rows) and not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"bad": {"config": "tiny.yaml", "settings": ["train.stesp=3"]}}}, "'bad': unknown key 'train.stesp'"),
        ({"rows": {}}, "file.yaml: give `rows`"),
        ({"sample": 3}, "did you mean 'samples'"),
        ({"samples": 0}, "file.yaml.samples: 0 should be 1 or more"),
        ({"rows": {"a": "tyny.yaml"}}, "row 'a': no config file tyny.yaml"),
        ({"rows": {"a": {"config": "tiny.yaml", "weights": "x"}}}, "row 'a': give one of config, weights"),
        ({"rows": {"a": {"weights": "no_such"}}}, "row 'a': no model in no_such"),
        ({"rows": {"a": "tiny.yaml", "b": {"chain": ["a", "c"]}}}, "row 'b': chain: no network 'c' above"),
        ({"rows": {"a": {"program": "mediapip"}}}, "'mediapip', did you mean 'mediapipe'"),
        (
            {"rows": {**ROWS, "c": {"config": "tiny.yaml", "settings": ["train.batch_size=2"]}}},
            "row 'c': unequal terms: train.batch_size is 2, that of 'wide (2001)' 4",
        ),
    ],
)
def test_mistakes_in_the_file_are_named(command, capsys, change, message):
    Path("file.yaml").write_text(yaml.safe_dump({**FILE, **change}, sort_keys=False))
    assert compare.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "file.yaml" in error and message in error and not Path("out").exists()


def test_seeds_are_averaged_and_saved_models_stand_apart(command, capsys):
    Path("file.yaml").write_text(yaml.safe_dump({**FILE, "seeds": 2, "rows": {"only": "tiny.yaml"}}))
    assert compare.main(command) == 0
    known = json.loads(Path("out/results.json").read_text())
    first, second = (v["metrics"]["mpjpe"] for k, v in known["scores"].items() if "toys" in k)
    text = Path("out/comparison.md").read_text()
    assert first != second and f"{(first + second) / 2:.1f} ± {abs(first - second) / 2:.1f}" in text
    run = str(next(Path("out").glob("tiny_0_*")))
    change = {"notes": ["a remark"], "rows": {"saved": {"weights": run}}}
    Path("file.yaml").write_text(yaml.safe_dump({**FILE, **change}))
    AcceleratorState._reset_state(True)
    assert compare.main([*command, "--out", "saved"]) == 0
    text = Path("saved/comparison.md").read_text()
    assert "saved: a saved model as it is" in text and "- a remark" in text
    assert "**" not in text and "on equal terms, where" not in text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_comparisons_are_on_equal_terms(path):
    comparison = terms.read(str(path), [])
    rows = {name: terms.experiment(comparison, row, 0) for name, row in terms.trained(comparison).items()}
    assert len(rows) > 1
    for experiment in rows.values():
        assert experiment.train.steps * experiment.train.batch_size == comparison.samples
    assert len({json.dumps(config.to_mapping(e.data)["train"], sort_keys=True) for e in rows.values()}) == 1
