"""Official protocols: the official programs' own scores, golden values, every layout read and refused by name."""

import json
import pickle

import cv2
import numpy as np
import pytest

from helpers import freihand_files
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.cli import score as cli
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.evaluation.score import score_files
from mesh_graphormer_hand.metrics import fingertips
from mesh_graphormer_hand.metrics.protocols import (
    dexycb,
    freihand,
    hand3d,
    hint,
    ho3d,
    interhand26m,
    keypoints_2d,
    two_hands,
)
from mesh_graphormer_hand.metrics.protocols.base import Errors, ScoreError, official_procrustes
from mesh_graphormer_hand.skeleton import FINGERTIPS, PERMUTATIONS, TIPS


def hands(count: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.04 * rng.standard_normal((count, 21, 3)) + [0, 0, 0.6]


def constant(error: float) -> Errors:
    return Errors(np.full((3, 21), float(error)))


# --- FreiHAND


def test_every_line_of_freihands_scores_by_the_command(tmp_path, capsys):
    """`tools/score.py` prints what FreiHAND's eval.py wrote, all twelve lines, to six digits."""
    truth, predictions = freihand_files.write(tmp_path)
    report = tmp_path / "out" / "scores.json"
    arguments = ["--protocol", "freihand", "--truth", str(truth), "--predictions", str(predictions)]
    assert cli.main([*arguments, "--json", str(report)]) == 0
    assert capsys.readouterr().out.splitlines()[:12] == freihand_files.official_lines()
    saved = json.loads(report.read_text())
    assert [f"{k}: {v:f}" for k, v in saved["official"].items()] == freihand_files.official_lines()
    assert len(saved["per_joint"]["xyz_al_cm"]) == 21 and saved["counts"] == {"samples": 24}


def meshes(joints: np.ndarray, vertices: np.ndarray) -> freihand.Meshes:
    return freihand.Meshes(joints, vertices)


def cloud(joints: np.ndarray, seed: int = 1) -> np.ndarray:
    return joints.repeat(38, 1)[:, :778] + 0.01 * np.random.default_rng(seed).standard_normal((len(joints), 778, 3))


def test_mirrored_hands_are_forgiven_by_the_official_program_and_only_by_it():
    """The alignment of FreiHAND allows reflections: 4e-9 m; the proper one does not."""
    joints = hands()
    mirror = np.array([-1.0, 1, 1])
    target, predicted = meshes(joints, cloud(joints)), meshes(joints * mirror, cloud(joints) * mirror)
    scores = freihand.compare(target, predicted)
    assert scores.official["xyz_al_mean3d"] < 1e-5 and scores.official["mesh_al_mean3d"] < 1e-5
    assert scores.extra["xyz_al_proper_mean3d"] > 2 and scores.extra["mesh_al_proper_mean3d"] > 1  # cm


def test_proper_alignment_undoes_a_similarity_and_nothing_more():
    joints = hands()
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    moved = 1.7 * joints @ turn.T + [0.1, 0, 2]
    for reflections in (True, False):
        assert np.abs(official_procrustes(moved, joints, reflections) - joints).max() < 1e-7


@pytest.mark.parametrize(
    ("error_mm", "golden"), [(0, 1.0), (10, 0.803030), (25, 0.5), (30, 0.398990), (50, 0.005051), (51, 0.0)]
)
def test_golden_auc_0_50_mm_in_100_steps(error_mm, golden):
    """FreiHAND's, HO-3D's and DexYCB's AUC when every joint has this one error."""
    assert constant(error_mm / 1000).auc(0, 0.05, 100) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize(("px", "golden"), [(0, 1.0), (5, 0.815789), (15, 0.5), (30, 0.026316)])
def test_golden_auc_0_30_px_in_20_steps(px, golden):
    assert constant(px).auc(0, 30, 20) == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize(("mm", "golden"), [(20, 0.605263), (25, 0.5), (50, 0.026316)])
def test_golden_auc_0_50_mm_in_20_steps(mm, golden):
    assert constant(mm).auc(0, 50, 20) == pytest.approx(golden, abs=1e-6)


def test_means_over_joints_and_flat_means_differ():
    """Joint A with errors {1, 1, 1}, joint B with {5}: 3.0 for FreiHAND, 2.0 for mmpose's EPE."""
    errors = Errors(np.array([[1.0, 5.0], [1, np.nan], [1, np.nan]]))
    assert errors.mean() == pytest.approx(3.0) and errors.flat_mean() == pytest.approx(2.0)


def test_zero_predictor_scores_the_distance_to_the_centroid():
    joints = hands()
    scores = freihand.compare(meshes(joints, cloud(joints)), meshes(np.zeros_like(joints), None))
    wanted = np.linalg.norm(joints - joints.mean(1, keepdims=True), axis=-1).mean()
    assert scores.official["xyz_al_mean3d"] == pytest.approx(100 * wanted, rel=1e-6)
    assert scores.official["mesh_mean3d"] == scores.official["f_al_score_5"] == -1  # another mesh


def test_other_fingertips_are_noticed_and_converted():
    """FreiHAND's tips are not manopth's: a warning with the bias, and none left after tips=freihand."""
    vertices = cloud(hands())
    base = hands()
    official = fingertips.convert(base, vertices, "freihand")
    target, predicted = meshes(official, vertices), meshes(fingertips.convert(base, vertices, "manopth"), vertices)
    assert fingertips.detect(predicted.xyz, vertices) == "manopth"
    scores = freihand.compare(target, predicted)
    assert len(scores.notes) == 1 and "'manopth'" in scores.notes[0] and "tips=freihand" in scores.notes[0]
    converted = freihand.compare(target, predicted, tips="freihand")
    assert converted.official["xyz_mean3d"] == 0 < scores.official["xyz_mean3d"] and not converted.notes
    assert fingertips.detect(base, vertices) is None
    with pytest.raises(ConfigError, match="did you mean 'freihand'"):
        freihand.Config(tips="freihnd")


def edit(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def test_broken_predictions_are_named_and_skipped_on_request(tmp_path):
    truth, predictions = freihand_files.write(tmp_path)

    def spoil(content):
        content[0][3][5][1] = float("nan")
        return content

    edit(predictions, spoil)
    with pytest.raises(ScoreError, match=r"pred\.json: xyz of sample 3 holds 1 numbers that are NaN.*--skip-broken"):
        freihand.score(truth, predictions, freihand.Config())
    scores = freihand.score(truth, predictions, freihand.Config(), skip_broken=True)
    assert scores.counts["samples"] == 23 and len(scores.left_out) == 1 and "sample 3" in scores.left_out[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text[: len(text) // 2], "is cut short"),
        (lambda text: "[[], [], []]", "should hold two lists"),
        (lambda text: "{}", "should hold two lists"),
        (lambda text: json.dumps([json.loads(text)[0][:-1], json.loads(text)[1]]), "has 23 samples"),
    ],
)
def test_damaged_predictions_are_one_line(tmp_path, capsys, spoil, message):
    truth, predictions = freihand_files.write(tmp_path)
    predictions.write_text(spoil(predictions.read_text()))
    arguments = ["--protocol", "freihand", "--truth", str(truth), "--predictions", str(predictions)]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "pred.json" in error and "Traceback" not in error


def test_missing_labels_and_unknown_names_are_told(tmp_path, capsys):
    _, predictions = freihand_files.write(tmp_path)
    assert cli.main(["--protocol", "freihand", "--truth", str(tmp_path), "--predictions", str(predictions)]) == 2
    assert "evaluation_xyz.json: no such file" in capsys.readouterr().err
    assert cli.main(["--protocol", "freihnd", "--truth", "a", "--predictions", "b"]) == 2
    assert "did you mean 'freihand'" in capsys.readouterr().err
    assert cli.main(["--protocol", "freihand", "--truth", "a", "--predictions", "b", "spilt=x"]) == 2
    assert "did you mean 'split'" in capsys.readouterr().err


def test_every_protocol_is_listed_with_its_options(capsys):
    assert cli.main(["--list"]) == 0
    out = capsys.readouterr().out
    for name in assembly.available("protocols"):
        assert f"{name}: " in out
        assert callable(assembly.plugin("protocols", name).score)


# --- HO-3D


def test_ho3d_aligns_scale_and_wrist(tmp_path):
    """Twice as large and elsewhere is no error under scale and translation; joint 4 there is the middle MCP."""
    joints = hands() * [1, -1, -1]
    order = np.argsort(PERMUTATIONS["mano"])
    own = joints[:, order]
    target, predicted = meshes(own, cloud(own)), meshes(2 * own + 0.1, cloud(own))
    scores = ho3d.compare(target, predicted)
    assert scores.official["xyz_scale_trans_al_mean3d"] < 1e-10 < scores.official["xyz_mean3d"]
    assert list(scores.official)[:6] == [
        *("xyz_mean3d", "xyz_auc3d", "xyz_procrustes_al_mean3d", "xyz_procrustes_al_auc3d"),
        *("xyz_scale_trans_al_mean3d", "xyz_scale_trans_al_auc3d"),
    ]
    assert np.array_equal(own[:, ho3d.HO3D_MIDDLE_MCP], joints[:, 9])
    point = np.zeros_like(own)
    assert np.isfinite(ho3d.scale_translation(own, point)).all(), "a hand of one point is not divided by its length"


def test_ho3d_converts_fingertips_as_its_warning_advises():
    """The advice names an option that HO-3D has, too; its own order of joints stays."""
    order, vertices = np.argsort(PERMUTATIONS["mano"]), cloud(hands())
    target, predicted = (
        meshes(fingertips.convert(hands(), vertices, tips)[:, order], vertices) for tips in ("freihand", "manopth")
    )
    (note,) = ho3d.compare(target, predicted).notes
    option = note.rpartition("; ")[2].split()[0]
    config = cli.configs.parse(ho3d.Config, cli.configs.overrides_to_mapping([option]), where="ho3d")
    scores = ho3d.compare(target, predicted, config.tips)
    assert scores.official["xyz_mean3d"] == 0 and not scores.notes
    with pytest.raises(ConfigError, match="did you mean 'freihand'"):
        ho3d.Config(tips="freihnd")


def test_ho3d_refuses_hands_behind_its_camera(tmp_path):
    truth, predictions = freihand_files.write(tmp_path)
    for name in ("xyz", "verts"):
        edit(truth / f"evaluation_{name}.json", lambda c: (np.array(c) * [1, -1, -1]).tolist())
    with pytest.raises(ScoreError, match="positive z.*multiply"):
        ho3d.score(truth, predictions, ho3d.Config())


# --- InterHand2.6M


def interhand_files(folder, count: int = 3) -> tuple[dict, np.ndarray]:
    """Official annotations of one right, one left and one interacting frame; returns a perfect table and the joints."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    centre = np.array([120.0, -40, 900])
    data, frames, table, all_joints = {"images": [], "annotations": []}, {}, {}, []
    for i, kind in enumerate(("right", "left", "interacting")[:count]):
        camera_joints = 60 * rng.standard_normal((42, 3)) + [0, 0, 800]
        valid = np.ones((42, 1), int)
        if kind != "interacting":
            valid[21:] = kind == "left"
            valid[:21] = kind == "right"
        world = camera_joints @ turn + centre  # row vectors: R^T (x) + centre
        world[valid[:, 0] == 0] = 1.0
        data["images"].append({"id": i, "capture": 0, "camera": "400026", "frame_idx": 10 + i})
        data["annotations"].append(
            {"id": 100 + i, "image_id": i, "joint_valid": valid.tolist(), "hand_type": kind, "hand_type_valid": 1}
        )
        frames[str(10 + i)] = {"world_coord": world.tolist(), "joint_valid": valid.tolist()}
        told = {"right": [0.9, 0.1], "left": [0.2, 0.7], "interacting": [0.8, 0.6]}[kind]
        table[str(100 + i)] = {"joints_mm": camera_joints.tolist(), "hand_type": told}
        all_joints.append(camera_joints)
    camera = {"0": {"campos": {"400026": centre.tolist()}, "camrot": {"400026": turn.tolist()}}}
    folder.mkdir(parents=True)
    for part, content in (("data", data), ("camera", camera), ("joint_3d", {"0": frames})):
        (folder / f"InterHand2.6M_test_{part}.json").write_text(json.dumps(content))
    return table, np.array(all_joints)


def score_interhand(tmp_path, table, partial=False, **options):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table))
    return interhand26m.score(tmp_path / "i", path, interhand26m.Config(partial=partial), **options)


def test_interhand_perfect_and_known_errors(tmp_path):
    table, joints = interhand_files(tmp_path / "i" / "annotations" / "test")
    perfect = score_interhand(tmp_path, table).official
    assert perfect == pytest.approx(
        {"handedness_accuracy": 1, "mrrpe": 0, "mpjpe_all": 0, "mpjpe_single": 0, "mpjpe_interacting": 0}, abs=1e-9
    )
    moved = joints[2].copy()
    moved[21:] += [3.0, 4, 0]  # the left hand as a whole: its own joints stay right, the vector between wrists is 5 off
    moved[0] += [0, 0, 42.0]  # the right thumb's tip
    table["102"] |= {"joints_mm": moved.tolist(), "hand_type": [0.4, 0.9]}
    scores = score_interhand(tmp_path, table).official
    assert scores["mrrpe"] == pytest.approx(5) and scores["mpjpe_single"] == pytest.approx(0, abs=1e-9)
    assert scores["mpjpe_interacting"] == pytest.approx(1.0), "42 mm at one of 42 joints, wrists included"
    assert scores["mpjpe_all"] == pytest.approx(0.5), "that joint has two samples in both banks together"
    assert scores["handedness_accuracy"] == pytest.approx(2 / 3)


def test_interhand_without_single_hands_does_not_crash(tmp_path):
    """The official program stacks an empty list there."""
    table, _ = interhand_files(tmp_path / "i")
    only = interhand26m.Answer(np.zeros((42, 3)), None, np.zeros(3))
    sample = interhand26m.Sample("1", np.zeros((42, 3)), np.ones(42, bool), "interacting", True)
    assert set(interhand26m.compare([(sample, only)]).official) == {"mrrpe", "mpjpe_all", "mpjpe_interacting"}
    del table["101"]
    with pytest.raises(ScoreError, match="annotation 101: missing"):
        score_interhand(tmp_path, table)
    assert score_interhand(tmp_path, table, skip_broken=True).counts["samples"] == 2


def test_interhand_a_hand_without_its_wrist_does_not_count(tmp_path):
    table, _ = interhand_files(tmp_path / "i")
    path = tmp_path / "i" / "InterHand2.6M_test_data.json"

    def hide(content):
        content["annotations"][2]["joint_valid"][41] = [0]
        return content

    edit(path, hide)
    valid = [interhand26m.valid_joints(annotation) for annotation in interhand26m.Truth(tmp_path / "i", "test")]
    assert not valid[2][21:].any() and valid[2][:21].all()
    assert "mrrpe" not in score_interhand(tmp_path, table).official


def test_interhand_scores_what_is_asked_for_and_tells_its_share(tmp_path):
    """An annotation without valid joints needs no answer; with partial=true neither does any other, nor a hand."""
    table, joints = interhand_files(tmp_path / "i")

    def blank(content):
        content["annotations"][0]["joint_valid"] = [[0]] * 42
        return content

    edit(tmp_path / "i" / "InterHand2.6M_test_data.json", blank)
    del table["100"]
    whole = score_interhand(tmp_path, table)
    assert whole.counts["samples"] == 2 and whole.counts["hands"] == 3 and not whole.notes
    del table["101"]
    spoilt = joints[2].copy()
    spoilt[21:] = 0
    table["102"] |= {"joints_mm": spoilt.tolist(), "hands": ["right"]}
    with pytest.raises(ScoreError, match=r"table\.json: annotation 101: missing; partial=true"):
        score_interhand(tmp_path, table)
    scores = score_interhand(tmp_path, table, partial=True)
    assert scores.counts["hands"] == 1 and "1 of 3 labelled hands (33.3%)" in scores.notes[0]
    wanted = {"handedness_accuracy": 1, "mpjpe_all": 0, "mpjpe_interacting": 0}
    assert scores.official == pytest.approx(wanted, abs=1e-9)
    del table["102"]["hand_type"]
    assert "no handedness_accuracy" in score_interhand(tmp_path, table, partial=True).notes[0]
    table["102"]["hands"] = ["lefft"]
    with pytest.raises(ScoreError, match="annotation 102: hands should be some of"):
        score_interhand(tmp_path, table, partial=True)


# --- meshes of two hands


def two_hand_arrays(n: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    joints = np.stack([hands(n, 1), hands(n, 2) + [0.1, 0, 0]], 1)
    vertices = joints[:, :, :1] + 0.05 * rng.standard_normal((n, 2, 778, 3))
    valid, interacting = np.ones((n, 2)), np.ones(n)
    valid[0, 1] = interacting[0] = 0
    box = np.tile([0.0, 0, 10, 10], (n, 2, 1))
    return {"vertices": vertices, "joints": joints, "valid": valid, "interacting": interacting} | {
        "joints_valid": np.ones((n, 2, 21)),
        "box": box,
    }


def score_two_hands(tmp_path, target, predicted, rules):
    for name, content in (("t.npz", target), ("p.npz", predicted)):
        np.savez(tmp_path / name, **content)
    return two_hands.score(tmp_path / "t.npz", tmp_path / "p.npz", two_hands.Config(rules)).official


def test_intaghand_scales_and_roots_at_the_middle_mcp(tmp_path):
    target = two_hand_arrays()
    predicted = {k: 3 * target[k] + 0.2 for k in ("vertices", "joints")}
    scores = score_two_hands(tmp_path, target, predicted, "intaghand")
    assert max(scores.values()) < 1e-9 and "vert_all" in scores
    predicted = {k: target[k].copy() for k in ("vertices", "joints")}
    predicted["vertices"][:, 1] += [0.01, 0, 0]
    scores = score_two_hands(tmp_path, target, predicted, "intaghand")
    assert scores["vert_left"] == pytest.approx(10) and scores["vert_all"] == pytest.approx(5)


def test_interwild_roots_at_the_wrist_and_places_the_left_hand(tmp_path):
    target = two_hand_arrays()
    predicted = {k: target[k].copy() for k in ("vertices", "joints", "box")}
    for key in ("vertices", "joints"):
        predicted[key][:, 1] += [0, 0.02, 0]  # the left hand 20 mm off, as a whole
    predicted["box"][:, :, 0] = 5.0
    scores = score_two_hands(tmp_path, target, predicted, "interwild")
    assert scores["mrrpe"] == pytest.approx(20) and scores["rrve"] == pytest.approx(10)
    assert scores["mpvpe_interacting"] == pytest.approx(0, abs=1e-9) and scores["bbox_iou"] == pytest.approx(50)
    assert scores["mpjpe_single"] == pytest.approx(0, abs=1e-9)
    labelled = target["joints"].copy()
    labelled[0, 0, 5] += [0.021, 0, 0]  # 21 mm at one joint of the only single frame; all: banks count alike
    scores = score_two_hands(tmp_path, target | {"joints_labelled": labelled}, predicted, "interwild")
    assert scores["mpjpe_single"] == pytest.approx(21 / 42) and scores["mpjpe_all"] == pytest.approx(21 / 84)


def test_two_hands_names_what_is_wrong(tmp_path):
    target = two_hand_arrays()
    predicted = {k: target[k].copy() for k in ("vertices", "joints")}
    predicted["joints"][1, 0, 3] = np.nan
    with pytest.raises(ScoreError, match=r"p\.npz: joints of frame 1 is not finite"):
        score_two_hands(tmp_path, target, predicted, "interwild")
    with pytest.raises(ScoreError, match="`valid` is missing"):
        score_two_hands(tmp_path, {k: v for k, v in target.items() if k != "valid"}, predicted, "interwild")
    with pytest.raises(ConfigError, match="did you mean 'interwild'"):
        two_hands.Config("interwld")


# --- DexYCB


def test_dexycb_counts_frames_as_the_official_toolkit(tmp_path):
    """Camera by camera, then frames; a frame without a hand (all -1) has a number, too."""
    joints = hands(8)
    number = 0
    for sequence in range(5):
        for camera in ("836212060125", "839512060362"):
            folder = tmp_path / "20200709-subject-01" / f"s{sequence}" / camera
            folder.mkdir(parents=True)
            for frame in range(2):
                label = np.full((1, 21, 3), -1.0)
                if sequence == 4 and (camera, frame) != ("836212060125", 1):
                    label[0] = joints[number]
                    number += 1
                np.savez(folder / f"labels_{frame:06d}.npz", joint_3d=label)
    config = dexycb.Config(setup="s2", split="train", sequences=5)
    assert len(list(dexycb.frames(tmp_path, config))) == 20
    listed = [p for p in dexycb.frames(tmp_path, config) if p.parts[-3] == "s4"]
    assert [p.parts[-2][:3] + p.stem[-1] for p in listed] == ["8360", "8361", "8390", "8391"]
    lines = [",".join(map(str, [i, *(1000 * j).ravel()])) for i, j in zip((16, 18, 19), joints, strict=False)]
    (tmp_path / "r.txt").write_text("\n".join(lines))
    scores = dexycb.score(tmp_path, tmp_path / "r.txt", config)
    assert scores.official["absolute_mpjpe"] < 1e-3 and scores.official["procrustes_auc"] > 0.99
    assert scores.counts["samples"] == 3
    (tmp_path / "r.txt").write_text("\n".join(lines[:2]))
    with pytest.raises(ScoreError, match="frame 19 .* has no line"):
        dexycb.score(tmp_path, tmp_path / "r.txt", config)
    (tmp_path / "r.txt").write_text("1,2,3")
    with pytest.raises(ScoreError, match="line 1: 64 comma-separated"):
        dexycb.score(tmp_path, tmp_path / "r.txt", config)
    with pytest.raises(ScoreError, match="5 sequences, the split is defined for 100"):
        list(dexycb.frames(tmp_path, dexycb.Config(setup="s2")))


def test_dexycb_splits_do_not_overlap():
    for setup in ("s0", "s3"):
        parts = {s: {i for i in range(100) if dexycb.in_split(i, dexycb.Config(setup, s))} for s in ("train", "test")}
        assert not parts["train"] & parts["test"] and parts["test"]
    assert {i // 5 for i in range(100) if dexycb.in_split(i, dexycb.Config("s3", "test"))} == {7, 11, 15}


def test_dexycb_root_relative_and_absolute():
    target = 1000 * hands()
    scores = dexycb.compare(target, target + [0, 0, 30.0]).official
    assert scores["absolute_mpjpe"] == pytest.approx(30) and scores["root_relative_mpjpe"] < 1e-9
    assert scores["absolute_auc"] == pytest.approx(0.398990, abs=1e-6)


# --- RHD and STB


def rhd_files(folder) -> np.ndarray:
    """Two pictures, the first of a right hand; returns the dominant hands in canonical order, m."""
    joints = np.concatenate([hands(2, 1), hands(2, 2)], 1)  # RHD's order: left, then right
    uv = np.concatenate([400 * joints[..., :2] / joints[..., 2:] + 160, np.ones((2, 42, 1))], -1)
    mask_folder = folder / "evaluation" / "mask"
    mask_folder.mkdir(parents=True)
    content = {i: {"uv_vis": uv[i], "xyz": joints[i], "K": np.eye(3)} for i in range(2)}
    (folder / "evaluation" / "anno_evaluation.pickle").write_bytes(pickle.dumps(content, protocol=2))
    for i, right_rows in enumerate((20, 5)):
        mask = np.zeros((320, 320), np.uint8)
        mask[:right_rows], mask[100:110] = 20, 5
        cv2.imwrite(str(mask_folder / f"{i:05d}.png"), mask)
    order = list(PERMUTATIONS["rhd"])
    return np.stack([joints[0, 21:][order], joints[1, :21][order]])


def test_rhd_takes_the_dominant_hand_and_the_palm(tmp_path):
    target = rhd_files(tmp_path)
    table = {f"{i:05d}": {"joints_m": (2 * target[i] + 1).tolist()} for i in range(2)}
    (tmp_path / "t.json").write_text(json.dumps(table))
    scores = hand3d.score(tmp_path, tmp_path / "t.json", hand3d.Config())
    assert scores.official["epe_mean"] < 1e-9 and scores.official["auc_20_50"] == pytest.approx(1)
    unscaled = hand3d.score(tmp_path, tmp_path / "t.json", hand3d.Config(scale="none", root="wrist"))
    assert unscaled.official["epe_mean"] > 10
    wrist = target.copy()
    wrist[:, 0] += [0.02, 0, 0]  # moves the palm's centre by half of it, and with it all other joints
    palm = hand3d.compare_3d(target, wrist, np.ones((2, 21), bool), hand3d.Config())
    assert palm.mean() == pytest.approx(10 * 20 / 21)
    del table["00001"]
    (tmp_path / "t.json").write_text(json.dumps(table))
    with pytest.raises(ScoreError, match="'00001' is missing"):
        hand3d.score(tmp_path, tmp_path / "t.json", hand3d.Config())


def test_files_of_another_layout_are_one_line(tmp_path):
    """Truths that are JSON and pickles, but not these; a table without a whole answer."""
    rhd_files(tmp_path)
    table = tmp_path / "t.json"
    table.write_text(json.dumps({"00000": {"joints_m": [[0]]}}))
    with pytest.raises(ScoreError, match="no sample is left to score"):
        score_files("hand3d", tmp_path, table, skip_broken=True)
    (tmp_path / "evaluation" / "anno_evaluation.pickle").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ScoreError, match="laid out otherwise than the protocol hand3d reads it"):
        score_files("hand3d", tmp_path, table)
    for name in ("data", "camera", "joint_3d"):
        (tmp_path / f"InterHand2.6M_test_{name}.json").write_text("{}")
    with pytest.raises(ScoreError, match=r"test_data\.json holds no `images`"):
        score_files("interhand26m", tmp_path, table)


def test_rhd_pickles_run_nothing(tmp_path):
    rhd_files(tmp_path)

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    (tmp_path / "evaluation" / "anno_evaluation.pickle").write_bytes(pickle.dumps({0: Evil()}))
    with pytest.raises(ScoreError, match="refused"):
        list(hand3d.read_rhd(tmp_path, hand3d.Config()))


def test_auc_20_50_is_the_last_twelve_of_twenty_thresholds():
    assert hand3d.auc_20_50(constant(0.0)) == pytest.approx(1)
    shares = constant(30.0).curve(np.linspace(0, 50, 20)[-12:])
    assert shares.sum() == 8, "thresholds from 31.6 mm on hold 30 mm"
    assert hand3d.auc_20_50(constant(30.0)) == pytest.approx((8 - 0.5) / 11)


def test_stb_order_is_a_permutation_from_the_palm():
    assert sorted(hand3d.STB_ORDER) == list(range(21))
    assert hand3d.STB_ORDER[:5] == (0, 17, 18, 19, 20) and hand3d.STB_ORDER[17:] == (1, 2, 3, 4)


def test_stb_labels_are_read_in_millimetres(tmp_path):
    from scipy.io import savemat

    joints = hands(4)
    for sequence in hand3d.STB_TEST:
        raw = np.zeros((3, 21, 2))
        for i in range(2):
            raw[:, list(hand3d.STB_ORDER), i] = 1000 * joints[i].T
        savemat(tmp_path / f"{sequence}_BB.mat", {"handPara": raw})
    samples = list(hand3d.read_stb(tmp_path, hand3d.Config(data="stb")))
    assert len(samples) == 4 and np.abs(samples[1].xyz - joints[1]).max() < 1e-9
    assert samples[3].name == "B1Random_BB/1"


# --- 2D


def coco(n: int = 3) -> tuple[keypoints_2d.Labels, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (n, 21, 2))
    return keypoints_2d.Labels([str(i) for i in range(n)], points, np.full(n, 100.0), np.full(n, np.nan)), points


@pytest.mark.parametrize(("px", "golden"), [(0, 0.95), (15, 0.45), (29, 0.0)])
def test_golden_mmpose_auc(px, golden):
    """20 thresholds 0, 1.5, ..., 28.5 px, strict: never 1."""
    labels, _ = coco()
    whole = keypoints_2d.Labels(labels.names, np.zeros((3, 21, 2)), labels.box, labels.head)
    assert keypoints_2d.compare(whole, np.zeros((3, 21, 2)) + [px, 0]).official["auc"] == pytest.approx(golden)


def test_pck_is_strict_over_the_box_and_pckb_is_not_over_the_diagonal():
    labels, points = coco()
    points[:, 0], points[:, 1] = [0, 0], [60, 80]  # the keypoints' own box is 100 long in the diagonal, or more
    points[:, 2:] = [30, 40]
    exact = keypoints_2d.Config(pck=0.25, pckb=0.25)
    scores = keypoints_2d.compare(labels, points + [25.0, 0], exact)
    assert scores.official["pck@0.25"] == 0 and scores.extra["pckb@0.25"] == 1
    assert scores.official["nme"] == pytest.approx(0.25) and scores.official["epe"] == pytest.approx(25)
    assert "pckh@0.7" not in scores.official
    heads = keypoints_2d.Labels(labels.names, points, labels.box, np.full(3, 140.0))
    assert keypoints_2d.compare(heads, points + [97.9, 0]).official["pckh@0.7"] == 1
    assert keypoints_2d.compare(heads, points + [98.1, 0]).official["pckh@0.7"] == 0


def test_coco_files_end_to_end(tmp_path):
    _, points = coco()
    rows = [np.concatenate([p, np.ones((21, 1))], 1) for p in points]
    rows[0][4, 2] = 0  # not labelled
    annotations = [{"id": i, "keypoints": r.ravel().tolist(), "bbox": [0, 0, 100, 50]} for i, r in enumerate(rows)]
    (tmp_path / "t.json").write_text(json.dumps({"annotations": annotations}))
    results = [{"id": i, "keypoints": (r + [2, 0, 0]).ravel().tolist()} for i, r in enumerate(rows)]
    results[0]["keypoints"][12] = 1e9  # at the joint that is not labelled
    (tmp_path / "p.json").write_text(json.dumps(results))
    scores = keypoints_2d.score(tmp_path / "t.json", tmp_path / "p.json", keypoints_2d.Config())
    assert scores.official["epe"] == pytest.approx(2) and scores.counts["joints"] == 62
    (tmp_path / "p.json").write_text(json.dumps(results[:2]))
    with pytest.raises(ScoreError, match="annotation 2 is missing"):
        keypoints_2d.score(tmp_path / "t.json", tmp_path / "p.json", keypoints_2d.Config())


def test_coco_results_that_name_pictures(tmp_path):
    """A picture's id stands for its only annotation, never for the annotation of the same number."""
    _, points = coco()
    rows = [np.concatenate([p, np.ones((21, 1))], 1).ravel().tolist() for p in points]
    pictures = [1, 2, 0]  # of annotations 0, 1, 2
    annotations = [
        {"id": i, "image_id": k, "keypoints": r, "bbox": [0, 0, 100, 50]}
        for i, (k, r) in enumerate(zip(pictures, rows, strict=True))
    ]
    results = [{"image_id": k, "keypoints": r} for k, r in zip(pictures, rows, strict=True)]
    truth, answers = tmp_path / "t.json", tmp_path / "p.json"

    def epe(annotations: list[dict], results: list[dict]) -> float:
        truth.write_text(json.dumps({"annotations": annotations}))
        answers.write_text(json.dumps(results))
        return keypoints_2d.score(truth, answers, keypoints_2d.Config()).official["epe"]

    assert epe(annotations, results) == 0 and epe(annotations, [{"id": 0, **results[0]}, *results[1:]]) == 0
    with pytest.raises(ScoreError, match=r"p\.json: result 3 is another one for annotation 1"):
        epe(annotations, [*results, results[1]])
    with pytest.raises(ScoreError, match=r"p\.json: result 0 has only image_id 1, .* several annotations; give"):
        epe([annotations[0], {**annotations[1], "image_id": 1}, annotations[2]], results)
    with pytest.raises(ScoreError, match="result 3 has only image_id 7, of a picture with no"):
        epe(annotations, [*results, {**results[0], "image_id": 7}])


def test_hint_subsets(tmp_path):
    points = np.random.default_rng(0).uniform(0, 200, (2, 21, 2))
    occlusion = np.zeros(21, int)
    occlusion[10:] = 1
    folder = tmp_path / "TEST_newdays_img"
    folder.mkdir()
    table = {}
    for i in range(2):
        label = [{"keypoints": points[i].tolist(), "occlusion": occlusion.tolist(), "bbox": [[0, 0, 100, 200]]}]
        (folder / f"n{i}_r.json").write_text(json.dumps(label))
        guess = points[i] + np.where(occlusion, 25.0, 15.0)[:, None] * [1, 0]
        table[f"TEST_newdays_img/n{i}_r"] = {"joints_px": guess.tolist()}
    (tmp_path / "p.json").write_text(json.dumps(table))
    scores = hint.score(folder, tmp_path / "p.json", hint.Config())
    scores = scores.official
    assert scores["pck@0.1_visible"] == 1 and scores["pck@0.1_occluded"] == 0
    assert scores["pck@0.15_all"] == 1 and scores["pck@0.1_all"] == pytest.approx(10 / 21)
    names = np.array(["a.jpg"])
    keypoints = np.concatenate([points[:1], np.full((1, 21, 1), 0.4)], -1)
    keypoints[:, :5, 2] = 1
    np.savez(tmp_path / "l.npz", imgname=names, scale=np.array([[100.0, 200.0]]), hand_keypoints_2d=keypoints)
    listed = hint.read_list(tmp_path / "l.npz", 0.5)["a.jpg"]
    assert listed.side == 200 and listed.labelled.sum() == 5 and listed.occluded is None


def test_conventions_are_of_the_fingertips_only():
    vertices = cloud(hands(1))
    joints = fingertips.convert(hands(1), vertices, "smplx")
    assert np.array_equal(joints[0, list(TIPS)], vertices[0, list(FINGERTIPS["smplx"])])
    assert np.array_equal(np.delete(joints, TIPS, 1), np.delete(hands(1), TIPS, 1))
