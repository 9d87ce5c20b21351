"""hand-evaluate's parts: photo frames, official files scored from disk, augmentation, generalisation, the report."""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from helpers import dataset_fixtures
from helpers.remeshed_hand import remeshed
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandBatch, HandInputs, HandPrediction, HandTargets
from mesh_graphormer_hand.data.base import HandDataset
from mesh_graphormer_hand.evaluation import predictions, report, tta
from mesh_graphormer_hand.evaluation.evaluate import evaluate
from mesh_graphormer_hand.evaluation.hand_mapping import map_predictors_to_hand
from mesh_graphormer_hand.evaluation.run import export_and_score
from mesh_graphormer_hand.evaluation.text import collect_notes, official_lines
from mesh_graphormer_hand.evaluation.tta import (
    ROTATIONS_DEG,
    SCALES_OF_CROP,
    VIEWS,
    augmented_view,
)
from mesh_graphormer_hand.geometry.crops import apply_affine, compose_affine, crop_affine, homogeneous, mirror_affine
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano import hand as hands
from mesh_graphormer_hand.mano.layer import skin, skin_tensors
from mesh_graphormer_hand.mano.template import hand_template, joint_regressor
from mesh_graphormer_hand.metrics import breakdown, fingertips
from mesh_graphormer_hand.metrics.predictions import Predictions
from mesh_graphormer_hand.metrics.protocols import dexycb, ho3d
from mesh_graphormer_hand.metrics.protocols.base import ScoreError
from mesh_graphormer_hand.skeleton import FINGERTIPS, PERMUTATIONS, TIPS

SIZE = 32  # px
COUNT = 5


@pytest.fixture(scope="module")
def hand() -> hands.Hand:
    return hands.load("open")


class Photos(HandDataset):
    """Five hands in photos of 100 px, every other one a left hand; `broken` ones are left out."""

    def __init__(
        self, hand: hands.Hand, broken: tuple[int, ...] = (), protocol: str = "", root: Path | None = None
    ) -> None:
        self.hand, self.broken, self.protocol, self.root = hand.fingerprint, broken, protocol, root
        generator = torch.Generator().manual_seed(0)
        pose = 0.3 * torch.randn(COUNT, 16, 3, generator=generator)
        vertices, _ = skin(skin_tensors(hand), axis_angle_to_matrix(pose), torch.zeros(COUNT, 10))
        joints = joint_regressor(hand).float() @ vertices
        self.left = torch.arange(COUNT) % 2 == 1
        mirror = torch.ones(COUNT, 1, 3)
        mirror[self.left, :, 0] = -1.0
        root = torch.tensor([0.03, -0.02, 0.6]) * mirror[:, 0]  # m, as the network sees it: mirrored for left hands
        self.photo_joints = (joints - joints[:, :1] + root[:, None]) * mirror  # in the photos
        self.photo_vertices = (vertices - joints[:, :1] + root[:, None]) * mirror
        k = torch.tensor([[120.0, 0, 50], [0, 120, 48], [0, 0, 1]])
        self.photo_px = (self.photo_joints @ k.T)[..., :2] / self.photo_joints[..., 2:]
        place = crop_affine(torch.tensor([50.0, 50.0]), torch.tensor(80.0), SIZE)
        self.place = torch.stack([compose_affine(place, mirror_affine(SIZE, place)) if x else place for x in self.left])
        crop_from_photo = torch.linalg.inv(homogeneous(self.place))
        self.k = crop_from_photo @ k * mirror
        self.truth = HandTargets(
            joints=joints - joints[:, :1],
            joints_valid=torch.ones(COUNT, 21, dtype=torch.bool),
            joints_2d=apply_affine(self.photo_px, crop_from_photo[:, :2]),
            joints_2d_valid=torch.ones(COUNT, 21, dtype=torch.bool),
            vertices=vertices - joints[:, :1],
            vertices_valid=torch.ones(COUNT, dtype=torch.bool),
            root=root,
            root_valid=torch.ones(COUNT, dtype=torch.bool),
            crop_size=torch.full((COUNT,), float(SIZE)),
            is_left=self.left,
            hand=torch.full((COUNT,), hand.fingerprint),
        )

    def __len__(self) -> int:
        return COUNT

    def load(self, indices, device="cpu") -> HandBatch:
        rows = torch.tensor([i for i in indices if i not in self.broken], dtype=torch.int64)
        images = torch.zeros(len(rows), 3, SIZE, SIZE) + rows[:, None, None, None] / COUNT
        inputs = HandInputs(image=images, intrinsics=self.k[rows], intrinsics_valid=torch.ones(len(rows)).bool())
        keys = [f"evaluation/{i:08d}" for i in rows.tolist()]
        left_out = tuple(f"sample {i}: broken" for i in indices if i in self.broken)
        return HandBatch(inputs, self.truth[rows], keys, self.place[rows], left_out)

    def know_all(self, inputs: HandInputs) -> HandPrediction:
        """The truth, with the weak-perspective camera that puts the wrist where it is."""
        rows = (inputs.image[:, 0, 0, 0] * COUNT).round().long()
        truth, k = self.truth[rows], inputs.intrinsics
        depth = truth.root[:, 2:]
        wrist = (k @ truth.root[..., None])[:, :2, 0] / depth
        scale = (k[:, 0, 0] * k[:, 1, 1]).sqrt()[:, None] / depth / (SIZE / 2)
        camera = torch.cat([scale, (wrist / SIZE * 2 - 1) / scale], 1)
        return HandPrediction(
            truth.joints, vertices=truth.vertices, joints_2d=truth.joints_2d, camera=camera, hand=truth.hand
        )


def watched(photos: Photos, predict) -> tuple[predictions.Collector, dict]:
    collector = predictions.Collector(("model",), vertices=True, total=len(photos))
    scores = evaluate({"model": predict}, photos, batch_size=2, watch=collector, progress=False)
    return collector, scores


def labels_as_freihand(photos: Photos, folder) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, points in (("xyz", photos.photo_joints), ("verts", photos.photo_vertices)):
        (folder / f"evaluation_{name}.json").write_text(json.dumps(points.double().tolist()))


def test_predictions_are_exported_in_the_photos_frame(hand, tmp_path):
    """Mirror, crop and camera undone: left hands lie where the photo has them, in metres and in pixels."""
    photos = Photos(hand)
    collector, _ = watched(photos, photos.know_all)
    predicted = collector.predictions["model"]
    assert collector.placed
    assert np.abs(predicted.joined("joints") - photos.photo_joints.numpy()).max() < 1e-5
    assert np.abs(predicted.joined("vertices") - photos.photo_vertices.numpy()).max() < 1e-5
    assert np.abs(predicted.joined("joints_px") - photos.photo_px.numpy()).max() < 1e-3
    predicted.joints_px = [px + np.float32([3, 4]) for px in predicted.joints_px]
    in_pixels = predictions.keypoint_scores_2d(collector)["model"]
    assert in_pixels.official["epe"] == pytest.approx(5, abs=1e-3), "px of the photo, 2.5 times those of the crop"


def test_official_file_is_scored_from_disk_and_zipped(hand, tmp_path):
    photos = Photos(hand, protocol="freihand", root=tmp_path / "root")
    labels_as_freihand(photos, photos.root)
    collector, _ = watched(photos, photos.know_all)
    official = export_and_score(photos, collector, tmp_path / "out", print)
    scores = official["model"].official
    assert scores["xyz_mean3d"] < 1e-3 and scores["mesh_al_mean3d"] < 1e-3 and scores["f_score_5"] == 1  # cm
    with zipfile.ZipFile(tmp_path / "out" / "pred.zip") as archive:
        assert archive.namelist() == ["pred.json"]
        xyz, vertices = json.loads(archive.read("pred.json"))
    assert np.shape(xyz) == (COUNT, 21, 3) and np.shape(vertices) == (COUNT, 778, 3)


def test_scores_of_the_file_equal_the_live_ones(hand, tmp_path):
    """Exported and read back, the aligned errors are those of the running evaluation."""
    photos = Photos(hand, protocol="freihand", root=tmp_path / "root")
    labels_as_freihand(photos, photos.root)

    def wobble(inputs):
        exact = photos.know_all(inputs)
        noise = 0.01 * torch.randn(exact.vertices.shape, generator=torch.Generator().manual_seed(len(inputs.image)))
        vertices = exact.vertices + noise
        joints = joint_regressor(hand).float() @ vertices
        return replace(exact, vertices=vertices - joints[:, :1], joints=joints - joints[:, :1])

    collector, scores = watched(photos, wobble)
    official = export_and_score(photos, collector, tmp_path / "out", print)
    live = scores["model"].summary()
    assert 10 * official["model"].extra["xyz_al_proper_mean3d"] == pytest.approx(live["pa_mpjpe"], abs=2e-3)
    assert 10 * official["model"].extra["mesh_al_proper_mean3d"] == pytest.approx(live["pa_mpvpe"], abs=2e-3)


def test_what_was_left_out_is_null_in_the_file_and_named(hand, tmp_path, capsys):
    photos = Photos(hand, (1, 2, 3), "freihand", tmp_path / "root")
    labels_as_freihand(photos, photos.root)
    collector, _ = watched(photos, photos.know_all)
    official = export_and_score(photos, collector, tmp_path / "out", print)
    assert official["model"].counts["samples"] == 2 and not (tmp_path / "out" / "pred.zip").exists()
    assert json.loads((tmp_path / "out" / "pred.json").read_text())[0][1] is None
    print(*official_lines(official, collect_notes(collector, official), collector.left_out), sep="\n")
    said = capsys.readouterr().out
    assert "3 broken samples were left out" in said and "left out: sample 3: broken" in said


def test_frames_without_a_hand_are_counted_by_reason_not_listed(hand, capsys):
    """DexYCB has tens of thousands of them."""
    photos = Photos(hand)
    collector, _ = watched(photos, photos.know_all)
    why = ("no hand is labelled in this frame",) * 2 + ("the hand is gone",)
    passed = tuple(f"set, sample {i}: a/{i}: {reason}" for i, reason in enumerate(why))
    collector({}, HandBatch(HandInputs(), HandTargets(), no_hand=passed))
    print(*official_lines({}, collect_notes(collector, {}), collector.left_out), sep="\n")
    said = capsys.readouterr().out
    assert "2 samples without a hand were passed over: no hand is labelled in this frame" in said
    assert "1 samples without a hand were passed over: the hand is gone" in said and "a/1" not in said


def test_other_data_sets_get_a_table_by_sample(hand, tmp_path):
    photos = Photos(hand, protocol="hand3d")
    collector, _ = watched(photos, photos.know_all)
    exported = predictions.export(tmp_path, photos, collector.predictions["model"])
    assert exported.official is None, "nothing to score it with"
    table = json.loads(exported.path.read_text())
    assert list(table) == [f"evaluation/{i:08d}" for i in range(COUNT)]
    assert np.abs(np.array(table["evaluation/00000003"]["joints_m"]) - photos.photo_joints[3].numpy()).max() < 1e-5


def test_ho3d_is_written_in_its_own_axes_and_order(hand, tmp_path):
    photos = Photos(hand, protocol="ho3d", root=tmp_path)
    collector, _ = watched(photos, photos.know_all)
    predicted = collector.predictions["model"]
    stems = [key.removeprefix("evaluation/") for key in predicted.keys]
    (tmp_path / "evaluation.txt").write_text("\n".join(stems))
    path = predictions.export(tmp_path, photos, predicted).path
    xyz, vertices = (np.array(part) for part in json.loads(path.read_text()))
    assert (vertices[..., 2] < 0).all()
    middle_mcp = photos.photo_joints[:, 9].numpy() * [1, -1, -1]
    assert np.abs(xyz[:, 4] - middle_mcp).max() < 1e-5
    own, tips = np.argsort(PERMUTATIONS["mano"]), vertices[:, FINGERTIPS["freihand"]]
    labelled = fingertips.convert(xyz[:, np.argsort(own)], vertices, "freihand")[:, own]
    for name, points in (("xyz", labelled), ("verts", vertices)):
        (tmp_path / f"evaluation_{name}.json").write_text(json.dumps(points.tolist()))
    path = predictions.export(tmp_path, photos, predicted).path
    converted = np.array(json.loads(path.read_text())[0])
    assert np.abs(converted[:, own.argsort()][:, TIPS] - tips).max() < 1e-5 < np.abs(converted - xyz).max()


def test_ho3d_answers_keep_their_places_when_some_are_left_out(tmp_path):
    (tmp_path / "evaluation.txt").write_text("SM1/0000\nSM1/0001\nSM1/0002\n")
    keys = ["evaluation/SM1/0002", "evaluation/SM1/0000"]
    assert ho3d.official_positions(keys, tmp_path) == [2, 0]
    assert ho3d.official_positions([*keys, "evaluation/AP1/0000"], tmp_path) is None


def test_without_intrinsics_hands_stand_at_the_origin_and_it_is_told(hand):
    photos = Photos(hand)
    batch = photos.load([0, 1])
    prediction = photos.know_all(batch.inputs)
    blind = replace(batch, inputs=replace(batch.inputs, intrinsics=None))
    found, placed = predictions.in_photo(prediction, blind)
    assert not placed and found["joints"][:, 0].abs().max() == 0


def truth_of(batch: HandBatch) -> HandPrediction:
    """The labels of a batch as a prediction, with the camera that puts the wrist where it is."""
    truth, k = batch.targets, batch.inputs.intrinsics
    size, known = batch.inputs.image.shape[-1], batch.inputs.intrinsics_valid & truth.root_valid
    root = torch.where(known[:, None], truth.root, torch.tensor([0.0, 0, 1]))
    k = torch.where(known[:, None, None], k, torch.eye(3))
    scale = (k[:, 0, 0] * k[:, 1, 1]).sqrt()[:, None] / root[:, 2:] / (size / 2)
    wrist = (k @ root[..., None])[:, :2, 0] / root[:, 2:]
    camera = torch.cat([scale, (wrist / size * 2 - 1) / scale], 1)
    return HandPrediction(joints=truth.joints, joints_2d=truth.joints_2d, camera=camera)


PERFECT = {
    "interhand26m": {"mpjpe_all": 0, "mpjpe_single": 0, "mpjpe_interacting": 0, "mrrpe": 0},
    "rhd": {"epe_mean": 0, "auc_20_50": 1, "epe_2d_mean": 0},
    "hint": {"pck@0.05_all": 1},
    "dexycb": {"absolute_mpjpe": 0, "root_relative_mpjpe": 0, "procrustes_mpjpe": 0, "procrustes_auc": 1},
}


def scored_labels(data, hand, tmp_path, **options):
    """The labels of a miniature, exported as predictions and scored; the collector has the notes."""
    getattr(dataset_fixtures, f"write_{data}")(tmp_path)
    raw = {"root": str(tmp_path)} | dataset_fixtures.OPTIONS.get(data, {}) | options
    dataset = assembly.build_dataset(data, raw, "test", hand, 64)
    batch = dataset.load(list(range(len(dataset))))
    collector = predictions.Collector(("model",), vertices=False, total=len(dataset))
    collector({"model": truth_of(batch)}, batch)
    return export_and_score(dataset, collector, tmp_path / "out", print), collector


@pytest.mark.parametrize("data", PERFECT)
def test_labels_as_predictions_are_perfect_under_the_official_protocol(data, hand, tmp_path):
    """Reader, export and protocol agree: left hands, two hands of a picture, orders, units and axes."""
    official, collector = scored_labels(data, hand, tmp_path)
    assert not collector.notes
    scores = official["model"].official
    assert {name: scores[name] for name in PERFECT[data]} == pytest.approx(PERFECT[data], abs=2e-2)


@pytest.mark.parametrize(
    ("options", "share"),
    [({"hand_types": ["interacting"]}, "2 of 4"), ({"sides": ["right"]}, "2 of 4"), ({"ids": "IDS"}, "1 of 4")],
)
def test_interhand_is_scored_on_what_was_asked_for(hand, tmp_path, options, share):
    """Hand types, sides and lists of ids are answered in part: official scores of these, and their share."""
    if "ids" in options:
        (tmp_path / "ids.txt").write_text("501\n")
        options = {"ids": str(tmp_path / "ids.txt")}
    official, collector = scored_labels("interhand26m", hand, tmp_path, **options)
    scores = official["model"]
    assert scores.official["mpjpe_all"] == pytest.approx(0, abs=2e-2) and not collector.notes
    assert any(f"{share} labelled hands" in note for note in scores.notes)
    assert any("no handedness_accuracy" in note for note in scores.notes)


@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        ("rhd", {"hands": "all"}, "hands=all: the protocol is about the dominant hand"),
        ("interhand26m", {"split_by": "sample"}, "split_by=sample: .* the data set's own splits"),
    ],
)
def test_why_there_are_no_official_scores_is_told(hand, tmp_path, data, options, why):
    official, collector = scored_labels(data, hand, tmp_path, **options)
    assert not official
    (note,) = collect_notes(collector, official)
    assert re.search(f"no official scores: {why}", note)


def test_two_hands_meshes_are_written_and_scored(hand, tmp_path):
    """Labels as predictions are perfect by both rules; a vertex of left hands that is off is seen where it belongs."""
    from mesh_graphormer_hand.evaluation.two_hands import TwoHands

    dataset_fixtures.write_interhand26m(tmp_path)
    dataset = assembly.build_dataset("interhand26m", {"root": str(tmp_path), "mano": "open"}, "test", hand, 64)
    batch = dataset.load(list(range(len(dataset))))
    exact = replace(truth_of(batch), vertices=batch.targets.vertices)
    bent = exact.vertices.clone()
    unused = int((joint_regressor(hand) == 0).all(0).nonzero()[0])  # no joint comes from it
    bent[batch.targets.is_left, unused] += torch.tensor([0.778, 0, 0])  # m: of 778 vertices, 1 mm in the mean
    pairs = TwoHands(dataset, ("model", "bent", "blind"))
    pairs({"model": exact, "bent": replace(exact, vertices=bent), "blind": truth_of(batch)}, batch)
    scores = {name: found.official for name, found in pairs.scores(tmp_path / "out").items()}
    assert set(scores) == {f"{who}, {rules}" for who in ("model", "bent") for rules in ("intaghand", "interwild")}
    assert max(scores["model, intaghand"].values()) < 1e-3  # mm
    assert scores["model, interwild"]["mpvpe_all"] < 1e-3
    assert max(scores["model, interwild"].values()) < 0.6, "labelled joints are not quite those regressed from a mesh"
    intaghand, interwild = scores["bent, intaghand"], scores["bent, interwild"]
    assert intaghand["vert_left"] == pytest.approx(1, abs=0.05) and intaghand["vert_right"] < 1e-3
    assert [interwild[f"mpvpe_{kind}"] for kind in ("single", "interacting")] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert pairs.notes == ["no scores of two hands: blind gives no mesh of the labels' hand"]
    with pytest.raises(ConfigError, match="MANO_NeuralAnnot"):
        TwoHands(Photos(hand), ("model",))


def test_without_3d_there_is_no_submission_and_it_is_told(hand, tmp_path):
    photos = Photos(hand, protocol="freihand", root=tmp_path / "root")
    labels_as_freihand(photos, photos.root)
    collector, _ = watched(photos, lambda inputs: replace(photos.know_all(inputs), joints=None, vertices=None))
    assert not export_and_score(photos, collector, tmp_path / "out", print)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["predictions.json"]
    assert "no official scores: a pred.json holds 3D joints" in collector.notes[0]


def test_a_smaller_dexycb_is_scored_as_such(hand, tmp_path):
    official, _ = scored_labels("dexycb", hand, tmp_path)
    assert any("5 sequences of each subject instead of 100" in note for note in official["model"].notes)


def test_frames_that_a_split_does_not_count_are_told(hand, tmp_path):
    dataset_fixtures.write_dexycb(tmp_path)
    everybody = Predictions(["nobody/here/0/0"], [np.zeros((1, 21, 3))])
    with pytest.raises(ScoreError, match="the split is defined for 100"):
        dexycb.write(everybody, tmp_path, tmp_path, dexycb.Config())
    with pytest.raises(ScoreError, match="frame nobody/here/0/0 is not in the folders that the split .* counts"):
        dexycb.write(everybody, tmp_path, tmp_path, dexycb.Config(sequences=5))


# --- another hand than the labels'


def test_without_a_map_3d_is_taken_out_and_the_remedy_told(hand, monkeypatch, tmp_path):
    photos = Photos(hand)
    predictors, notes = map_predictors_to_hand({"model": photos.know_all}, photos, fingerprint=12345)
    prediction = predictors["model"](photos.load([0]).inputs)
    assert prediction.vertices is None and prediction.joints is None and prediction.joints_2d is not None
    assert "register_hand.py" in notes[0]
    same = {"model": photos.know_all}
    assert map_predictors_to_hand(same, photos, photos.hand) == (same, [])


def test_with_a_map_predictions_are_said_of_the_labels_hand(hand, monkeypatch):
    from mesh_graphormer_hand.mano.registration import fit as registration_fit
    from mesh_graphormer_hand.mano.registration import map as registration

    other = remeshed(hand)
    surface = registration_fit._surface_map(other.v_template.astype(float), hand.v_template.astype(float), hand.faces)
    to_other = registration_fit._hand_map(hand, other, surface, np.eye(21))
    monkeypatch.setattr(registration, "find", lambda *_: to_other)
    photos = Photos(other)
    predictors, notes = map_predictors_to_hand({"model": Photos(hand).know_all}, photos, hand.fingerprint)
    scores = evaluate(predictors, photos, progress=False)["model"].summary()
    assert scores["mpvpe"] < 1 and scores["pa_mpjpe"] < 1 and "registered map" in notes[0]


# --- test-time augmentation


def test_the_published_views():
    assert (
        VIEWS == 95
        and SCALES_OF_CROP == (0.7, 0.8, 0.9, 1.0, 1.1)
        and sorted(ROTATIONS_DEG) == [10.0 * k for k in range(-9, 10)]
    )


def test_a_view_is_the_crop_moved_as_its_map_says():
    """A bright dot lands where old_from_new says, and intrinsics project the turned points onto it."""
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, :, 8:10, 20:22] = 1.0  # around (21, 9)
    k = torch.tensor([[[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]])
    seen, old_from_new = augmented_view(HandInputs(image=image, intrinsics=k), 0.8, 30.0)
    at = torch.nonzero(seen.image[0, 0] > 0.5).float().mean(0).flip(0) + 0.5
    assert_close(apply_affine(at[None], old_from_new[0])[0], torch.tensor([21.0, 9.0]), atol=0.5, rtol=0)
    point = torch.linalg.inv(k[0]) @ torch.tensor([21.0, 9.0, 1.0])
    angle = torch.deg2rad(torch.tensor(30.0))
    turn = torch.tensor([[angle.cos(), -angle.sin(), 0], [angle.sin(), angle.cos(), 0], [0, 0, 1]])
    pixel = seen.intrinsics[0] @ turn @ point
    assert_close(apply_affine((pixel[:2] / pixel[2])[None], old_from_new[0])[0], torch.tensor([21.0, 9.0]))


def test_averaging_turns_answers_back_and_lowers_noise(hand):
    """A predictor that turns with the picture, with noise: the mean is nearer the truth, wrist at the origin."""
    photos = Photos(hand)
    batch = photos.load([0, 1])
    truth = photos.truth[torch.tensor([0, 1])]
    calls = []

    def noisy(inputs):
        calls.append(1)
        generator = torch.Generator().manual_seed(len(calls))
        angle = torch.rand(1, generator=generator) * 2 - 1
        turn = axis_angle_to_matrix(torch.tensor([[0.0, 0, 1]]) * angle)[0]
        vertices = truth.vertices @ turn.T + 0.01 * torch.randn(truth.vertices.shape, generator=generator)
        joints = truth.joints @ turn.T + 0.01 * torch.randn(truth.joints.shape, generator=generator)
        return HandPrediction(joints=joints - joints[:, :1], vertices=vertices, hand=truth.hand)

    averaged = tta.TestTimeAugmentation(noisy, scales=(0.9, 1.0), rotations=(0.0, 10.0, -10.0)).eval()
    from mesh_graphormer_hand.metrics import per_sample

    first = per_sample(noisy(batch.inputs), truth)
    mean = averaged(batch.inputs)
    assert len(calls) == 8 and mean.joints[:, 0].abs().max() < 1e-7
    better = per_sample(mean, truth)
    for name in ("pa_mpjpe", "pa_mpvpe"):
        assert better[name].mean() < 0.7 * first[name].mean()


def test_projected_joints_come_back_through_the_maps(hand):
    photos = Photos(hand)
    inputs = photos.load([0]).inputs
    fixed = torch.tensor([[[10.0, 20.0]] * 21])

    def follow(seen):  # a detector that is right in every view
        from mesh_graphormer_hand.geometry.crops import invert_affine

        return HandPrediction(joints_2d=apply_affine(fixed, invert_affine(maps.pop(0))) if maps else fixed)

    views = [(s, t) for s in (0.7, 1.1) for t in (0.0, 40.0)]
    maps = [augmented_view(inputs, s, t)[1] for s, t in views]
    first = [True]

    def plain_first(seen):
        return HandPrediction(joints_2d=fixed) if first and first.pop() else follow(seen)

    assert_close(
        tta.TestTimeAugmentation(plain_first, (0.7, 1.1), (0.0, 40.0))(inputs).joints_2d, fixed, atol=1e-4, rtol=0
    )


# --- generalisation


def test_views_of_a_right_hand(hand):
    """At rest the palm looks towards -y, fingers towards -x: turned to the camera (which looks along +z), away from it,
    edge on, fingers first."""
    names, degrees = ("palm", "back", "edge", "fingers"), ([90.0, 0, 0], [-90.0, 0, 0], [0.0, 0, 0], [0.0, 90, 0])
    turns = axis_angle_to_matrix(torch.deg2rad(torch.tensor(degrees)))
    palm, fingers = (turns @ torch.tensor(v) for v in ([0.0, -1, 0], [-1.0, 0, 0]))
    assert palm[0, 2] < -0.99 and palm[1, 2] > 0.99 and abs(palm[2, 2]) < 0.01 and abs(fingers[3, 2]) > 0.99
    joints = hand_template(hand).joints @ turns.transpose(-1, -2)
    view = breakdown.attributes(HandTargets(joints=joints, joints_valid=torch.ones(4, 21, dtype=torch.bool)))["view"]
    assert tuple(breakdown.BINS["view"][0][int(v)] for v in view) == names


def test_visible_skin_and_size_are_sorted_into_bins(hand):
    valid = torch.ones(4, 21, dtype=torch.bool)
    visible = valid.clone()
    visible[0, :15], visible[1, :8] = False, False
    tone = torch.tensor([[0.02] * 3, [0.15] * 3, [0.6] * 3, [0.6] * 3])
    sh = torch.zeros(4, 9, 3)
    sh[:, 0] = 3.0
    joints_2d = torch.zeros(4, 21, 2)
    joints_2d[:, 1, 0] = torch.tensor([10.0, 50, 90, 90])
    targets = HandTargets(
        joints_2d=joints_2d,
        joints_2d_valid=valid,
        joints_visible=visible,
        crop_size=torch.full((4,), 100.0),
        skin_tone=tone,
        light_sh=sh,
        light_direction=torch.zeros(4, 3),
        light_colour=torch.tensor([[0.0] * 3, [0.5] * 3, [4.0] * 3, [0.0] * 3]),
        appearance_valid=torch.tensor([True, True, True, False]),
    )
    known = breakdown.attributes(targets)
    rows = breakdown.table({"error": torch.tensor([1.0, 2, 3, 5])}, known)
    assert rows["visible"]["few"] == {"samples": 1, "error": 1.0} and rows["visible"]["all"]["error"] == 4.0
    assert {b: row["error"] for b, row in rows["skin"].items()} == {"dark": 1.0, "medium": 2.0, "light": 3.0}
    assert {b: row["samples"] for b, row in rows["light"].items()} == {"soft": 1, "mixed": 1, "hard": 1}
    assert {b: row["samples"] for b, row in rows["size_in_crop"].items()} == {"small": 1, "medium": 1, "large": 2}
    assert "view" not in rows


def test_thirds_of_what_is_all_the_same_say_nothing():
    """An attribute without limits of its own is left out where all samples have one value; one with limits is not."""
    values, same = {"error": torch.tensor([1.0, 2, 3])}, torch.full((3,), 70.0)
    rows = breakdown.table(values, {"hand_size": same, "exposure": torch.tensor([0.1, 0.2, 0.3]), "skin": same})
    assert rows.keys() == {"exposure", "skin"} and len(rows["exposure"]) == 3
    assert rows["skin"] == {"light": {"samples": 3, "error": 2.0}}


# --- the report


def test_report_holds_everything_in_one_file(hand, tmp_path):
    photos = Photos(hand, (1,), "freihand", tmp_path / "root")
    labels_as_freihand(photos, photos.root)
    collector, scores = watched(photos, photos.know_all)
    official = export_and_score(photos, collector, tmp_path / "out", print)
    evaluation = report.Evaluation("toy on <freihand>", "the table", scores, official, ["a note"], collector.left_out)
    evaluation.gallery = report.worst(photos, scores["model"], photos.know_all, hand_template(hand), "cpu", left_out=1)
    assert len(evaluation.gallery) == 4 and "00000004" in "".join(caption for caption, _ in evaluation.gallery)
    page = report.write(tmp_path / "out", evaluation).read_text()
    assert "toy on &lt;freihand&gt;" in page and "sample 1: broken" in page and "a note" in page
    assert page.count("data:image/jpeg;base64,") == 4 and "data:image/png;base64," in page and "http" not in page
    assert "xyz_al_mean3d" in page and "by view" in page
    rows = (tmp_path / "out" / "per_joint.csv").read_text().splitlines()
    assert len(rows) == 22 and rows[1].startswith("wrist,")
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
