"""Parts of a comparison: another program's predictions and its misses, the tables, labels of points."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandTargets
from mesh_graphormer_hand.evaluation.comparison import exports, plots, report
from mesh_graphormer_hand.evaluation.comparison.report import Entry, Table

SIZE = 32


class Crops:
    """Four crops with 2D and 3D labels; the image of sample i is of brightness i / 4."""

    def __len__(self) -> int:
        return 4

    def load(self, indices, device="cpu") -> HandBatch:
        grid = torch.stack(torch.meshgrid(torch.arange(7.0), torch.arange(3.0), indexing="ij"), -1).reshape(21, 2)
        points = (8 + 2 * grid).expand(len(indices), 21, 2)
        joints = torch.cat([0.01 * grid, 0.02 * grid[:, :1].sin()], -1).expand(len(indices), 21, 3)
        known = torch.ones(len(indices), 21, dtype=torch.bool)
        images = torch.stack([torch.full((3, SIZE, SIZE), i / 4) for i in indices])
        targets = HandTargets(
            joints=joints - joints[:, :1],
            joints_valid=known,
            joints_2d=points,
            joints_2d_valid=known,
            crop_size=torch.full((len(indices),), float(SIZE)),
        )
        return HandBatch(HandInputs(image=images), targets, [f"crop/{i}" for i in indices])


def finder(image):
    """The labels as another program gives them, in a crop that is not black: with a hand at its border, too."""
    if not image.any():
        return []
    batch = Crops().load([0])
    points = (batch.targets.joints_2d[0] / SIZE).numpy()
    hand = {"points": points.tolist(), "world": (batch.targets.joints[0] + 0.3).tolist()}
    return [{"points": (points + 0.5).tolist(), "world": hand["world"]}, hand]


def test_misses_are_counted_both_ways(tmp_path):
    """Three of four hands are found exactly: all is right of those found, three quarters of all; a distance to a hand
    that was not found is none. The hand in the middle of the crop is taken."""
    path, of = tmp_path / "x.json", ["mediapipe", 32, ("a", "tuple")]
    exports.export(finder, Crops(), 0, 0, path, of)
    hands = exports.read(path, of)
    assert [hand is not None for hand in hands.values()] == [False, True, True, True]
    found = exports.score(hands, Crops(), 0, 0)
    only, everything = found[exports.FOUND], found[exports.ALL]
    assert (only["found"], only["samples"]) == (3, 4) == (everything["found"], everything["samples"])
    assert only["metrics"]["pck@0.05"] == 1 and only["metrics"]["pa_mpjpe"] == pytest.approx(0, abs=1e-3)
    assert everything["metrics"]["pck@0.1"] == 0.75 and everything["metrics"]["auc_2d"] == pytest.approx(0.75, abs=0.01)
    assert not {"epe_2d", "mpjpe", "pa_mpjpe"} & set(everything["metrics"])
    (size,) = only["breakdown"]["size_in_crop"].values()
    assert size["samples"] == 4 and size["pck@0.1"] == 1


def test_an_export_is_of_its_own_data(tmp_path):
    path = tmp_path / "x.json"
    assert exports.read(path, ["a"]) is None
    exports.export(lambda image: [], Crops(), 2, 0, path, ["a"])
    assert exports.read(path, ["a"]) == {"crop/0": None, "crop/1": None} and exports.read(path, ["b"]) is None
    path.write_text("{")
    with pytest.raises(ConfigError, match="x.json is damaged"):
        exports.read(path, ["a"])


def test_a_program_without_3d_has_none(tmp_path):
    hands = {f"crop/{i}": {"points": np.full((21, 2), 0.4).tolist(), "world": None} for i in range(4)}
    found = exports.score(hands, Crops(), 0, 0)[exports.FOUND]["metrics"]
    assert "epe_2d" in found and "pa_mpjpe" not in found


def entry(heading: str, pck: float, *, equal: bool = True, mm: float | None = None) -> Entry:
    metrics = {"pck@0.1": pck, "epe_2d": 0.1} | ({} if mm is None else {"pa_mpjpe": mm})
    bins = {"view": {"palm": {"samples": 3, **metrics}, "back": {"samples": 2, **metrics}}}
    about = {"parameters": 2_500_000, "gmac": 0.25, "gives": ["2D"], "lifts": False}
    return Entry(heading, heading, [{"x": {"metrics": metrics, "breakdown": bins, "samples": 5}}], about, equal, 4.25)


def test_tables_show_costs_dashes_and_the_best_on_equal_terms(tmp_path):
    entries = [entry("a", 0.5), entry("b", 0.75, mm=12.25), entry("c", 0.9, equal=False)]
    table = Table(["caption"], ["x"], entries, ["a note"])
    (main,) = report.main_grids(table)
    assert main.rows[0] == ["", "gives", "PCK@0.1", "EPE, % of box", "PA-MPJPE, mm", "M parameters", "GMAC", "ms"]
    assert main.rows[1] == ["a", "2D", "0.500", "**10.0**", "-", "2.50", "0.25", "4.2"]
    assert main.rows[2][2:5] == ["**0.750**", "10.0", "**12.2**"] and main.rows[3][2] == "0.900"
    two_d, three_d = report.bin_grids(table)
    assert two_d.rows[:2] == [["", "back", "palm"], ["(samples)", "2", "3"]] and two_d.rows[2] == [
        "a",
        "0.500",
        "0.500",
    ]
    assert [row[0] for row in three_d.rows[2:]] == ["b"]
    report.write(tmp_path, table)
    text = Path(tmp_path, "comparison.md").read_text()
    assert "- a note" in text and "comparison_time.png" in text and "| a | 2D |" in text
    page = Path(tmp_path, "comparison.html").read_text()
    assert "<td><b>0.750</b></td>" in page and "**" not in page
    assert not plots.draw([replace(entries[0], about={"parameters": None}, ms=None)], ["x"])


def test_labels_of_points_do_not_overlap():
    values = [0.5, 0.5, 0.51, 0.9, 0.1, 0.5]
    placed = sorted(plots.spread(values, 0.1, (0.0, 1.0)))
    assert all(b - a > 0.0999 for a, b in zip(placed, placed[1:], strict=False))
    assert placed[0] == pytest.approx(0.1) and placed[-1] <= 1.0
