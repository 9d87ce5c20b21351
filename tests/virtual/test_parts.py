"""The scene's mesh is a list of named parts: order means nothing, and records keep a part's shape for all samples."""

import dataclasses

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.contracts import SEGMENTATION_CLASSES
from mesh_graphormer_hand.generation.contact_sheet import PART_COLOURS
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.virtual import parameters
from mesh_graphormer_hand.virtual.config import VirtualConfig
from mesh_graphormer_hand.virtual.generator import VirtualHands
from mesh_graphormer_hand.virtual.imaging.render_mesh import LABEL, is_skin, render_mesh
from mesh_graphormer_hand.virtual.records import arrays, repeat, take
from mesh_graphormer_hand.virtual.scene.parts import PartShape

FACES = 2000
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def hands():
    config = VirtualConfig(held_object=1.0, watch=0.5, bracelet=0.5, ring=1.0, sleeve=0.7, mesh_faces=FACES)
    return VirtualHands(config, load("open"))


@pytest.fixture(scope="module")
def drawn(hands):
    return parameters.draw(hands.config, hands.anatomy, range(8))


class Shuffled(parameters.Parameters):
    """The same parameters with the parts that are no skin the other way round."""

    def parts(self):
        arm, *others = super().parts()
        return [arm, *others[::-1]]


def test_the_order_of_parts_means_nothing(hands, drawn):
    """Colours, labels and rings go by name: a shuffled list gives equal bits; shadows agree to 1e-5."""
    shuffled = Shuffled(**{f.name: getattr(drawn, f.name) for f in dataclasses.fields(drawn)})
    assert [part.name for part in shuffled.parts()] != [part.name for part in drawn.parts()]
    a, b, dark, dim = (
        hands.render_scenes(p, torch.full((8, 64, 64, 3), 0.2), shadows)[1]
        for shadows in (False, True)
        for p in (drawn, shuffled)
    )
    shown = {SEGMENTATION_CLASSES[k] for k in a.part.unique() if k >= 0}
    assert {"hand", "forearm", "sleeve", "object", "worn"} <= shown
    for name in ("depth", "part", "normal", "colour"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert not torch.equal(dark.colour, a.colour)
    torch.testing.assert_close(dim.colour, dark.colour, atol=1e-5, rtol=0)


def test_labels_come_from_the_name_of_the_class(hands, drawn):
    mesh = render_mesh(hands.hand, FACES, tuple(part.shape for part in drawn.parts()), CPU)
    for shape in mesh.shapes:
        faces = mesh.topology.faces[mesh.topology.parts == LABEL[shape.label]]
        rows = mesh.rows[shape.name]
        assert len(faces) == len(shape.faces) and (faces >= rows.start).all() and (faces < rows.stop).all()
    part = torch.tensor([[[-1, LABEL["hand"], LABEL["forearm"], LABEL["sleeve"], LABEL["object"]]]])
    assert is_skin(part).flatten().tolist() == [False, True, True, False, False]


def test_a_part_that_casts_no_shadow_is_no_caster(hands, drawn):
    shapes = [part.shape for part in drawn.parts()]
    quiet = dataclasses.replace(shapes[-1], casts_shadow=False)
    full, fewer = (render_mesh(hands.hand, FACES, tuple(s), CPU) for s in (shapes, [*shapes[:-1], quiet]))
    assert len(full.casters) - len(fewer.casters) == len(quiet.faces)


def test_parts_that_cannot_be_drawn_are_refused(hands, drawn):
    arm, sleeve, *_ = (part.shape for part in drawn.parts())
    with pytest.raises(ValueError, match="names of their own: hand, forearm, sleeve, sleeve"):
        render_mesh(hands.hand, FACES, (arm, sleeve, sleeve), CPU)
    with pytest.raises(ValueError, match="skin come first: hand, sleeve, forearm"):
        render_mesh(hands.hand, FACES, (sleeve, arm), CPU)
    with pytest.raises(ValueError, match="no class 'pen'"):
        PartShape("pen", "pen", np.zeros((0, 3), np.int64), np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(ValueError, match="names vertex 3 of 3"):
        PartShape("pen", "object", np.array([[0, 1, 3]]), np.zeros((3, 2)), np.zeros(3))


def test_rows_of_records(drawn):
    """Every array with a row a sample is taken and repeated; the parts' shapes stay the same objects."""
    some, twice = take(drawn, [5, 2]), repeat(take(drawn, [3]), 2)
    assert all(np.array_equal(a, b[[5, 2]]) for a, b in zip(arrays(some), arrays(drawn), strict=True))
    assert all(np.array_equal(a, b[[3, 3]]) for a, b in zip(arrays(twice), arrays(drawn), strict=True))
    assert all(a.shape is b.shape for a, b in zip(some.parts(), drawn.parts(), strict=True))


def test_every_class_has_a_colour_on_the_contact_sheet():
    assert set(PART_COLOURS) == set(SEGMENTATION_CLASSES)
