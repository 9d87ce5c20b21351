"""Sides and confidence: what the model and the detector say together, of photos, by the default detector, in videos."""

import math

import numpy as np
import pytest

from helpers.places import ROOT
from helpers.two_dots import Finder, Judge, TwoDots, photo
from mesh_graphormer_hand.inference import handedness
from mesh_graphormer_hand.inference.detectors import auto
from mesh_graphormer_hand.inference.detectors.base import Detection
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.inference.result import HandResult, confidence_of
from mesh_graphormer_hand.inference.tracker import MAX_DOUBTED_FRAMES, HandTracker

RED, GREEN = (130.0, 90.0), (210.0, 150.0)
BOX = np.float32([110, 70, 240, 170])
NOWHERE = np.float32([300, 20, 380, 90])


def probability(odds: float) -> float:
    return 1 / (1 + math.exp(-odds))


@pytest.fixture
def image():
    return photo(RED, GREEN, height=240, width=400, sigma=8)


def blue(image: np.ndarray, box: np.ndarray | None = None) -> np.ndarray:
    """The photo with no hand, or none in a box, to the model's eye."""
    image = image.copy()
    x0, y0, x1, y1 = (0, 0, *image.shape[1::-1]) if box is None else box.astype(int)
    image[y0:y1, x0:x1, 2] = 255
    return image


def test_the_model_tells_the_side_and_is_shown_it_the_right_way(image):
    """As it is shown, so that a mirrored photo is the mirrored answer; one pass more for the hands that were turned."""
    model = Judge()
    predictor = HandPredictor(model)
    right, _ = predictor.predict(image, [BOX, BOX + 3])
    assert model.looks == 1 and right.side == "right" and right.left_odds == pytest.approx(-3)
    mirrored = [np.float32([400 - b[2], b[1], 400 - b[0], b[3]]) for b in (BOX, BOX + 3)]
    left, other = predictor.predict(np.ascontiguousarray(image[:, ::-1]), mirrored)
    assert model.looks == 3 and left.side == other.side == "left" and left.left_odds == pytest.approx(3)
    assert left.side_score == right.side_score == pytest.approx(probability(3)) and not left.side_unsure
    np.testing.assert_allclose(left.joints, right.joints * [-1, 1, 1], atol=2e-3)
    np.testing.assert_allclose(left.joints_2d[0], [400 - RED[0], RED[1]], atol=0.7)


@pytest.mark.parametrize(
    ("said", "sure", "side", "odds", "looks"),
    [
        ("left", 0.9, "right", math.log(9) - 3, 2),  # shown mirrored first, overruled
        ("right", 0.9, "right", -math.log(9) - 3, 1),
        ("left", 0.99, "left", math.log(99) - 3, 2),  # not sure: looked at both ways
        ("left", None, "right", math.log(1.5) - 3, 2),
        (None, None, "right", -3, 1),
    ],
)
def test_model_and_detector_vote_together(image, said, sure, side, odds, looks):
    model = Judge()
    (hand,) = HandPredictor(model, detector=Finder(Detection(BOX, 0.9, said, sure))).predict(image)
    assert (hand.side, model.looks) == (side, looks)
    assert hand.side_score == pytest.approx(probability(abs(odds)), abs=1e-5)
    assert hand.side_unsure == (probability(abs(odds)) < 0.75)
    np.testing.assert_allclose(hand.joints_2d[0], RED, atol=0.7)


def test_the_callers_side_stands(image):
    predictor = HandPredictor(Judge(), detector=Finder(Detection(BOX, 0.9, "right", 0.9)))
    for hand in (*predictor.predict(image, sides=["left"]), *predictor.predict(image, [BOX], ["left"])):
        assert hand.side == "left" and hand.side_score is None and hand.left_odds == pytest.approx(-3)
    assert predictor.predict(image, [BOX])[0].side == "right"


def test_confidence_is_the_probability_of_a_hand():
    hand = HandResult("right", BOX, np.eye(3, dtype=np.float32), "toy", confidence=0.7)
    seen = HandResult("right", BOX, np.eye(3, dtype=np.float32), "toy", confidence=0.7, presence=0.9)
    assert confidence_of(seen, None) == 0.9 and confidence_of(hand, 0.4) == 0.7
    assert confidence_of(seen, 0.4) == 0.4 and confidence_of(seen, 1.0) == 0.9, "as sure as the less sure of two"


def finding(monkeypatch, model, *found: Detection) -> HandPredictor:
    """The default detector with a stand-in for the network."""
    monkeypatch.setattr(auto, "HandDetector", lambda *_: Finder(*found))
    return HandPredictor(model, detector=auto.Auto())


def test_detections_that_the_model_takes_for_no_hand_are_dropped(monkeypatch, image):
    doubtful = [Detection(NOWHERE, 0.95, least_presence=0.2), Detection(BOX, 0.5, least_presence=0.2)]
    image = blue(image, NOWHERE)
    (hand,) = finding(monkeypatch, Judge(), *doubtful).predict(image)
    assert hand.detector == "finder" and hand.detection.score == 0.5 and hand.believed
    assert hand.presence == pytest.approx(probability(4)) and hand.confidence == 0.5
    first, second = finding(monkeypatch, Judge(presence=1.0), *doubtful).predict(image)
    assert first.confidence > second.confidence, "the surest first"
    assert second.presence == pytest.approx(probability(-1)) and not second.believed, "doubted, not far below a half"
    assert len(finding(monkeypatch, TwoDots(), *doubtful).predict(image)) == 2, "a model that cannot say drops none"
    assert len(HandPredictor(Judge()).predict(blue(image), boxes=[BOX])) == 1, "a box is the caller's word"


@pytest.mark.parametrize(
    ("model", "found"), [(Judge(), 1), (Judge(presence=1.0), 0), (Judge(presence=-4.0), 0), (TwoDots(), 0)]
)
def test_the_whole_photo_counts_only_if_the_model_is_sure(monkeypatch, image, model, found):
    hands = finding(monkeypatch, model).predict(image)
    assert [h.detector for h in hands] == ["whole"] * found
    assert len(HandPredictor(model).predict(image)) == 1, "asked for by name it is always an answer"
    face = Detection(NOWHERE, 0.95, least_presence=0.2)
    hands = finding(monkeypatch, model, face).predict(blue(image, NOWHERE))
    if isinstance(model, Judge) and model.presence != 1.0 and found:
        assert [h.detector for h in hands] == ["whole"], "what was found is no hand"


def test_the_default_finds_the_hand_of_the_example():
    example = ROOT / "docs" / "example.jpg"
    (hand,) = HandPredictor.from_pretrained().predict(example)
    x, y = hand.joints_2d.mean(0)
    assert 120 < x < 370 and 120 < y < 410 and hand.confidence > 0.5 and hand.detector == "ours"


def tracker(model: TwoDots, *answer, **options) -> HandTracker:
    found = Finder(Detection(BOX, *(answer or (0.9,)), least_presence=0.2))
    return HandTracker(HandPredictor(model, detector=found), one_shape=False, smooth=False, **options)


def test_a_track_ends_when_the_model_stops_believing_in_it(image):
    """Though the detector goes on finding it; and none begins where it does not believe."""
    follow = tracker(Judge(64), every=5)
    shown = [image] * 6 + [blue(image)] * 30 + [image] * 6
    hands = [follow(frame, i / 30) for i, frame in enumerate(shown)]
    assert [len(h) for h in hands[:6]] == [1] * 6 and sum(map(len, hands[6:36])) == MAX_DOUBTED_FRAMES <= 5
    assert not any(h.believed for frame in hands[6:36] for h in frame)
    assert hands[-1][0].track == 1 and hands[-1][0].believed
    assert follow.detections < 20, "the detector still runs rarely"
    for model in (Judge(64), Judge(64, presence=0.5)):
        never = tracker(model)
        assert not any(never(blue(image), i / 30) for i in range(10))
    alone = tracker(TwoDots(64))
    assert alone(blue(image), 0.0), "a model that cannot say follows the detector"


def test_a_wrong_side_of_a_track_is_put_right_at_once(image):
    """The detector is wrong for ever, and the model's view changes: within five frames the track has its side."""
    follow = tracker(Judge(64), 0.9, "left", 0.7)
    hands = [follow(image, i / 30)[0] for i in range(4)]
    assert {h.side for h in hands} == {"right"} and hands[-1].side_score > 0.75
    model = follow.predictor.model
    model.side = -3.0
    sides = [follow(image, i / 30)[0].side for i in range(4, 12)]
    assert sides[0] == "right" and set(sides[5:]) == {"left"}
    model.side = 3.0
    assert follow(image, 0.5)[0].side == "left", "one frame turns nobody round"
    told = tracker(Judge(64), sides=["left"])
    assert [told(image, i / 30)[0].side for i in range(6)] == ["left"] * 6


def test_the_default_in_videos(monkeypatch, image):
    """Where ours finds nothing, the whole frame is followed if the model is sure, and a miss then ends nothing."""
    for model, count in ((Judge(64), 1), (Judge(64, presence=1.0), 0), (TwoDots(64), 0)):
        follow = HandTracker(finding(monkeypatch, model), one_shape=False, smooth=False, every=2)
        hands = [follow(image, i / 30) for i in range(12)]
        assert [len(h) for h in hands] == [count] * 12
        assert {(h.track, h.detector) for frame in hands for h in frame} == {(0, "whole")} if count else True


def test_odds_of_opinions():
    odds = handedness.side_log_odds
    assert odds(None, 0.9) == 0 and odds("left", 0.5) == 0
    assert odds("left", 0.9) == -odds("right", 0.9) == pytest.approx(math.log(9))
    assert odds("left", 1.0) < 5 and handedness.score(math.inf) == pytest.approx(1)
