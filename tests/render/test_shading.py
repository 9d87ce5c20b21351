"""Shading on scenes with known answers; shadows and occlusion; smoothing."""

import math

import pytest
import torch
import trimesh

from helpers.render_scenes import blob, blobs, sphere
from mesh_graphormer_hand.render.effects import disc
from mesh_graphormer_hand.render.rasterizer.raster import rasterize
from mesh_graphormer_hand.render.shading import ANTIALIAS, Lights, Look, Topology, render, sh_irradiance, vertex_normals
from mesh_graphormer_hand.render.subdivide import smooth

CAMERA = torch.tensor([[200.0, 200.0, 32.0, 32.0]])


def lights(count=1, ambient=1.0, key=0.0, direction=(0.0, 0.0, -1.0)):
    """Constant radiance `ambient` from everywhere and a directional light of strength `key`."""
    sh = torch.zeros(count, 9, 3)
    sh[:, 0] = ambient / 0.282095
    towards = torch.tensor([direction]).expand(count, 3)
    towards = towards / towards.norm(dim=1, keepdim=True)
    return Lights(sh, towards, torch.full((count, 3), key), torch.zeros(count), torch.ones(count))


def draw(vertices, faces, light, look, albedo=0.5, ground=0.25, **options):
    vertices = vertices[None] if vertices.dim() == 2 else vertices
    topology = Topology.build(faces, vertices.shape[1])
    colours = torch.full((vertices.shape[1], 3), albedo) if isinstance(albedo, float) else albedo
    background = torch.full((len(vertices), 3, 64, 64), ground)
    return render(vertices, topology, colours, CAMERA.expand(len(vertices), 4), light, background, look, **options)


@pytest.mark.parametrize("mode", ANTIALIAS)
def test_white_furnace(mode):
    """Constant radiance 1 on albedo 0.5 is 0.5 everywhere; alpha lays it over the background and has the right area."""
    vertices, faces = sphere(3)
    out = draw(vertices, faces, lights(), Look(mode))
    alpha = out.alpha[0, 0]
    assert torch.allclose(out.rgb[0, 0], 0.25 + 0.25 * alpha, atol=1e-4)
    radius = 200 * 0.08 / math.sqrt(0.25 - 0.08**2)  # px, of the sphere's outline
    assert abs(float(alpha.sum()) - math.pi * radius**2) < 0.02 * math.pi * radius**2
    assert (mode == "none") == bool(((alpha == 0) | (alpha == 1)).all())
    assert int((out.part[0] >= 0).sum()) == int((alpha > 0).sum())
    assert float(out.normal[0, 2, 32, 32]) < -0.99 and abs(float(out.depth[0, 0, 32, 32]) - 0.42) < 2e-3


def test_lambert():
    """A directional light gives albedo * cosine: full in the middle of a sphere lit from the camera, none behind."""
    vertices, faces = sphere(4)
    front = draw(vertices, faces, lights(ambient=0.0, key=0.8), Look(), ground=0.0)
    cosine = -front.normal[0, 2] * (front.alpha[0, 0] > 0)
    assert torch.allclose(front.rgb[0, 0], 0.4 * cosine.clamp_min(0), atol=1e-3)
    behind = draw(vertices, faces, lights(ambient=0.0, key=0.8, direction=(0, 0, 1.0)), Look(), ground=0.0)
    assert float(behind.rgb.max()) < 0.02


def test_irradiance_of_a_sky():
    """Radiance 1 from above alone (order 1: a + b y): a normal up gets a + 2/3 b, one sideways a."""
    sh = torch.zeros(1, 9, 3)
    sh[:, 0], sh[:, 1] = 0.5 / 0.282095, -0.3 / 0.488603  # y points down
    up_side_down = torch.tensor([[[0.0, -1, 0], [1.0, 0, 0], [0.0, 1, 0]]])
    assert torch.allclose(sh_irradiance(up_side_down, sh)[0, :, 0], torch.tensor([0.7, 0.5, 0.3]), atol=1e-4)


@pytest.mark.parametrize("samples", [1, 8])
def test_shadow_falls_where_geometry_says(samples):
    """A small sphere between the light and a wall darkens the wall on its own line of sight from the light only."""
    ball, ball_faces = sphere(3, 0.02, (0.0, 0.0, 0.5))
    plate = trimesh.creation.box((0.4, 0.4, 0.02))
    wall = torch.tensor(plate.vertices, dtype=torch.float32) + torch.tensor([0.0, 0.0, 0.61])
    vertices = torch.cat((ball, wall))
    faces = torch.cat((ball_faces, torch.tensor(plate.faces) + len(ball)))
    light = lights(ambient=0.0, key=1.0, direction=(-0.6, 0.0, -1.0))
    look = Look(shadow=256, shadow_samples=samples, shadow_radius=0.05)
    lit, shaded = (draw(vertices, faces, light, k, ground=0.0).rgb[0, 0] for k in (Look(), look))
    ratio = shaded / lit.clamp_min(1e-6)
    column = round(200 * 0.06 / 0.6 + 32)  # the wall is 0.1 m behind the ball, the slope of the light 0.6
    assert float(ratio[32, column]) < 0.05
    assert float(ratio[32, 10]) > 0.95 and float(ratio[10, column]) > 0.95
    assert float(ratio[32, 32]) > 0.9, "the ball does not shadow its own lit side"


def test_ambient_occlusion_darkens_the_cleft_alone():
    """Two touching spheres: dark where they meet, as bright as alone on the outer flanks."""
    left, faces = sphere(4, 0.05, (-0.05, 0.0, 0.5))
    vertices = torch.cat((left, left + torch.tensor([0.1, 0, 0])))
    both = torch.cat((faces, faces + len(left)))
    plain, occluded = (
        draw(vertices, both, lights(), Look(ambient_occlusion=k, ambient_radius=0.03)).rgb[0, 0] for k in (0.0, 1.0)
    )
    ratio = occluded / plain
    assert float(ratio[32, 29]) < 0.8 and float(ratio[32, 34]) < 0.8
    assert float(ratio[32, 14:18].min()) > 0.97


def test_depth_darkening_darkens_what_lies_behind():
    near, faces = sphere(2, 0.03, (-0.03, 0.0, 0.4))
    vertices = torch.cat((near, near + torch.tensor([0.05, 0, 0.1])))
    both = torch.cat((faces, faces + len(near)))
    plain, dark = (draw(vertices, both, lights(), Look(occlusion=k)).rgb[0, 0] for k in (0.0, 0.8))
    assert float((dark / plain).min()) < 0.8 and float((dark - plain).max()) < 1e-6


def test_batch_equals_loop():
    """One image's light, shadow and occlusion know nothing of its neighbours."""
    vertices, faces = blobs(5, 2)
    light = lights(5, 0.4, 0.6, (-0.3, -0.5, -1.0))
    look = Look("coverage", occlusion=0.3, ambient_occlusion=0.5, shadow=64)
    whole = draw(vertices, faces, light, look)
    for i in range(5):
        alone = draw(vertices[i : i + 1], faces, light[i : i + 1], look)
        assert torch.allclose(whole.rgb[i], alone.rgb[0], atol=1e-5)
        assert torch.equal(whole.part[i], alone.part[0])


def test_parts_name_the_front_face():
    vertices, faces = sphere(2)
    right = (vertices[faces].mean(1)[:, 0] > 0).long()
    topology = Topology.build(faces, len(vertices), right)
    out = render(vertices[None], topology, torch.ones(len(vertices), 3), CAMERA, lights(), torch.zeros(1, 3, 64, 64))
    row = out.part[0, 32]
    assert int(row[20]) == 0 and int(row[44]) == 1 and int(out.part[0, 1, 1]) == -1


def test_gradients_reach_albedo_lights_and_vertices():
    vertices, faces = blob(2)
    albedo = torch.full((len(vertices), 3), 0.5, requires_grad=True)
    light = lights(1, 0.4, 0.6)
    light.sh.requires_grad_()
    out = draw(vertices.requires_grad_(), faces, light, Look("ssaa"), albedo)
    out.rgb.sum().backward()
    assert float(albedo.grad.sum()) > 100
    assert float(light.sh.grad.abs().sum()) > 100 and float(vertices.grad.abs().sum()) > 1


def test_vertex_normals_of_a_sphere():
    vertices, faces = sphere(3, 1.0, (0, 0, 0))
    batch = torch.stack((vertices, -2 * vertices))  # mirrored through the origin: inside out
    normals = vertex_normals(batch, Topology.build(faces, len(vertices)))
    assert float((normals[0] * vertices).sum(-1).min()) > 0.999
    assert float((normals[1] * vertices).sum(-1).max()) > -1.001 and float(normals.norm(dim=-1).min()) > 0.999


def test_smoothing_rounds_and_keeps_the_old_vertices():
    """A coarse sphere becomes rounder; a flat mesh stays flat; shared edges get one vertex (the mesh stays closed)."""
    vertices, faces = sphere(1, 1.0, (0, 0, 0))
    finer, split, attributes = smooth(vertices[None], faces, vertices)
    assert torch.equal(finer[0, : len(vertices)], vertices) and len(split) == 4 * len(faces)
    assert trimesh.Trimesh(finer[0].numpy(), split.numpy(), process=False).is_watertight
    flat_middle, round_middle = attributes[len(vertices) :].norm(dim=1), finer[0, len(vertices) :].norm(dim=1)
    assert float((1 - round_middle).abs().max()) < 0.45 * float((1 - flat_middle).abs().max())
    plane = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]])
    flat, _, _ = smooth(plane[None], torch.tensor([[0, 1, 2], [2, 1, 3]]), plane, 2)
    assert torch.allclose(flat[..., 2], torch.ones(()))


def test_disc_is_even():
    points = torch.tensor(disc(64))
    assert float(points.norm(dim=1).max()) <= 1 and float(points.mean(0).norm()) < 0.05
    assert abs(float((points.norm(dim=1) < 0.5).float().mean()) - 0.25) < 0.03


def test_wrong_look_is_named():
    with pytest.raises(ValueError, match="antialias is 'super'"):
        Look("super")


@pytest.mark.gpu
def test_gpu_equals_cpu():
    vertices, faces = blobs(4)
    light, look = lights(4, 0.4, 0.6, (-0.3, -0.5, -1.0)), Look("ssaa", occlusion=0.3, ambient_occlusion=0.5, shadow=64)
    topology, albedo = Topology.build(faces, vertices.shape[1]), torch.rand(vertices.shape[1], 3)
    scene = vertices, topology, albedo, CAMERA.repeat(4, 1), light, torch.rand(4, 3, 64, 64)
    here, there = render(*scene, look), render(*(part.to("cuda") for part in scene), look)
    differ = (here.rgb - there.rgb.cpu()).abs().amax(1) > 0.01
    assert float(differ.float().mean()) < 2e-3
    assert rasterize(scene[0].cuda(), faces.cuda(), scene[3].cuda(), (64, 64)).face.is_cuda
