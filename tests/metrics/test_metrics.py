"""Metrics: golden values of the official evaluations, hand-computed cases, refusals."""

import pytest
import torch
from torch.testing import assert_close

from helpers import freihand_files
from mesh_graphormer_hand.contracts import HandPrediction, HandTargets
from mesh_graphormer_hand.metrics import Accumulator, HandMismatchError, per_sample
from mesh_graphormer_hand.metrics.measures import area_under_curve, f_scores, fingerprint_name

HAND, OTHER = 0x1234, -77


def joints(count: int = 4, seed: int = 0) -> torch.Tensor:
    out = 0.04 * torch.randn(count, 21, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return out - out[:, :1]


def targets_3d(points: torch.Tensor, hand: int = HAND, valid: torch.Tensor | None = None) -> HandTargets:
    valid = torch.ones(points.shape[:2], dtype=torch.bool) if valid is None else valid
    return HandTargets(joints=points, joints_valid=valid, hand=torch.full((len(points),), hand))


def mesh(count: int = 2, seed: int = 1) -> torch.Tensor:
    return 0.04 * torch.randn(count, 778, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mesh_targets(vertices: torch.Tensor, hand: int = HAND) -> HandTargets:
    count = len(vertices)
    return HandTargets(
        vertices=vertices, vertices_valid=torch.ones(count, dtype=torch.bool), hand=torch.full((count,), hand)
    )


def predicted(hand: int | None = HAND, **values: torch.Tensor) -> HandPrediction:
    count = len(next(iter(values.values())))
    return HandPrediction(**values, hand=None if hand is None else torch.full((count,), hand))


@pytest.mark.parametrize(
    ("error_mm", "golden"), [(0, 1.0), (10, 0.803030), (25, 0.5), (30, 0.398990), (50, 0.005051), (51, 0.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_auc_golden_values(error_mm, golden, dtype):
    """What FreiHAND's, HO-3D's and DexYCB's programs give when every joint has this one error."""
    area = area_under_curve(torch.full((3, 21), float(error_mm), dtype=dtype), 50.0)
    assert_close(area, torch.full_like(area, golden), atol=1e-6, rtol=0)


def test_auc_keeps_unlabelled_joints_apart():
    assert area_under_curve(torch.tensor([float("nan"), 0.0]), 50.0).isnan().tolist() == [True, False]


def test_f_score_golden_values():
    """A 4 x 4 grid, 0.1 m apart: shifted 4 mm, shifted 5.1 mm, and its first half."""
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0), torch.zeros(1))[None] * 0.1
    shift = torch.tensor([1.0, 0, 0])
    assert_close(f_scores(grid + 0.004 * shift, grid)["f@5"], torch.tensor([1.0]))
    assert_close(f_scores(grid + 0.0051 * shift, grid)["f@5"], torch.tensor([0.0]))
    assert_close(f_scores(grid[:, :8], grid)["f@5"], torch.tensor([2 / 3]))
    assert_close(f_scores(grid + 0.0051 * shift, grid)["f@15"], torch.tensor([1.0]))


def test_f_score_does_not_depend_on_the_chunk():
    a, b = mesh(19, 1), mesh(19, 2)
    whole = f_scores(a, b)["f@15"]
    assert_close(whole, torch.cat([f_scores(a[i : i + 1], b[i : i + 1])["f@15"] for i in range(19)]))


def test_one_centimetre_is_ten_millimetres_and_the_wrist_is_subtracted():
    target = joints()
    moved = target.clone()
    moved[:, 1:, 0] += 0.01
    values = per_sample(predicted(joints=moved), targets_3d(target))
    assert_close(values["mpjpe"], torch.full((4,), 10.0 * 20 / 21).double())
    shifted = per_sample(predicted(joints=target + 0.3), targets_3d(target))
    assert shifted["mpjpe"].max() < 1e-9, "each set minus its own wrist"


def test_mirror_is_an_error_unless_reflections_are_allowed():
    target = joints()
    mirrored = predicted(joints=target * torch.tensor([-1.0, 1, 1]))
    assert per_sample(mirrored, targets_3d(target), allow_reflection=True)["pa_mpjpe"].max() < 1e-6
    assert per_sample(mirrored, targets_3d(target))["pa_mpjpe"].mean() > 20


def test_zero_predictor_scores_the_distance_to_the_centroid():
    target = joints()
    values = per_sample(predicted(joints=torch.zeros_like(target)), targets_3d(target))
    assert_close(values["pa_mpjpe"], 1000 * (target - target.mean(1, keepdim=True)).norm(dim=-1).mean(1))


def test_joint_means_are_means_of_per_joint_means():
    """Joint 1 with errors {1, 1, 1} and joint 2 with {5} mm: 3.0 over the joints; a flat mean would say 2.0."""
    target = torch.zeros(3, 21, 3)
    guess = target.clone()
    guess[:, 1, 0], guess[:, 2, 0] = 0.001, 0.005
    valid = torch.zeros(3, 21, dtype=torch.bool)
    valid[:, :2], valid[0, 2] = True, True
    scores = Accumulator()
    scores.update(predicted(joints=guess), targets_3d(target, valid=valid))
    per_joint = scores.per_joint()["mpjpe"]
    assert_close(per_joint[[0, 1, 2]], torch.tensor([0.0, 1.0, 5.0]).double())
    assert scores.summary()["mpjpe"] == pytest.approx((0 + 1 + 5) / 3)


def test_vertices_metrics():
    vertices = mesh()
    values = per_sample(predicted(vertices=2 * vertices + 0.1), mesh_targets(vertices))
    assert values["pa_mpvpe"].max() < 1e-6 and values["f@5"].min() == 1
    assert_close(values["mpvpe"], 1000 * (vertices + 0.1).norm(dim=-1).mean(1))


def square_2d() -> tuple[torch.Tensor, HandTargets]:
    """21 keypoints in a tight box of 100 x 50 px, so that the unit of error is 100 px."""
    target = torch.zeros(1, 21, 2)
    target[0, 0], target[0, 1] = torch.tensor([10.0, 20.0]), torch.tensor([110.0, 70.0])
    target[0, 2:] = 50.0
    valid = torch.ones(1, 21, dtype=torch.bool)
    return target, HandTargets(joints_2d=target, joints_2d_valid=valid, crop_size=torch.tensor([224.0]))


def test_pck_is_strict_and_normalised_by_the_longer_side():
    target, targets = square_2d()
    exact = torch.tensor([0.125, 0.1875, 0.25]) * 100  # px, exact in binary
    guess = target.clone()
    guess[0, :3, 0] += exact
    values = per_sample(predicted(None, joints_2d=guess), targets)
    assert_close(values["pck@0.1"], torch.tensor([18 / 21]))
    assert_close(values["pck@0.2"], torch.tensor([20 / 21]))
    assert_close(values["epe_2d"], torch.tensor([0.5625 / 21]))
    assert values["auc_2d"] > 18 / 21
    on_the_line = target + torch.tensor([10.0, 0.0])
    assert per_sample(predicted(None, joints_2d=on_the_line), targets)["pck@0.1"] == 0


def test_unlabelled_keypoints_count_neither_in_the_error_nor_in_the_box():
    target, targets = square_2d()
    valid = targets.joints_2d_valid.clone()
    valid[0, 5] = False
    wild = target.clone()
    wild[0, 5] = 1e6
    labels = HandTargets(joints_2d=wild, joints_2d_valid=valid)
    values = per_sample(predicted(None, joints_2d=target + 1.0), labels)
    assert_close(values["epe_2d"], torch.tensor([2**0.5 / 100]))


def test_samples_without_labels_are_nan_and_leave_the_means_alone():
    target = joints(3)
    valid = torch.ones(3, 21, dtype=torch.bool)
    valid[1] = False
    labels = targets_3d(torch.where(valid[..., None], target, 0.0), valid=valid)
    values = per_sample(predicted(joints=target), labels)
    assert values["mpjpe"].isnan().tolist() == [False, True, False]
    scores = Accumulator()
    scores.update(predicted(joints=target), labels, ["a", "b", "c"])
    assert scores.counts()["mpjpe"] == 2 and scores.summary()["mpjpe"] == pytest.approx(0)
    nothing = targets_3d(target, valid=torch.zeros_like(valid))
    empty = Accumulator()
    empty.update(predicted(joints=target), nothing)
    assert empty.summary() == {}


def test_mask_iou():
    logits = torch.full((3, 4, 4), -1.0)
    logits[0, :2], logits[1, 0] = 1.0, 1.0
    truth = torch.zeros(3, 4, 4, dtype=torch.bool)
    truth[0, 1:3] = True
    labels = HandTargets(mask=truth, mask_valid=torch.ones(3, dtype=torch.bool))
    assert_close(per_sample(predicted(None, mask=logits), labels)["mask_iou"], torch.tensor([1 / 3, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"\(3, 2, 2\).*\(3, 4, 4\)"):
        per_sample(predicted(None, mask=logits[:, :2, :2]), labels)


@pytest.mark.parametrize("hand", [OTHER, 0])
def test_vertices_of_another_hand_are_refused_with_both_names(hand):
    with pytest.raises(HandMismatchError) as caught:
        per_sample(predicted(vertices=mesh()), mesh_targets(mesh(), hand))
    assert fingerprint_name(HAND) in str(caught.value) and fingerprint_name(hand) in str(caught.value)
    assert fingerprint_name(OTHER) == f"{2**64 + OTHER:016x}"


def test_vertices_without_a_fingerprint_are_refused():
    with pytest.raises(ValueError, match=r"prediction\.hand"):
        per_sample(predicted(None, vertices=mesh()), mesh_targets(mesh()))


def test_mesh_joints_of_another_hand_are_refused_but_plain_keypoints_are_not():
    with pytest.raises(HandMismatchError, match="2D"):
        per_sample(predicted(joints=joints()), targets_3d(joints(), OTHER))
    for mine, theirs in ((HAND, 0), (0, OTHER), (None, OTHER)):
        assert "mpjpe" in per_sample(predicted(mine, joints=joints()), targets_3d(joints(), theirs))
    one_bad = predicted(joints=joints())
    masked = targets_3d(joints(), OTHER, torch.zeros(4, 21, dtype=torch.bool))
    assert per_sample(one_bad, masked)["mpjpe"].isnan().all(), "unlabelled samples are not compared at all"


def test_a_nan_prediction_is_an_error_that_names_field_rows_and_keys():
    guess = joints()
    guess[2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"joints is not finite for 1 of 4 samples \(rows \[2\]\)") as caught:
        Accumulator().update(predicted(joints=guess), targets_3d(joints()), ["a", "b", "c", "d"])
    assert "a ... d" in caught.value.__notes__[0]


def test_labels_without_their_mask_are_refused():
    with pytest.raises(ValueError, match="joints_valid"):
        per_sample(predicted(joints=joints()), HandTargets(joints=joints()))


def test_only_what_is_produced_is_measured():
    labels = targets_3d(joints())
    assert per_sample(HandPrediction(mask=torch.zeros(4, 8, 8)), labels) == {}
    assert set(per_sample(predicted(joints=joints()), labels)) == {"mpjpe", "pa_mpjpe", "auc"}


def test_batches_and_processes_do_not_change_the_summary():
    target, guess = joints(10), joints(10, seed=9)
    labels, prediction = targets_3d(target), predicted(joints=guess)
    keys = [f"s{i}" for i in range(10)]
    whole, parts, second = Accumulator(), Accumulator(), Accumulator()
    whole.update(prediction, labels, keys)
    parts.update(prediction[:3], labels[:3], keys[:3])
    second.update(prediction[3:], labels[3:], keys[3:])
    parts.merge(second)
    assert parts.summary() == pytest.approx(whole.summary()) and len(parts) == 10
    assert dict(parts.worst("pa_mpjpe", 3)) == pytest.approx(dict(whole.worst("pa_mpjpe", 3)))
    worst = whole.worst("pa_mpjpe", 10)
    assert worst[0][1] == max(v for _, v in worst)
    assert whole.worst("auc", 1)[0][1] == whole.values()["auc"].min()
    with pytest.raises(KeyError, match="pa_mpjpe"):
        whole.worst("pa_mpvpe")


def test_agrees_with_freihands_own_program():
    """24 invented samples scored by FreiHAND's eval.py, which aligns with reflections and prints centimetres."""
    data = {name: torch.from_numpy(values) for name, values in freihand_files.arrays().items()}
    count = len(data["joints"])
    hand, valid = torch.full((count,), HAND), torch.ones(count, 21, dtype=torch.bool)
    labels = HandTargets(data["joints"], valid, vertices=data["vertices"], vertices_valid=valid[:, 0], hand=hand)
    scores = Accumulator(allow_reflection=True)
    scores.update(predicted(joints=data["joints_predicted"], vertices=data["vertices_predicted"]), labels)
    summary = scores.summary()
    official = {n: float(v) for n, v in (line.split(": ") for line in freihand_files.official_lines())}
    in_mm = {"pa_mpjpe": "xyz_al_mean3d", "pa_mpvpe": "mesh_al_mean3d", "mpvpe": "mesh_mean3d"}
    assert {n: summary[n] for n in in_mm} == pytest.approx({n: 10 * official[o] for n, o in in_mm.items()}, abs=1e-5)
    shares = {"auc": "xyz_al_auc3d", "f@5": "f_al_score_5", "f@15": "f_al_score_15"}
    assert {n: summary[n] for n in shares} == pytest.approx({n: official[o] for n, o in shares.items()}, abs=1e-6)


def test_half_precision_predictions_are_measured_in_float32():
    target = joints().float()
    values = per_sample(predicted(joints=target.bfloat16()), targets_3d(target))
    assert values["pa_mpjpe"].dtype == torch.float32
