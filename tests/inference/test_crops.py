"""A model's crop spec decides the squares that it sees, wherever they are cut: predictor, tracker, readers, frames."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from helpers.two_dots import TwoDots, photo
from mesh_graphormer_hand import assembly
from mesh_graphormer_hand.config import ConfigError, CropSpec, Experiment, parse
from mesh_graphormer_hand.inference.onnx import GraphConfig
from mesh_graphormer_hand.inference.predictor import HandPredictor
from mesh_graphormer_hand.inference.tracker import HandTracker
from mesh_graphormer_hand.mano import hand as hands

OPEN = hands.load("open")
BOX = np.float32([60, 50, 140, 110])


def test_one_margin_says_both():
    """The shipped 1.2 of a hand's box is 1.35 of its keypoints' box, and back."""
    assert CropSpec(1.2, "box").over("keypoints") == pytest.approx(1.35)
    assert CropSpec(1.35, "keypoints").over("box") == pytest.approx(1.2)
    assert CropSpec(1.3, "keypoints").over("keypoints") == 1.3
    for spec in ({"source": "keypoint"}, {"margin": 0}, {"margins": 2}):
        with pytest.raises(ConfigError, match="crop.*(keypoints|margin)"):
            parse(CropSpec, spec, where="crop")


@pytest.mark.parametrize("name", ["graphormer_lite", "graphormer_lite_virtual"])
def test_shipped_weights_keep_their_crop(name):
    folder = assembly.find_model(name)
    assert json.loads((folder / "config.json").read_text())["crop"] == {"margin": 1.2, "source": "box"}
    assert GraphConfig.read(folder).crop_spec == CropSpec(1.2, "box")


def test_a_trained_model_keeps_the_experiments_crop(tmp_path):
    model = {"name": "simple_baseline", "backbone": {"name": "hrnet_w18_small"}}
    experiment = parse(Experiment, {"model": model, "data": {"image_size": 64, "crop": {"margin": 1.7}}})
    assembly.build_model(experiment, OPEN).save_pretrained(tmp_path)
    assert assembly.load_model(tmp_path).config.crop_spec == GraphConfig.read(tmp_path).crop_spec == CropSpec(1.7)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["crop"]  # as of a model that was saved before there was one
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert assembly.load_model(tmp_path).config.crop_spec == CropSpec()


def wide(spec: CropSpec) -> HandPredictor:
    model = TwoDots()
    model.config = SimpleNamespace(**vars(model.config) | {"crop_spec": spec})
    return HandPredictor(model, detector=None)


@pytest.mark.parametrize("margin", [1.2, 2.0])
def test_predictor_and_tracker_cut_by_the_models_crop(margin):
    predictor, image = wide(CropSpec(margin)), photo((80, 80), (120, 80), 160, 200, 4.0)
    (hand,) = predictor.predict(image, boxes=[BOX], sides=["right"])
    assert hand.box[2] - hand.box[0] == pytest.approx(80 * margin, rel=1e-3)
    tracker = HandTracker(predictor, smooth=False, one_shape=False, sides=["right"])
    tracker(image, 0.0)
    (before,) = tracker(image, 0.1)  # of the tracked box: it follows the joints
    (hand,) = tracker(image, 0.2)
    extent = (before.joints_2d.max(0) - before.joints_2d.min(0)).max()
    assert hand.box[2] - hand.box[0] == pytest.approx(CropSpec(margin).over("keypoints") * extent, rel=1e-3)


def side_of(dataset) -> float:
    return float(dataset.load([0]).image_from_crop[0, 0, 0]) * 64


def test_readers_cut_by_the_models_crop_unless_they_have_a_scale(tmp_path):
    keypoints = torch.rand(21, 2, generator=torch.Generator().manual_seed(0)) * 60 + 50
    extent = float((keypoints.amax(0) - keypoints.amin(0)).max())
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((160, 200, 3), np.uint8))
    points = {"keypoints_px": keypoints.tolist()}
    for name, entry in (("keypoints.json", points), ("boxes.json", points | {"box": BOX.tolist()})):
        (tmp_path / name).write_text(json.dumps({"a.png": [entry]}))

    def built(crop: CropSpec, **options):
        return assembly.build_dataset("folder", {"root": str(tmp_path), **options}, "test", OPEN, 64, crop)

    spec = CropSpec(2.0, "keypoints")
    assert side_of(built(spec)) == pytest.approx(2.0 * extent, rel=1e-4)
    assert side_of(built(spec, labels="boxes.json")) == pytest.approx(spec.over("box") * 80, rel=1e-4)
    assert side_of(built(spec, scale=1.5)) == pytest.approx(1.5 * extent, rel=1e-4)
    assert side_of(built(spec, labels="boxes.json", box_scale=1.1)) == pytest.approx(1.1 * 80, rel=1e-4)


def test_virtual_training_hands_fill_the_models_crop():
    """The frozen test split stays as it is, and so does a range that is given."""
    twice = CropSpec(2 * CropSpec().margin)

    def fill(split: str, crop: CropSpec, **options) -> list[float]:
        return assembly.build_dataset("virtual", options, split, OPEN, 64, crop).generator.fill

    assert fill("train", CropSpec()) == fill("test", twice) == [0.45, 0.9]
    assert fill("train", twice) == pytest.approx([0.225, 0.45])
    assert fill("train", twice, fill=[0.5, 0.6]) == fill("test", twice, fill=[0.5, 0.6]) == [0.5, 0.6]
