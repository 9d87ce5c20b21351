"""hand-evaluate and hand-cross-evaluate as a user types them, on a FreiHAND-format folder."""

import copy
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from accelerate.state import AcceleratorState

from helpers import dataset_fixtures
from helpers.toy_train import CONFIG, with_toys
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import cross_evaluate, evaluate, train
from mesh_graphormer_hand.evaluation import columns
from mesh_graphormer_hand.evaluation.cross_table import markdown


@pytest.fixture
def run(tmp_path, monkeypatch) -> str:
    """A toy run in an empty working directory, and a FreiHAND-format folder beside it."""
    AcceleratorState._reset_state(True)
    monkeypatch.setattr(assembly, "available", with_toys(assembly.available))
    raw = copy.deepcopy(CONFIG)
    raw["train"]["steps"] = 1
    raw["data"]["test"] = {}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    assert train.main(["tiny.yaml"]) == 0
    dataset_fixtures.write_freihand(tmp_path / "root")
    return "tiny"


OPTIONS = ["--data", "freihand", "--root", "root", "mano=open", "--workers", "0", "--device", "cpu"]


def test_freihand_from_folder_to_submission(run, capsys):
    """Table, official scores from the exported file, zip, report; augmentation in a column of its own."""
    capsys.readouterr()
    assert evaluate.main([run, *OPTIONS, "--tta"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split() == ["model", "model", "tta", "mean", "pose"]
    assert "official scores (freihand), model, 2 samples" in out
    assert "official scores (freihand), model tta, 2 samples" in out
    assert sum("xyz_al_mean3d:" in line for line in out) == 2
    folder = Path("runs/tiny/evaluation_freihand")
    names = {p.name for p in folder.iterdir()}
    assert names == {"pred.json", "pred.zip", "pred_model_tta.json", "pred_model_tta.zip"} | {
        *("curves.png", "per_joint.csv", "worst.jpg", "report.html")
    }
    xyz, vertices = json.loads((folder / "pred.json").read_text())
    assert np.shape(xyz) == (2, 21, 3) and vertices == [[], []], "the toy has no mesh"
    written = json.loads(Path("runs/tiny/evaluation_freihand.json").read_text())
    assert written["more"]["freihand"]["official"]["model"]["official"]["mesh_mean3d"] == -1
    assert "view" in written["more"]["freihand"]["breakdown"]["model"]


def test_labels_of_an_unknown_mano_leave_the_picture_only(run, capsys):
    options = [o for o in OPTIONS if o != "mano=open"]
    assert evaluate.main([run, *options]) == 0
    out = capsys.readouterr().out
    assert "3D is not compared" in out and "register_hand.py" in out and "official scores (freihand)" not in out


def test_a_broken_image_stops_or_is_listed(run, capsys):
    image = Path("root/evaluation/rgb/00000001.jpg")
    image.write_bytes(image.read_bytes()[:300])
    assert evaluate.main([run, *OPTIONS]) == 2
    error = capsys.readouterr().err
    assert "00000001.jpg" in error and "Traceback" not in error
    assert evaluate.main([run, *OPTIONS, "--skip-broken"]) == 0
    out = capsys.readouterr().out
    assert "1 broken samples were left out" in out and "left out: freihand, sample 1" in out
    assert not Path("runs/tiny/evaluation_freihand/pred.zip").exists(), "a file with a gap is no submission"
    assert "00000001.jpg" in Path("runs/tiny/evaluation_freihand/report.html").read_text()


def test_cross_table(run, capsys, monkeypatch):
    """A trained run and a config in the rows, two sets in the columns; nothing is computed twice."""
    raw = yaml.safe_load(Path("tiny.yaml").read_text())
    Path("other.yaml").write_text(yaml.safe_dump(raw))
    command = ["tiny", "other.yaml", "--data", "toy:samples=6", "--data", "freihand:root=root,mano=open"]
    command += ["--workers", "0", "--device", "cpu", "--out", "cross"]
    AcceleratorState._reset_state(True)
    assert cross_evaluate.main(command) == 0
    table = Path("cross/table.md").read_text()
    assert "| | toy samples=6 | freihand mano=open |" in table and "toy (tiny)" in table and "toy (other)" in table
    assert "(mean pose)" in table and "**" in table
    assert Path("cross/table.png").stat().st_size > 5_000
    monkeypatch.setattr(cross_evaluate, "evaluate_model", lambda *_: pytest.fail("computed again"))
    AcceleratorState._reset_state(True)
    assert cross_evaluate.main(command) == 0
    assert Path("cross/table.md").read_text() == table
    capsys.readouterr()
    assert cross_evaluate.main(["nothing", "--data", "toy"]) == 2
    assert "no config file nothing" in capsys.readouterr().err
    assert cross_evaluate.main(["tiny", "--data", "toi"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err


@pytest.fixture
def scored(tmp_path, monkeypatch, capsys):
    """The cross table of a model that is never run: its score is how many files lie in the data set's folder."""
    monkeypatch.chdir(tmp_path)
    Path("saved").mkdir()
    Path("saved/config.json").write_text('{"name": "toy", "options": {}}')
    Path("saved/model.safetensors").write_text("")
    for name, count in (("A", 1), ("B", 2)):
        for i in range(count):
            Path(name, "deep").mkdir(parents=True, exist_ok=True)
            Path(name, "deep", f"{i}.jpg").write_text("")
    asked = []

    def evaluate_model(folder, name, raw, part, settings, show):
        asked.append(part)
        return {"metrics": {"model": {"epe_px": float(len(list(Path(raw["root"]).rglob("*.jpg"))))}}}

    def table(*data: str) -> tuple[list[str], int]:
        asked.clear()
        command = ["saved", *itertools.chain(*(("--data", d) for d in data)), "--out", "cross"]
        assert cross_evaluate.main(command) == 0
        assert len(set(asked)) == len(asked), "two columns write into one folder"
        return Path("cross/table.md").read_text().splitlines(), len(asked)

    monkeypatch.setattr(cross_evaluate, "evaluate_model", evaluate_model)
    monkeypatch.setattr(cross_evaluate, "draw", lambda *_: None)
    return table


def test_each_root_has_its_own_column_and_numbers(scored):
    lines, computed = scored("folder:root=A", "folder:root=B", "folder:root=A")
    assert computed == 2 and lines[2] == "| | folder root=A | folder root=B |"
    assert lines[4] == "| saved (toy) | - / **1.00** / - | - / **2.00** / - |"
    lines, computed = scored("folder:root=B")  # the same heading as A would have alone
    assert computed == 0 and lines[2] == "| | folder |" and "2.00" in lines[4]
    assert "1.00" in scored("folder:root=A")[0][4]


def test_numbers_of_other_files_are_computed_anew(scored):
    lines, computed = scored("folder:root=A")
    assert computed == 1 and scored("folder:root=A") == (lines, 0)
    Path("A/deep/new.jpg").write_text("")
    lines, computed = scored("folder:root=A")
    assert computed == 1 and "2.00" in lines[4]
    Path("A/.hand_index").mkdir()
    Path("A/.hand_index/index.json").write_text("")  # such as an evaluation leaves behind
    assert scored("folder:root=A")[1] == 0
    Path("A/deep/new.jpg").write_text("larger")
    assert scored("folder:root=A")[1] == 1
    assert scored("folder:root=A,scale=2")[1] == 1


@pytest.mark.parametrize(
    ("text", "heading", "raw"),
    [
        ("virtual", "virtual", {}),
        ("folder:root=a,crop=box,", "folder crop=box", {"root": "a", "crop": "box"}),
        ("x:versions=[gs,hom],root=a,b", "x versions=[gs,hom]", {"versions": ["gs", "hom"], "root": "a,b"}),
        ("virtual:fill=[[1,2],[3]],count=4", "virtual fill=[[1,2],[3]] count=4", {"fill": [[1, 2], [3]], "count": 4}),
    ],
)  # fmt: skip
def test_options_of_a_data_set(text, heading, raw):
    assert columns.parse_data(text) == (heading, (text.partition(":")[0], raw))


def test_markdown_marks_the_best_of_a_column():
    rows = {"a": {"x": {"pa_mpjpe": 10.0, "pckb@0.1": 0.5}}, "b": {"x": {"pa_mpjpe": 12.0, "pckb@0.1": 0.75}}}
    rows["(mean pose)"] = {"x": {"pa_mpjpe": 1.0}}
    lines = markdown(rows, ["x"]).splitlines()
    assert lines[4:6] == ["| a | 0.500 / - / **10.0** |", "| b | **0.750** / - / 12.0 |"]
    assert lines[6] == "| (mean pose) | - / - / 1.0 |"
