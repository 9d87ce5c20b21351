"""Whole photos scored as a user gets them answered."""

import json
from types import SimpleNamespace

import numpy as np

from benchmarks import answers
from helpers import photo_sets
from mesh_graphormer_hand.inference.predictor import HandPredictor


def test_the_nearest_answer_counts_and_none_is_wrong(tmp_path, monkeypatch, capsys):
    """Of three hands one is right, one has the other hand's answer, and one photo has no answer."""
    right, other = np.array(photo_sets.points([10, 10, 50, 50])), np.array(photo_sets.points([90, 90, 130, 130]))
    label = {"keypoints_px": right.tolist(), "handedness": "left"}
    far = {"keypoints_px": other.tolist(), "handedness": "left"}
    (tmp_path / "keypoints.json").write_text(json.dumps({"a.png": [label, far], "b.png": [label]}))
    found = {"a.png": [SimpleNamespace(joints_2d=right + 1, side="left")], "b.png": []}
    stub = SimpleNamespace(predict=lambda path: found[path.name])
    monkeypatch.setattr(HandPredictor, "from_pretrained", lambda *_, **__: stub)
    assert answers.main([str(tmp_path)]) == 0
    line = capsys.readouterr().out
    assert "3 hands, 1 without an answer: PCK@0.1 0.333, PCK@0.2 0.333; sides right: 2 of 2" in line
    assert answers.main([str(tmp_path), "--files", "b*"]) == 0
    assert "1 hands, 1 without an answer: PCK@0.1 0.000" in capsys.readouterr().out
