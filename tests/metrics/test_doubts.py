"""Notes of a scored file: another unit, other axes, another joint order are named, and nothing else is."""

import json

import numpy as np
import pytest

from helpers import freihand_files
from mesh_graphormer_hand.cli import score as cli
from mesh_graphormer_hand.metrics import doubts
from mesh_graphormer_hand.metrics.protocols import freihand
from mesh_graphormer_hand.skeleton import PERMUTATIONS

RHD = list(PERMUTATIONS["rhd"])


def hands(columns: int = 3) -> np.ndarray:
    """Fingers that reach out: an order of joints can be told from another."""
    random = np.random.default_rng(0)
    fingers = np.repeat(random.normal(0, 1, (40, 5, 1, columns)), 4, 2) * np.arange(1, 5)[:, None]
    joints = np.concatenate([np.zeros((40, 1, columns)), fingers.reshape(40, 20, columns)], 1)
    return 0.02 * joints + 0.5


def predicted(columns: int = 3) -> np.ndarray:
    return hands(columns) + np.random.default_rng(1).normal(0, 0.01, (40, 21, columns))


@pytest.mark.parametrize("columns", [2, 3])
def test_a_usual_file_has_no_note(columns):
    assert doubts.notes(hands(columns), predicted(columns)) == []
    assert doubts.notes(hands(columns), 1.5 * predicted(columns)) == []
    assert doubts.notes(hands(columns), np.random.default_rng(2).normal(0, 0.05, hands(columns).shape)) == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (1000 * predicted(), "millimetres for metres"),
        (predicted() / 1000, "metres for millimetres"),
        (predicted() * [1, -1, -1], "OpenGL's axes"),
        (predicted() * [-1, 1, 1], "mirrored"),
        (predicted()[:, np.argsort(RHD)], "in the joint order `rhd`"),
        (1000 * predicted()[:, np.argsort(RHD)] * [1, -1, -1], "OpenGL's axes .* and in the joint order `rhd`"),
    ],
)
def test_what_a_file_means_is_guessed(answer, said):
    import re

    assert any(re.search(said, note) for note in doubts.notes(hands(), answer))


def test_pixels_and_unknown_joints():
    known = np.ones((40, 21), bool)
    known[:, 5:9] = False
    spoilt = predicted(2)
    spoilt[:, 5:9] = np.nan
    assert doubts.notes(hands(2), spoilt, known) == []
    (note,) = doubts.notes(224 * hands(2), spoilt, known)
    assert "pixels of another image size, or shares of the image" in note
    assert doubts.notes(224 * hands(2), spoilt, known, units=False) == []


def test_the_command_prints_them(tmp_path, capsys):
    """tools/score.py took a file in millimetres for a bad one."""
    truth, predictions = freihand_files.write(tmp_path)
    xyz, vertices = freihand.read_submission(predictions)
    (tmp_path / "mm.json").write_text(json.dumps([(1000 * np.array(xyz)).tolist(), vertices]))
    arguments = ["--protocol", "freihand", "--truth", str(truth), "--predictions"]
    assert cli.main([*arguments, str(tmp_path / "mm.json")]) == 0
    assert "note: the predicted hands are " in (said := capsys.readouterr().out) and "millimetres for metres" in said
    assert cli.main([*arguments, str(predictions)]) == 0
    assert "the predicted hands are" not in capsys.readouterr().out
