"""Labels that cannot be true, one by one: each kind is told with its cause, and hands as they are pass."""

import logging
import re

import numpy as np
import pytest

from helpers.dataset_fixtures import camera, make_hand
from mesh_graphormer_hand.data.readers import plausibility

SIZE = (400, 300)
K = camera(450, *SIZE)
HAND = make_hand(3, "right", K, (180, 150), 0.6)
WHOLE = {"points": HAND.points, "joints": HAND.joints, "K": K, "box": np.array([60.0, 40, 300, 260])}


def without(values: np.ndarray, joint: int, value: float) -> np.ndarray:
    return np.where(np.arange(21)[:, None] == joint, value, values)


def test_hands_as_they_are_pass():
    for own in (True, False):
        assert plausibility.find(**WHOLE, size=SIZE, own=own) is None
        half = without(HAND.joints, 4, np.nan), without(HAND.points, 4, np.nan)
        assert plausibility.find(joints=half[0], points=half[1], K=K, size=SIZE, own=own) is None
    assert plausibility.of_vertices(HAND.vertices, HAND.joints) is None
    assert plausibility.find(joints=HAND.joints - HAND.joints[0], relative=True) is None
    edge = HAND.points + [400 - 180, 0]  # about half of the hand is seen
    assert plausibility.find(points=edge, size=SIZE) is None


WRONG = {
    "mm": ({"joints": HAND.joints * 1000}, "millimetres"),
    "cm": ({"joints": HAND.joints * 100}, "centimetres"),
    "tiny": ({"joints": HAND.joints / 1000}, "another unit"),
    "opengl": ({"joints": HAND.joints * [1, -1, -1]}, "OpenGL"),
    "relative": ({"joints": HAND.joints - HAND.joints[0], "K": K}, "relative to the wrist"),
    "one behind": ({"joints": without(HAND.joints, 7, -0.6)}, "joint 7 lies behind the camera"),
    "one far": ({"joints": HAND.joints + without(np.zeros((21, 3)), 7, 0.5)}, "joint [78] lies .* no hand has"),
    "zero": ({"points": without(HAND.points, 7, 0)}, r"joint 7 of the 2D joints is \(0, 0\).*missing"),
    "minus one": ({"points": without(HAND.points, 0, -1)}, r"joint 0 .* \(-1, -1\).*missing"),
    "zero in 3D": ({"joints": without(HAND.joints, 7, 0)}, r"joint 7 of the 3D joints is \(0, 0, 0\)"),
    "shares": ({"points": HAND.points / SIZE}, r"0\.\.1"),
    "box of shares": ({"box": np.array([0.1, 0.1, 0.7, 0.8])}, r"the box lies in 0\.\.1"),
    "larger picture": ({"points": HAND.points * 8}, "of another resolution"),
    "twice the picture": ({"points": HAND.points * 2.2}, "mostly outside .* another resolution"),
    "transposed": ({"K": K.T}, "K is transposed"),
    "normalised": ({"K": K / [[400], [300], [1]]}, "K is normalised"),
    "K of the original": ({"K": K * [[2], [2], [1]]}, "middle of an image 1.99 times as large"),
    "K of a thumbnail": ({"K": K / [[4], [4], [1]]}, "middle of an image 0.2.* times as large"),
    "K of others": ({"K": K * [[2], [2], [1]], "points": HAND.points, "joints": HAND.joints}, "another image size"),
    "other hand": ({"points": HAND.points + [90, 30], "joints": HAND.joints, "K": K}, "do not belong together"),
    "x, y, w, h": ({"points": HAND.points, "box": np.array([250.0, 200, 330, 280])}, "does not hold the joints"),
}


@pytest.mark.parametrize("what", WRONG)
def test_each_kind_is_told_with_its_cause(what):
    labels, cause = WRONG[what]
    problem = plausibility.find(**labels, size=SIZE, own=True)
    assert problem is not None and re.search(cause, problem.message)


def test_meshes_sizes_and_parameters():
    assert "another unit" in plausibility.of_vertices(HAND.vertices * 1000, HAND.joints).message
    assert "other axes" in plausibility.of_vertices(HAND.vertices * [1, -1, -1], HAND.joints).message
    assert "400 x 300 px, this one has 300 x 400 (turned" in plausibility.of_size((400, 300), (300, 400)).message
    assert plausibility.of_size((400, 300), (400, 300)) is None
    assert "the fit's joints lie 0.1 m" in plausibility.of_fit(HAND.joints + [0.1, 0, 0], HAND.joints).message
    assert plausibility.of_fit(HAND.joints + 0.01, HAND.joints) is None
    assert "rad" in plausibility.of_parameters(np.full((16, 3), 90.0), None).message
    assert "standard deviations" in plausibility.of_parameters(None, np.full(10, 500.0)).message


def test_a_camera_beside_its_photo_is_told_once(caplog):
    """The predictor answers as if it were right: the photo may be a cut; and says what it looks like."""
    wrong = np.array([[1800.0, 0, 800], [0, 1800, 600], [0, 0, 1]])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert plausibility.told_camera(wrong, SIZE) is wrong
    assert caplog.text.count("is the middle of an image 4 times as large") == 1
    with caplog.at_level(logging.WARNING):
        plausibility.told_camera(np.array([[900.0, 0, 500], [0, 900, 140], [0, 0, 1]]), SIZE)
    assert "the principal point (500, 140) of K lies outside the photo of 400 x 300 px" in caplog.text
    caplog.clear()
    plausibility.told_camera(K, SIZE)
    assert not caplog.text
