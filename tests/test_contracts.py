"""Records of tensors and arrays; labels declared once: their masks, shapes and kinds hold together."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from mesh_graphormer_hand.contracts import (
    HAND_MASKS,
    IMAGE_LABELS,
    LABELS,
    HandInputs,
    HandTargets,
    Record,
    labels_of,
    sample_shape,
)
from mesh_graphormer_hand.data.base import PER_HAND


@dataclass(frozen=True)
class Inner(Record):
    numbers: np.ndarray


@dataclass(frozen=True)
class Outer(Record):
    inner: Inner
    points: torch.Tensor
    keys: list[str]
    unit: str = "m"


def record() -> Outer:
    return Outer(Inner(np.arange(4)), torch.arange(8.0).view(4, 2), ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("index", "wanted"),
    [
        (slice(1, 3), [1, 2]),
        (np.array([3, 0]), [3, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        (torch.tensor([3, 0]), [3, 0]),
        (torch.tensor([False, True, True, False]), [1, 2]),
    ],
)
def test_rows_of_a_record_of_arrays_and_tensors(index, wanted):
    rows = record()[index]
    assert rows.inner.numbers.tolist() == wanted and rows.points[:, 0].tolist() == [2.0 * k for k in wanted]
    assert rows.keys == ["abcd"[k] for k in wanted] and rows.unit == "m"


def test_records_of_arrays_join_and_map():
    both = Inner.cat([record().inner, record().inner[:1]])
    assert both.numbers.tolist() == [0, 1, 2, 3, 0]
    assert both.map(lambda a: a + 1).numbers.tolist() == [1, 2, 3, 4, 1]


@pytest.mark.parametrize("owner", [HandInputs, HandTargets])
def test_the_mask_of_a_label_is_a_field_of_its_leading_dimensions(owner):
    for name, label in labels_of(owner).items():
        if label.mask is not None and label.mask != "boxes_known":  # of the whole frame
            mask = sample_shape(owner, label.mask)
            assert label.shape[: len(mask)] == mask, name


def test_shapes_come_from_the_annotations():
    assert (
        LABELS["vertices"].shape == (778, 3) and LABELS["depth"].shape == ("h", "w") and LABELS["is_left"].shape == ()
    )
    assert sample_shape(HandInputs, "intrinsics") == (3, 3)
    assert IMAGE_LABELS == ("mask", "depth", "parts", "normals")
    assert HAND_MASKS == ("joints_valid", "vertices_valid", "mano_valid")
    assert PER_HAND == ("boxes", "boxes_valid", "boxes_unsure", "boxes_left", "boxes_left_valid")
