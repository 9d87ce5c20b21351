"""The rasteriser against its slow twin, against stored outputs of PyTorch3D 0.7.9, and the properties it must have."""

import inspect

import numpy as np
import pytest
import torch

from helpers.render_scenes import CAMERA, blob, blobs, reference, slow_rasterize, sphere
from mesh_graphormer_hand.render.rasterizer.raster import Settings, interpolate, rasterize


def draw(vertices, faces, size=(32, 32), camera=CAMERA, **settings):
    vertices = torch.as_tensor(vertices, dtype=torch.float32)
    vertices = vertices[None] if vertices.dim() == 2 else vertices
    return rasterize(vertices, torch.as_tensor(faces), camera.expand(len(vertices), 4), size, Settings(**settings))


def flat(points, z=1.0):
    """Vertices at depth z that CAMERA projects to the pixel coordinates `points`."""
    p = torch.tensor(points, dtype=torch.float64)
    return torch.cat(((p - 16) / 100 * z, torch.full((len(p), 1), z, dtype=torch.float64)), 1).float()


TRIANGLE = [(4, 4), (28, 4), (4, 28)]


@pytest.mark.parametrize("seed", range(3))
def test_equals_slow_twin(seed):
    """Same face, depth and barycentrics at every pixel whose centre is not on an edge, at unequal focal lengths."""
    vertices, faces = blob(2, seed)
    camera = torch.tensor([[170.0, 150.0, 23.3, 25.1]])
    depth, face, bary = (t[0].numpy() for t in draw(vertices, faces, (48, 52), camera).dense())
    want_face, want_depth, want_bary, margin = slow_rasterize(vertices, faces, camera[0], (48, 52))
    clear = margin > 1e-4
    assert clear.mean() > 0.99 and (want_face >= 0).mean() > 0.2
    assert (face == want_face)[clear].all()
    hit = clear & (want_face >= 0)
    assert np.abs(depth - want_depth)[hit].max() < 1e-6
    assert np.abs(bary - want_bary)[hit].max() < 1e-4


def test_equals_pytorch3d():
    """Face ids on all but 1 in 10,000 of the pixels (0 differ here), depth and barycentrics on those."""
    d = reference()
    vertices, faces = torch.tensor(d["mesh_vertices"]), torch.tensor(d["mesh_faces"])
    cameras = torch.tensor([[480.0, 480, 112, 112]]).repeat(len(vertices), 1)
    depth, face, bary = (t.numpy() for t in rasterize(vertices, faces, cameras, (224, 224)).dense())
    same = face == d["pix_to_face"]
    assert (~same).mean() < 1e-4
    assert np.abs(depth - d["zbuf"])[same].max() < 1e-5
    assert np.abs(bary[:, ::8, ::8] - d["bary"])[same[:, ::8, ::8]].max() < 1e-4


def test_half_open_rule():
    """Row r of the right triangle (4,4) (12,4) (4,12) holds columns 4 .. 14 - r: the hypotenuse is out."""
    depth, face, bary = draw(flat([(4, 4), (12, 4), (4, 12)], 0.5), [[0, 1, 2]]).dense()
    want, undecided = torch.zeros(32, 32, dtype=torch.bool), torch.zeros(32, 32, dtype=torch.bool)
    for r in range(4, 12):
        want[r, 4 : 15 - r] = True
        undecided[r, 15 - r] = True  # centres on the hypotenuse, which projection may move by an ulp
    got = face[0] == 0
    assert bool((got == want)[~undecided].all())
    assert torch.allclose(depth[0][got], torch.tensor(0.5), atol=1e-6)
    assert torch.allclose(bary[0, 6, 5], torch.tensor([1 - 1.5 / 8 - 2.5 / 8, 1.5 / 8, 2.5 / 8]), atol=1e-5)


def test_perspective_correct():
    """Barycentrics of a slanted triangle give back the point on the pixel's ray, not its screen-space mean."""
    vertices = torch.tensor([[-0.1, -0.1, 0.5], [0.3, -0.1, 2.0], [-0.1, 0.25, 1.0]])
    r = draw(vertices, [[0, 1, 2]])
    points = interpolate(r, torch.tensor([[0, 1, 2]]), vertices[None])[:, 0]
    assert len(points) > 100
    assert torch.allclose(points[:, 0] / points[:, 2] * 100 + 16, r.pixel % 32 + 0.5, atol=1e-4)
    assert torch.allclose(points[:, 1] / points[:, 2] * 100 + 16, r.pixel // 32 + 0.5, atol=1e-4)
    assert torch.allclose(points[:, 2], r.depth[:, 0], atol=1e-6)


@pytest.mark.parametrize("trial", range(6))
def test_watertight(trial):
    """A triangulated square with random, integer or half-integer inner vertices claims every sample exactly once."""
    n = 12
    y, x = torch.meshgrid(torch.linspace(0, 32, n), torch.linspace(0, 32, n), indexing="ij")
    grid = torch.stack((x, y), -1).clone()
    grid[1:-1, 1:-1] += torch.rand(n - 2, n - 2, 2, generator=torch.Generator().manual_seed(trial)) - 0.5
    grid = (grid, grid.round(), (grid * 2).round() / 2)[trial % 3].reshape(-1, 2)
    vertices = torch.cat((grid, torch.ones(len(grid), 1)), 1)  # under the identity camera: exact pixel coordinates
    corner = torch.arange(n * n).view(n, n)
    a, b, c, d = (t.flatten() for t in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]))
    halves = ((a, b, c), (b, d, c)) if trial % 2 else ((a, b, d), (a, d, c))
    faces = torch.cat([torch.stack(f, 1) for f in halves])
    alone = vertices[faces]  # each face as an image of its own
    r = draw(alone, [[0, 1, 2]], camera=torch.tensor([[1.0, 1, 0, 0]]))
    hits = torch.bincount(r.pixel % 1024, minlength=1024)
    assert bool((hits == 1).all()), hits.unique(return_counts=True)


def test_closed_surface_is_left_as_often_as_entered():
    vertices, faces = blob(3)
    hits = {}
    for cull in ("back", "front"):
        r = draw(vertices[faces], [[0, 1, 2]], (96, 96), torch.tensor([[240.0, 240, 48, 48]]), cull=cull)
        hits[cull] = torch.bincount(r.pixel % 96**2, minlength=96**2)
    assert bool((hits["back"] == hits["front"]).all())
    assert int(hits["back"].sum()) > 1500


def test_nearest_wins_and_of_equals_the_lower_id():
    vertices = torch.cat([flat(TRIANGLE, z) for z in (1.0, 0.7, 1.4, 0.7)])
    faces = torch.arange(12).view(4, 3)
    for order in ([0, 1, 2, 3], [2, 1, 3, 0]):
        assert bool((draw(vertices, faces[order]).face == 1).all())


def test_nothing_behind_the_camera():
    front, back = flat(TRIANGLE, 1.0), flat(TRIANGLE, -1.0)
    assert draw(back, [[0, 1, 2]]).pixel.numel() == 0
    assert draw(flat(TRIANGLE, 0.005), [[0, 1, 2]]).pixel.numel() == 0
    r = draw(torch.cat((front, back)), [[3, 4, 5], [0, 1, 2]])
    assert bool((r.face == 1).all()) and r.pixel.numel() > 100


def test_near_clipping_of_a_ground_plane():
    """A plane from behind the camera to the horizon fills exactly the rows below it, at the right depth."""
    vertices, faces = torch.tensor([[-50.0, 0.1, -5], [50.0, 0.1, -5], [0.0, 0.1, 40]]), [[0, 2, 1]]
    depth, face, _ = draw(vertices, faces).dense()
    want = 0.1 * 100 / (torch.arange(32) + 0.5 - 16)
    rows = (want > 0) & (want < 30)
    assert bool((face[0, rows] == 0).all()) and bool((face[0, :16] == -1).all())
    assert torch.allclose(depth[0, rows], want[rows][:, None].expand(-1, 32), rtol=1e-4)
    assert draw(vertices, faces, clip=False).pixel.numel() == 0
    count = {cull: draw(vertices, faces, cull=cull).pixel.numel() for cull in ("none", "back", "front")}
    assert count["back"] + count["front"] == count["none"] and 0 in count.values()


@pytest.mark.parametrize("radius, centre, near", [(1.0, (0.3, 0.2, 0.1), 0.01), (0.5, (0.0, 0.0, 0.3), 0.1)])
def test_near_clipping_has_no_gaps(radius, centre, near):
    """A sphere around the camera is seen from inside at every pixel."""
    vertices, faces = sphere(3, radius, centre)
    r = draw(vertices, faces, (96, 96), torch.tensor([[20.0, 20, 48, 48]]), near=near)
    assert r.pixel.numel() == 96 * 96


def test_off_screen_huge_and_not_a_number():
    triangle = np.array([(2, 2), (30, 2), (2, 30)])
    for shift in ((1000, 0), (-1000, 0), (0, 1000), (0, -1000)):
        assert draw(flat((triangle + shift).tolist()), [[0, 1, 2]]).pixel.numel() == 0
    assert draw(flat([(-1e5, -1e5), (3e5, -1e5), (-1e5, 3e5)]), [[0, 1, 2]]).pixel.numel() == 32 * 32
    assert draw(torch.full((3, 3), float("nan")), [[0, 1, 2]]).pixel.numel() == 0


def test_points_lines_and_slivers():
    """Neither crash nor give a depth that is out of range."""
    g = torch.Generator().manual_seed(1)
    vertices = flat((torch.rand(300, 2, generator=g).double() * 32).tolist(), 0.6)
    i = torch.randint(0, 300, (2000, 2), generator=g)
    point, line = torch.stack((i[:, 0],) * 3, 1), torch.stack((i[:, 0], i[:, 1], i[:, 0]), 1)
    assert draw(vertices, torch.cat((point, line))).pixel.numel() == 0
    a, b = vertices[i[:, 0]], vertices[i[:, 1]]
    middle = (a + b) / 2 + torch.randn(2000, 3, generator=g) * 1e-7
    slivers = torch.arange(2000)[:, None] + torch.tensor([[0, 2000, 4000]])
    r = draw(torch.cat((a, b, middle)), slivers)
    assert bool(r.depth.isfinite().all()) and bool(r.bary.isfinite().all())
    assert r.depth.numel() == 0 or float((r.depth - 0.6).abs().max()) < 1e-2


@pytest.mark.parametrize("supersample, one_surface", [(1, False), (2, False), (2, True)])
def test_batch_equals_loop_and_chunks(supersample, one_surface):
    """Bit for bit: how many images or faces go at once is nobody's business."""
    vertices, faces = blobs(4)
    cameras = torch.tensor([[200.0, 195, 30, 33]]).repeat(4, 1) + torch.arange(4)[:, None]
    kind = {"supersample": supersample, "one_surface": one_surface}
    whole = rasterize(vertices, faces, cameras, (64, 60), Settings(**kind)).dense()
    tiny = rasterize(vertices, faces, cameras, (64, 60), Settings(**kind, max_faces=1, max_fragments=333)).dense()
    loop = [rasterize(vertices[i : i + 1], faces, cameras[i : i + 1], (64, 60), Settings(**kind)) for i in range(4)]
    for k in range(3):
        assert torch.equal(whole[k], tiny[k])
        assert torch.equal(whole[k], torch.cat([r.dense()[k] for r in loop]))


def test_supersampling_is_a_larger_picture():
    """Sample (i, j) of pixel (r, c) is pixel (2r + i, 2c + j) of the picture at twice the size."""
    vertices, faces = blob(3)
    camera = torch.tensor([[150.0, 150, 24, 20]])
    small = draw(vertices, faces, (40, 48), camera, supersample=2)
    large = draw(vertices, faces, (80, 96), camera * 2)
    blocks = small.scatter(small.face, -1).view(1, 40, 48, 2, 2).permute(0, 1, 3, 2, 4).reshape(1, 80, 96)
    assert torch.equal(blocks, large.scatter(large.face[:, 0], -1))
    assert torch.equal(small.coverage, (small.face >= 0).float().mean(1))


def test_culling_back_faces_keeps_the_picture_of_a_closed_mesh():
    vertices, faces = blob(3)
    camera = torch.tensor([[200.0, 200, 32, 32]])
    every, front = (draw(vertices, faces, (64, 64), camera, cull=cull) for cull in ("none", "back"))
    assert every.face.numel() > 500 and torch.equal(every.face, front.face)


def test_interpolation_and_its_gradient():
    vertices, faces = blob(1)
    r = draw(vertices, faces, (24, 24), torch.tensor([[60.0, 60, 12, 12]]))
    attributes = torch.randn(1, len(vertices), 2, requires_grad=True)
    weight = torch.randn(r.pixel.numel(), 1, 2)
    values = interpolate(r, faces, attributes)
    (values * weight).sum().backward()
    corners = faces[r.face[:, 0]]
    assert torch.allclose(values[:, 0], (attributes[0, corners] * r.bary[:, 0, :, None]).sum(1), atol=1e-5)
    want = torch.zeros(len(vertices), 2)
    for k in range(3):
        want.index_add_(0, corners[:, k], weight[:, 0] * r.bary[:, 0, k : k + 1])
    assert torch.allclose(attributes.grad[0], want, atol=1e-5)


def test_gradient_of_depth_in_vertices():
    """At fixed visibility, against finite differences in float64."""
    vertices = flat(TRIANGLE, 0.8).double() + torch.tensor([[0, 0, 0.1], [0, 0, -0.1], [0, 0, 0.05]]).double()
    camera = CAMERA.double()

    def total(v):
        r = rasterize(v[None], torch.tensor([[0, 1, 2]]), camera, (32, 32))
        inside = (r.pixel == 8 * 32 + 8) | (r.pixel == 12 * 32 + 10)
        return r.depth[inside].sum() + (r.bary[inside, 0] * torch.tensor([1.0, 2, 3]).double()).sum()

    assert torch.autograd.gradcheck(total, vertices.requires_grad_(), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"vertices": torch.zeros(3, 3)}, "vertices have shape"),
        ({"cameras": torch.ones(2, 4)}, "cameras have shape"),
        ({"faces": torch.zeros(1, 3)}, "faces are torch.float32"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    arguments = {"vertices": torch.ones(1, 3, 3), "faces": torch.tensor([[0, 1, 2]]), "cameras": CAMERA} | change
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(rasterize)(**arguments, size=(8, 8))  # without the tests' own check of annotations


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="cull is 'backwards'"):
        Settings(cull="backwards")
    with pytest.raises(ValueError, match="power of two"):
        Settings(supersample=3)


@pytest.mark.gpu
def test_gpu_equals_cpu():
    vertices, faces = blobs(4)
    cameras = torch.tensor([[200.0, 195, 30, 33]]).repeat(4, 1)
    for kind in ({}, {"supersample": 2}, {"cull": "back"}):
        here = rasterize(vertices, faces, cameras, (64, 60), Settings(**kind)).dense()
        there = rasterize(vertices.cuda(), faces.cuda(), cameras.cuda(), (64, 60), Settings(**kind)).dense()
        same = here[1] == there[1].cpu()
        assert same.float().mean() > 0.9995
        assert float((here[0] - there[0].cpu())[same].abs().max()) < 1e-5
