"""benchmarks/detector.py: one table of virtual frames, held-out photos, backgrounds and a folder of pictures."""

import json

import pytest

from benchmarks import detector
from helpers import photo_sets, tiny


@pytest.fixture
def bench():
    return detector


@pytest.fixture
def recipe(tmp_path):
    for name, write in (("people", photo_sets.frames), ("empty", photo_sets.backgrounds)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    options = {"sets": ["people"], "hold_out": [2], "backgrounds": "empty", "hold_out_backgrounds": 3}
    (tmp_path / "recipe.yaml").write_text(json.dumps({"data": {"test": {"hand_frames": options}}}))
    (tmp_path / "crops").mkdir()
    photo_sets.picture(tmp_path / "full_a.png", [photo_sets.BOX])
    hand = {"keypoints_px": photo_sets.points(photo_sets.BOX), "handedness": "left"}
    (tmp_path / "keypoints.json").write_text(json.dumps({"full_a.png": [hand]}))
    return tmp_path


def test_the_table(bench, recipe, capsys):
    model = {"name": "hand_detector", "channels": [4, 6, 8, 8, 8], "blocks": [0, 0, 0, 0, 0], "neck": 8}
    tiny.build(model).save_pretrained(recipe / "tiny")
    where = f"data.test.hand_frames.root={recipe}"
    words = [str(recipe / "recipe.yaml"), where, "--photos", str(recipe), "--model", str(recipe / "tiny")]
    assert bench.main([*words, "--detector", "ours", "whole", "--count", "1", "--size", "64", "--calibrate"]) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in out if line.startswith("|")]
    assert all(len(row) == len(rows[0]) for row in rows) and sum("slope" in line for line in out) == 2
    assert {(row[0], row[1]) for row in rows[2:]} == {
        (d, g) for d in ("ours", "whole") for g in ("1 virtual", "people", "empty", "full_*")
    }
    found = {tuple(row[:3]): row for row in rows}
    hands = {size: found["whole", "people", size][3] for size in ("all", "0-32", "32-64")}
    assert hands == {"all": "3", "0-32": "1", "32-64": "2"}  # BOX of two photos is 40 px long, the other box 15
    assert found["whole", "empty", "all"][8] == "1.000" and found["ours", "empty", "all"][3:8] == ["0"] + ["-"] * 4


def test_what_the_network_believes(bench, recipe, capsys):
    """The whole photo is no hand to the shipped network where it shows none."""
    where = f"data.test.hand_frames.root={recipe}"
    words = [str(recipe / "recipe.yaml"), where, "--count", "0", "--threshold", "0", "--believed", "graphormer_lite"]
    tiny.build({"name": "hand_detector", "channels": [4] * 5, "blocks": [0] * 5, "neck": 8}).save_pretrained(
        recipe / "t"
    )
    assert bench.main([*words, "--model", str(recipe / "t")]) == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "| empty |" in line]
    assert [float(row[9]) for row in rows] == [0.0]


def test_a_recipe_without_held_out_photos_is_told(bench, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("data: {test: {}}")
    assert bench.main([str(tmp_path / "recipe.yaml"), "--count", "0"]) != 0
    assert "data.test.hand_frames" in capsys.readouterr().err
