"""hand-train and hand-evaluate as a user meets them: what is printed, what is written, one line for a mistake."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState

from helpers.places import ROOT
from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand import config as configs
from mesh_graphormer_hand.cli import console, evaluate, train
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.training import launch
from mesh_graphormer_hand.training.launch import RunLock


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    """The toy plug-ins; Accelerate forgets the test before."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The toy's config file, in an empty folder that is the working directory."""
    raw = copy.deepcopy(CONFIG)
    raw["train"]["steps"] = 4
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    return "tiny.yaml"


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_train_then_evaluate(config, capsys, tmp_path):
    assert train.main([config, "train.steps=3"]) == 0
    assert last_line(capsys) == "runs/tiny"
    run = tmp_path / "runs" / "tiny"
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["steps"] == 3

    for name in ("runs/tiny", "tiny", "runs/tiny/model"):
        assert evaluate.main([name, "--workers", "0", "--device", "cpu"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == "runs/tiny/evaluation_toy.json"
        rows = {line.split()[0]: line.split()[-2:] for line in out[2:-1]}
        assert rows["mpjpe"][0] != "-" and rows["mpjpe"][1] != "-"
        assert rows["pck@0.1"] == ["-", "-"], "neither the toy nor the mean pose says where joints are in the image"
    written = json.loads((run / "evaluation_toy.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())
    assert written["test"]["toy"]["model"] == pytest.approx(trained["test"]["toy"]["model"], rel=1e-4)

    where = tmp_path / "deep" / "numbers.json"
    assert evaluate.main(["tiny", "--data", "toy", "samples=5", "--json", str(where), "--workers", "0"]) == 0
    assert last_line(capsys) == str(where) and json.loads(where.read_text())["data"] == {"toy": {"samples": 5}}


def test_dry_run_prints_figures_and_writes_nothing(config, capsys, tmp_path):
    assert train.main([config, "--dry-run"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"run", "data", "sizes", "parameters", "work", "memory", "disk", "speed", "time"} <= lines.keys()
    assert "toy (64 samples, weight 1)" in lines["data"] and "0.06 M" in lines["parameters"]
    assert "images/s" in lines["speed"] and "an epoch" in lines["time"]
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]


def test_two_trainers_in_one_folder(config, capsys, tmp_path):
    folder = tmp_path / "runs" / "tiny"
    with RunLock(folder):
        assert train.main([config]) == 2
        assert "is being trained in by process" in capsys.readouterr().err.splitlines()[-1]
        assert train.main([config, "--fresh"]) == 2
    assert [p.name for p in folder.parent.iterdir()] == ["tiny"]
    assert train.main([config, "train.steps=1"]) == 0


def test_missing_data_says_what_and_where(config, capsys):
    assert train.main([config, "data.train={folder: {root: nowhere}}"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: ") and "nowhere" in said and "folder" in said


def test_same_command_goes_on_and_fresh_starts_over(config, caplog, tmp_path):
    assert train.main([config]) == 0
    assert train.main([config]) == 0 and "finished at step 4" in caplog.text
    assert train.main([config, "--fresh"]) == 0
    assert len([p for p in (tmp_path / "runs").iterdir() if p.name.startswith("tiny.")]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.yaml", "train.stesp=3"], "error: unknown key 'train.stesp', did you mean 'steps'?"),
        (["tiny.yaml", "train.losses={jonts: 1}"], "error: train.losses: unknown loss 'jonts', did you mean 'joints'?"),
        (["tiny.yaml", "model.name=toi"], "error: model.name: no model named 'toi', did you mean 'toy'?"),
        (["tiny.yaml", "hand=nowhere.pkl"], "nowhere.pkl"),
        (["tinny.yaml"], "error: no config file tinny.yaml"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(config, capsys, arguments, message):
    assert train.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and message in captured.err
    assert not any(Path("runs").glob("*/step_*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: no model in nothing"),
        (["tiny", "--root", "x"], "name it with --data"),
        (["tiny", "--data", "toi"], "did you mean 'toy'"),
        (["tiny", "--data", "toy", "sampels=2"], "did you mean 'samples'"),
        (["tiny", "--data", "toy", "samples"], "should read key=value"),
    ],
)
def test_evaluate_mistakes(config, capsys, arguments, message):
    assert train.main([config, "train.steps=1", "data.test={}"]) == 0
    capsys.readouterr()
    assert evaluate.main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err.splitlines()[-1] and "Traceback" not in captured.err


def test_a_model_whose_weights_do_not_fit_is_told(config, capsys):
    assert train.main([config, "train.steps=1", "data.test={}"]) == 0
    saved = Path("runs/tiny/model/config.json")
    saved.write_text(saved.read_text().replace('"image_size": 16', '"image_size": 12'))
    assert evaluate.main(["tiny", "--data", "toy"]) == 2
    assert "does not fit its config.json" in capsys.readouterr().err


def test_only_expected_errors_lose_their_traceback():
    def fail(error):
        raise error

    assert console.run(lambda: fail(ConfigError("x"))) == 2
    assert console.run(lambda: fail(FileNotFoundError("x"))) == 2
    assert console.run(lambda: fail(KeyboardInterrupt())) == 130
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: fail(ZeroDivisionError()))


@pytest.mark.parametrize("tool", ["train", "evaluate"])
def test_help_is_instant(tool):
    """It comes without torch, whose import takes seconds."""
    code = f"import sys; from mesh_graphormer_hand.cli import {tool} as t\n"
    code += "try: t.main(['--help'])\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "usage: hand-" in done.stdout
    assert not {"torch", "transformers", "numpy", "accelerate"} & set(done.stdout.split())


def test_a_start_that_has_seen_these_virtual_hands_is_told(config, capsys, caplog):
    virtual = {"virtual": {"seed": 4}}
    experiment = configs.Experiment(data=configs.DataConfig(train=virtual))
    for seen, told in (([0, 4], True), ([0, 3], False)):
        model = Path("start")
        model.mkdir(exist_ok=True)
        (model / "config.json").write_text('{"options": {}}')
        pieces = [{"experiment": {"data": {"train": {"virtual": {"seed": seed}}}}} for seed in seen]
        (model / "training.json").write_text(json.dumps({"pieces": [*pieces, {"experiment": {"data": {"train": {}}}}]}))
        caplog.clear()
        launch.warn_of_seen_samples(experiment, "start")
        assert ("data.train.virtual.seed=5 draws others" in caplog.text) == told
    (model / "training.json").write_text('{"pieces": [{"experiment": 3}]}')
    assert assembly.virtual_seeds("start") == set() and "cannot be read" in caplog.text
    (model / "training.json").unlink()
    Path("config.yaml").write_text("data: {train: {virtual: {seed: 7}}}")
    assert assembly.virtual_seeds("start") == {7}
