"""The fit of MANO parameters to meshes: its derivative, what it finds again, what it costs, what it refuses."""

import time

import pytest
import torch
from jaxtyping import TypeCheckError
from torch.testing import assert_close

from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.mano import fit
from mesh_graphormer_hand.mano.fit import fit_mano
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.layer import ManoLayer


def layer_of(side: str = "right", dtype: torch.dtype = torch.float32) -> ManoLayer:
    return ManoLayer(use_pca=False, flat_hand_mean=True, side=side, mano_root="open").to(dtype)


def meshes(layer: ManoLayer, count: int, bend: float = 1.0, spread: float = 1.5, seed: int = 0):
    """Hands in any orientation and place, fingers bent as the pose components say, and shapes."""
    draw = torch.Generator().manual_seed(seed)
    components = torch.from_numpy(layer.hand.hands_components[:12])
    fingers = torch.from_numpy(layer.hand.hands_mean) + bend * torch.randn(count, 12, generator=draw) @ components * 0.7
    turn = torch.randn(count, 3, generator=draw) * 1.5
    shape = spread * torch.randn(count, 10, generator=draw)
    place = torch.randn(count, 3, generator=draw)
    pose = torch.cat([turn, fingers], 1)
    return layer(pose, shape, place)[0], shape


@pytest.mark.parametrize("side", ["right", "left"])
def test_explains_meshes_that_the_layer_made(side):
    layer = layer_of(side)
    vertices, shape = meshes(layer, 32)
    found = fit_mano(layer.hand, vertices)
    again = layer(found.pose.flatten(1), found.shape, found.translation)[0]
    distance = (again - vertices).norm(dim=-1).mean(1)
    assert distance.mean() < 1e-4 and distance.max() < 1e-3  # m
    assert_close(distance, found.residual, atol=1e-5, rtol=0)
    assert (found.shape - shape).abs().mean() < 0.1


def test_start_alone_is_not_enough():
    """The steps are what brings the residual under a millimetre."""
    layer = layer_of()
    vertices, _ = meshes(layer, 8)
    start, end = (fit_mano(layer.hand, vertices, steps=n).residual.mean() for n in (0, 3))
    assert 2e-3 < start < 0.03 and end < 1e-4


def test_derivative_is_that_of_the_layer():
    """Against central differences in float64, every parameter."""
    layer = layer_of(dtype=torch.float64)
    constants = fit._constants(layer.hand, torch.device("cpu"), torch.float64)
    pose = torch.randn(2, 16, 3, dtype=torch.float64) * 0.6
    shape, place = torch.randn(2, 10, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    rotations = axis_angle_to_matrix(pose)
    skin, jacobian = fit._linearise(constants, fit._State(rotations, shape, place), True, last=False)
    assert_close(skin.unflatten(1, (3, -1)).transpose(1, 2), layer(pose.flatten(1), shape, place)[0])

    def moved(change):
        turned = axis_angle_to_matrix(change[:, :48].unflatten(1, (16, 3))) @ rotations
        state = fit._State(turned, shape + change[:, 51:], place + change[:, 48:51])
        return fit._linearise(constants, state, True, last=True)[0]

    for parameter in range(61):
        change = torch.zeros(2, 61, dtype=torch.float64)
        change[:, parameter] = 1e-5
        numeric = (moved(change) - moved(-change)) / 2e-5
        assert_close(jacobian[:, parameter], numeric, atol=1e-8, rtol=1e-6)


def test_meshes_that_no_hand_explains_keep_a_small_shape():
    """A network's mesh: the residual is about the noise, the betas stay what hands have."""
    layer = layer_of()
    vertices, _ = meshes(layer, 8, spread=0.5)
    found = fit_mano(layer.hand, vertices + 3e-3 * torch.randn_like(vertices), steps=6)
    assert found.residual.max() < 6e-3 and found.shape.abs().max() < 3
    tight = fit_mano(layer.hand, vertices, noise=1.0)
    assert tight.shape.abs().max() < 0.2 * found.shape.abs().max()


def test_known_shape_is_kept():
    layer = layer_of()
    vertices, shape = meshes(layer, 4)
    found = fit_mano(layer.hand, vertices, shape=shape)
    assert torch.equal(found.shape, shape) and found.residual.max() < 1e-3
    assert fit_mano(layer.hand, vertices, shape=shape[:1]).shape.eq(shape[:1]).all()


def test_a_batch_is_its_samples():
    layer = layer_of()
    vertices, _ = meshes(layer, fit.TOGETHER + 1)
    together, alone = fit_mano(layer.hand, vertices), fit_mano(layer.hand, vertices[-1:])
    assert_close(together.translation[-1:], alone.translation, atol=1e-5, rtol=0)
    assert len(fit_mano(layer.hand, vertices[:0]).pose) == 0


def test_takes_under_twenty_milliseconds_a_hand():
    """In batches of 64, on one thread (the limit is generous: other work may run beside the tests)."""
    layer = layer_of()
    vertices, _ = meshes(layer, 64)
    fit_mano(layer.hand, vertices[:16])
    times = []
    for _ in range(3):
        start = time.thread_time()  # this thread's own time: others' work does not count
        fit_mano(layer.hand, vertices)
        times.append((time.thread_time() - start) / 64)
    assert min(times) < 0.02


@pytest.mark.parametrize(
    ("vertices", "shape", "message"),
    [
        (torch.zeros(778, 3), None, "shape"),
        (torch.zeros(1, 777, 3), None, "777"),
        (torch.full((1, 778, 3), torch.nan), None, "finite"),
        (torch.zeros(2, 778, 3), torch.zeros(3, 10), "shape"),
    ],
)
def test_refuses_what_is_no_mesh(vertices, shape, message):
    with pytest.raises((ValueError, TypeCheckError), match=message):  # the tests' shape checks may speak first
        fit_mano(load("open"), vertices, shape)
