"""Objects of scene/objects: solids face outward, hands hold them or do not touch them, adding one changes no number."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import SEGMENTATION_CLASSES
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual import parameters
from mesh_graphormer_hand.virtual.config import OBJECTS, VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.hand.anatomy import Anatomy
from mesh_graphormer_hand.virtual.records import arrays
from mesh_graphormer_hand.virtual.rng import Draws, generator
from mesh_graphormer_hand.virtual.scene import grasp
from mesh_graphormer_hand.virtual.scene.solids import bent_tube, revolve, sphere

PACKAGE = "mesh_graphormer_hand.virtual.scene.objects"
FACES = 2000


@pytest.fixture(scope="module")
def hand():
    return load("open")


@pytest.fixture(scope="module")
def joints(hand):
    """Of 64 posed hands, m, rest frame."""
    anatomy = Anatomy.of(hand)
    p = parameters.draw(VirtualConfig(), anatomy, range(64))
    return anatomy.pose(np.concatenate([np.tile(np.eye(3), (64, 1, 1, 1)), p.fingers], 1), p.shape)


def volume(points, faces):
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def test_solids_face_outward():
    """The signed volume of a closed body is its volume; a cylinder's is pi r^2 h, a torus's 2 pi^2 R r^2."""
    assert volume(*sphere(40, 40)) == pytest.approx(4 / 3 * np.pi, rel=0.02)
    cylinder = revolve(((0, 1), (0.5, 1), (0.5, -1), (0, -1)), 60)
    assert volume(*cylinder) == pytest.approx(np.pi * 0.25 * 2, rel=0.01)
    angle = np.linspace(0, 2 * np.pi, 81)
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], 1)
    points, faces = bent_tube(ring, 0.1, 24, np.array([0.0, 1, 0]))
    assert volume(points, faces) == pytest.approx(2 * np.pi**2 * 0.01, rel=0.03)


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_by_existing(name, joints):
    """A shape of class object, outward faces, metres of a hand's size, colours, and the same numbers again."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    first, again = (module.sample(Draws(VirtualConfig(), range(64), f"objects/{name}"), joints) for _ in range(2))
    assert first.name == name and first.shape.label == "object" and first.shape is again.shape
    assert first.vertices.shape == (64, first.shape.size, 3) and np.isfinite(first.vertices).all()
    extent = np.ptp(first.vertices, axis=1).max(1)
    assert (0.01 < extent).all() and (extent < 0.3).all()
    assert all(volume(v - v.mean(0), first.shape.faces) > 0 for v in first.vertices)
    assert (first.colours > 0).all() and (first.colours <= 1).all() and (first.shine > 0).all()
    assert all(np.array_equal(a, b) for a, b in zip(arrays(first), arrays(again), strict=True))


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_added_and_nothing_else_changes(name, hand):
    """Every other parameter keeps its numbers; the object is in the picture and labelled."""
    without, with_it = (VirtualConfig(objects=objects, mesh_faces=FACES) for objects in ({}, {name: 1.0}))
    plain, added = (parameters.draw(c, Anatomy.of(hand), range(16)) for c in (without, with_it))
    assert plain.objects == () and [part.name for part in added.objects] == [name]
    kept = dataclasses.replace(added, objects=())
    assert all(np.array_equal(a, b) for a, b in zip(arrays(plain), arrays(kept), strict=True))
    quiet = {"held_object": 0.0, "second_hand": 0.0, "fill": [0.4, 0.5]}
    made = VirtualHands(dataclasses.replace(with_it, **quiet), hand, ["parts"]).render(range(16), image_size=64)
    shown = (made.targets.parts == SEGMENTATION_CLASSES.index("object")).flatten(1).sum(1)
    assert (shown > 5).sum() >= 6


def test_objects_come_as_often_as_their_probability(hand):
    p = parameters.draw(VirtualConfig(objects={"cup": 0.3, "pen": 0.0}), Anatomy.of(hand), range(128))
    (cup,) = p.objects
    assert 20 < (np.ptp(cup.vertices, axis=1).max(1) > 0).sum() < 60


def test_what_stands_near_a_hand_touches_nothing(joints):
    half = np.array([0.01, 0.02, 0.07])
    place = grasp.clear_of(Draws(VirtualConfig(), range(64), "objects/cup"), joints, np.tile(half, (64, 1)))
    inside = (joints - place.centre[:, None]) @ place.axes  # in the boxes' own axes
    assert (np.abs(inside) > half + 0.003).any(-1).all()
    assert (np.abs(np.linalg.det(place.axes) - 1) < 1e-9).all()


def test_unknown_objects_and_probabilities_are_refused():
    with pytest.raises(ConfigError, match="objects: no 'cupp', did you mean 'cup'"):
        VirtualConfig(objects={"cupp": 0.1})
    with pytest.raises(ConfigError, match="objects.pen: 1.5 should be from 0 to 1"):
        VirtualConfig(objects={"pen": 1.5})


def test_streams_of_a_topic_differ():
    draws = [generator(VirtualConfig(), 3, t).random() for t in ("objects/pen", "objects/cup", "objects", "pose")]
    assert len(set(draws)) == 4
    assert torch.tensor(draws).isfinite().all()
