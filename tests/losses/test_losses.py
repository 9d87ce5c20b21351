"""Losses: 0 where all is right, hand-computed values, masks, hands, precision, names."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from mesh_graphormer_hand.config import ConfigError
from mesh_graphormer_hand.contracts import HandPrediction, HandTargets
from mesh_graphormer_hand.geometry.fitting import fit_weak_perspective
from mesh_graphormer_hand.geometry.heatmaps import HeatmapCodec
from mesh_graphormer_hand.geometry.rotations import axis_angle_to_matrix
from mesh_graphormer_hand.losses import TERMS, Context, check_terms, supervised_losses
from mesh_graphormer_hand.losses.dense_correspondence import nearest_points, template_points
from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.mano.template import hand_template
from mesh_graphormer_hand.render.rasterizer.raster import Settings, interpolate, rasterize

BATCH, CROP, CELLS, OTHER = 3, 128.0, 32, 99
VIEW = (4.0, 0.01, -0.02)  # the camera (s, tx, ty) of all samples
MASKS = ("joints_valid", "joints_2d_valid", "vertices_valid", "mano_valid", "mask_valid")
LOCAL_TERMS = {"vertices_local", "joints_local_l1", "joints_token_local_l1"}
MESH_TERMS = {"vertices", "vertices_coarse", "edge_length", "normal", "surface"}
PARAMETER_TERMS = {"rotation", "pose", "shape"}
PRIORS = {name for name, term in TERMS.items() if not term.labels}
SUPERVISED = sorted(set(TERMS) - PRIORS)


@pytest.fixture(scope="module")
def template():
    return hand_template(load("open"))


@pytest.fixture(scope="module")
def context(template):
    return Context(template)


@pytest.fixture
def targets(template) -> HandTargets:
    draw = torch.Generator().manual_seed(0)
    turn = axis_angle_to_matrix(torch.randn(BATCH, 3, generator=draw))
    return HandTargets(
        joints=template.joints @ turn.mT,
        joints_valid=torch.ones(BATCH, 21, dtype=torch.bool),
        joints_2d=CROP / 2 * (VIEW[0] * ((template.joints @ turn.mT)[..., :2] + torch.tensor(VIEW[1:])) + 1),
        joints_2d_valid=torch.ones(BATCH, 21, dtype=torch.bool),
        vertices=template.vertices @ turn.mT,
        vertices_valid=torch.ones(BATCH, dtype=torch.bool),
        pose=torch.randn(BATCH, 16, 3, generator=draw),
        shape=torch.randn(BATCH, 10, generator=draw),
        mano_valid=torch.ones(BATCH, dtype=torch.bool),
        mask=torch.rand(BATCH, 8, 8, generator=draw) > 0.5,
        mask_valid=torch.ones(BATCH, dtype=torch.bool),
        crop_size=torch.full((BATCH,), CROP),
        hand=torch.full((BATCH,), template.fingerprint),
    )


def exact(targets: HandTargets, template, sharpness: float = 100.0) -> HandPrediction:
    """The prediction that knows every label."""
    codec, uv = HeatmapCodec(), targets.joints_2d * (2 / CROP) - 1
    camera = fit_weak_perspective(targets.joints, uv, torch.ones(BATCH, 21))
    depth = VIEW[0] * (targets.joints[..., 2:] - targets.joints[..., 2:].mean(1, keepdim=True))
    point, _ = nearest_points(targets.vertices, camera, template, (CELLS, CELLS))
    return HandPrediction(
        joints=targets.joints,
        joints_token=targets.joints,
        joints_2d=targets.joints_2d,
        joints_token_2d=targets.joints_2d,
        vertices=targets.vertices,
        vertices_coarse=template.downsample @ targets.vertices,
        rotation=axis_angle_to_matrix(targets.pose[:, 0]),
        pose=targets.pose,
        shape=targets.shape,
        heatmaps=codec.encode_distribution(targets.joints_2d, targets.crop_size, (CELLS, CELLS)).log().clamp_min(-80),
        joints_25d=torch.cat([uv, depth], -1),
        surface=template_points(template)[point].mT.unflatten(-1, (CELLS, CELLS)),
        mask=sharpness * (2.0 * targets.mask - 1),
        left_logit=torch.full((BATCH,), -sharpness),
        presence_logit=torch.full((BATCH,), sharpness),
        hand=targets.hand,
    )


def guess(targets: HandTargets, template) -> HandPrediction:
    """A wrong prediction, every field a leaf with a gradient."""
    draw = torch.Generator().manual_seed(1)
    right = exact(targets, template, sharpness=1.0)

    def noisy(t: torch.Tensor) -> torch.Tensor:
        return (t + 0.03 * t.std() * torch.randn(t.shape, generator=draw)).requires_grad_()

    return right.map(lambda t: noisy(t.detach()) if t.is_floating_point() else t)


@pytest.mark.parametrize("name", SUPERVISED)
def test_the_right_answer_costs_nothing(name, targets, template, context):
    prediction = exact(targets, template)
    if name == "heatmaps_mse":
        maps = HeatmapCodec().encode(targets.joints_2d, targets.crop_size, (CELLS, CELLS))
        prediction = dataclasses.replace(prediction, heatmaps=maps)
    if name == "normal":  # a curved mesh's own edges lie in its own faces
        assert TERMS[name](prediction, targets, context).max() < 1e-3
        return
    tolerance = 1e-4 if name == "joints_25d_l1" else 2e-6  # what keeps the camera's fit finite costs 4e-4 of its scale
    assert_close(TERMS[name](prediction, targets, context), torch.zeros(BATCH), atol=tolerance, rtol=0)


def test_left_hands_teach_their_side_and_no_mesh(targets, template, context):
    shown = dataclasses.replace(targets, shows_left=torch.tensor([True, False, False]))
    prediction = guess(targets, template)
    assert TERMS["joints_2d_l1"](prediction, shown, context)[0] == 0
    assert TERMS["heatmaps"](prediction, shown, context)[0] > 0
    right = exact(targets, template)  # sure of three right hands
    assert_close(TERMS["handedness"](right, shown, context), torch.tensor([100.0, 0, 0]))


def test_presence_learns_from_hands_and_from_crops_without_one(targets, template, context):
    """A crop from which most joints were moved out is neither."""
    out = targets.joints_2d.clone()
    out[1, :15] += CROP
    none = targets.joints_2d_valid.clone()
    none[2] = False
    shown = dataclasses.replace(
        targets, joints_2d=out, joints_2d_valid=none, no_hand=torch.tensor([False, False, True])
    )
    sure = exact(targets, template)
    assert_close(TERMS["presence"](sure, shown, context), torch.tensor([0.0, 0, 100]))
    assert TERMS["handedness"](guess(targets, template), shown, context)[2] == 0


@pytest.mark.parametrize("name", sorted(TERMS))
def test_one_float32_per_sample_and_a_gradient_for_the_field_named(name, targets, template, context):
    prediction = guess(targets, template)
    with torch.autocast("cpu", torch.bfloat16):
        value = TERMS[name](prediction, targets, context)
    assert value.shape == (BATCH,) and value.dtype == torch.float32 and (value > 0).all()
    value.sum().backward()
    for field in TERMS[name].prediction:
        grad = getattr(prediction, field).grad
        assert grad.isfinite().all() and grad.abs().sum() > 0
    half = prediction.map(lambda t: t.bfloat16() if t.is_floating_point() else t)
    assert TERMS[name](half, targets, context).dtype == torch.float32


@pytest.mark.parametrize("name", SUPERVISED)
def test_a_sample_without_labels_gives_zero_and_no_gradient(name, targets, template, context):
    """Even where the missing label's place holds NaN: a product with the mask would let it through."""
    garbage = {
        f.name: torch.full_like(v, torch.nan).where(torch.arange(BATCH).view(-1, *[1] * (v.ndim - 1)) == 1, v)
        for f in dataclasses.fields(targets)
        if (v := getattr(targets, f.name)) is not None and v.is_floating_point() and f.name != "crop_size"
    }
    masks = {n: getattr(targets, n).clone() for n in MASKS}
    for mask in masks.values():
        mask[1] = False
    prediction = guess(targets, template)
    value = TERMS[name](prediction, dataclasses.replace(targets, **garbage, **masks), context)
    assert value[1] == 0 and value[0] > 0
    reference = TERMS[name](prediction, targets, context)
    assert_close(value[[0, 2]], reference[[0, 2]])
    value.sum().backward()
    for field in TERMS[name].prediction:
        assert getattr(prediction, field).grad[1].eq(0).all()
        assert getattr(prediction, field).grad[0].isfinite().all()


@pytest.mark.parametrize("name", ["joints", "joints_token_l1", "joints_2d", "heatmaps", "heatmaps_mse"])
def test_one_masked_joint_is_left_out_of_the_mean(name, targets, template, context):
    prediction = guess(targets, template)
    masks = {n: getattr(targets, n).clone() for n in ("joints_valid", "joints_2d_valid")}
    for mask in masks.values():
        mask[:, 7] = False
    wild = dataclasses.replace(targets, **masks, joints=targets.joints.clone(), joints_2d=targets.joints_2d.clone())
    wild.joints[:, 7], wild.joints_2d[:, 7] = 1e3, 1e3
    value = TERMS[name](prediction, wild, context)
    assert value.max() < 10 * TERMS[name](prediction, targets, context).max()
    value.sum().backward()
    assert getattr(prediction, TERMS[name].prediction[0]).grad[:, 7].eq(0).all()


def test_hand_computed_values(targets, template, context):
    """1 cm along x on all but the wrist; 8 px of a 128 px crop is 1/8 of its half side; vertices 2 mm on each axis."""
    right = exact(targets, template)
    joints = right.joints.clone()
    joints[:, 1:, 0] += 0.01
    prediction = dataclasses.replace(
        right,
        joints=joints,
        joints_token=joints + 0.5,  # an offset of the whole set is none: each minus its own wrist
        joints_2d=right.joints_2d + 8,
        vertices=right.vertices + 0.002,
        vertices_coarse=right.vertices_coarse - 0.002,
        mask=torch.zeros_like(right.mask),
    )
    share = 20 / 21 / 3
    expected = {
        "joints": 1e-4 * share,
        "joints_l1": 1e-2 * share,
        "joints_token": 1e-4 * share,
        "joints_token_l1": 1e-2 * share,
        "joints_2d": 1 / 64,
        "joints_2d_l1": 1 / 8,
        "vertices": 0.002,
        "vertices_coarse": 0.002,
        "edge_length": 0.0,
        "mask": 0.693147,
    }
    losses = supervised_losses(prediction, targets, dict.fromkeys(expected, 1.0), template)
    for name, value in expected.items():
        assert_close(losses[name], torch.full((BATCH,), value), atol=2e-6, rtol=1e-4, msg=name)


def test_rotation_is_one_minus_cosine(targets, template, context):
    angle = torch.tensor([0.0, 0.5, torch.pi])
    turn = axis_angle_to_matrix(torch.stack([angle, 0 * angle, 0 * angle], -1))
    prediction = exact(targets, template)
    prediction = dataclasses.replace(prediction, rotation=prediction.rotation @ turn)
    assert_close(TERMS["rotation"](prediction, targets, context), 1 - angle.cos(), atol=1e-6, rtol=0)


def test_pose_is_the_fingers_and_priors_need_no_label(targets, template, context):
    """Three of fifteen fingers' joints turned by half a turn; the wrist's rotation is another term."""
    pose = torch.zeros(BATCH, 16, 3)
    pose[:, :4, 0] = torch.pi
    rest = dataclasses.replace(targets, pose=torch.zeros(BATCH, 16, 3))
    prediction = dataclasses.replace(exact(targets, template), pose=pose, shape=torch.full((BATCH, 10), 2.0))
    assert_close(TERMS["pose"](prediction, rest, context), torch.full((BATCH,), 2 * 3 / 15))
    priors = supervised_losses(prediction, HandTargets(), dict.fromkeys(PRIORS, 1.0))
    assert_close(priors["pose_prior"], torch.full((BATCH,), 3 * torch.pi**2))
    assert_close(priors["shape_prior"], torch.full((BATCH,), 40.0))


def test_edge_length_and_normal_of_a_scaled_and_a_tilted_mesh(targets, template, context):
    right = exact(targets, template)
    scaled = dataclasses.replace(right, vertices=1.1 * right.vertices)
    edges = targets.vertices[:, template.edges]
    lengths = (edges[:, :, 0] - edges[:, :, 1]).norm(dim=-1).mean(-1)
    assert_close(TERMS["edge_length"](scaled, targets, context), 0.1 * lengths, atol=1e-7, rtol=1e-4)
    assert TERMS["normal"](scaled, targets, context).max() < 1e-3, "normals do not see the size"
    flat = dataclasses.replace(right, vertices=right.vertices * torch.tensor([1.0, 1.0, 0.2]))
    assert TERMS["normal"](flat, targets, context).min() > 0.1


def test_collapsed_mesh_has_finite_gradients(targets, template, context):
    """A network's first output may be one point: edges of length 0."""
    vertices = torch.zeros(BATCH, 778, 3, requires_grad=True)
    prediction = dataclasses.replace(exact(targets, template), vertices=vertices)
    (
        TERMS["normal"](prediction, targets, context) + TERMS["edge_length"](prediction, targets, context)
    ).sum().backward()
    assert vertices.grad.isfinite().all() and vertices.grad.abs().max() < 100


@pytest.mark.parametrize("name", ["heatmaps", "heatmaps_mse"])
def test_heat_map_losses_pull_towards_the_keypoint_and_skip_those_outside(name, targets, template, context):
    joints = targets.joints_2d.clone()
    joints[:, 3] = -5.0
    labels = dataclasses.replace(targets, joints_2d=joints)
    maps = torch.zeros(BATCH, 21, CELLS, CELLS, requires_grad=True)
    TERMS[name](HandPrediction(heatmaps=maps), labels, context).sum().backward()
    assert maps.grad[:, 3].eq(0).all()
    inside = [j for j in range(21) if j != 3]
    decoded = HeatmapCodec().decode(-maps.grad, CROP)
    assert (decoded - joints)[:, inside].abs().max() <= CROP / CELLS / 4 + 1e-3


def test_sigma_of_the_codec_reaches_the_loss(targets, template):
    prediction = exact(targets, template)
    weights = {"heatmaps": 1.0}
    assert supervised_losses(prediction, targets, weights)["heatmaps"].max() < 1e-5
    assert supervised_losses(prediction, targets, weights, codec=HeatmapCodec(4.0))["heatmaps"].min() > 0.1


@pytest.mark.parametrize("name", sorted(LOCAL_TERMS))
def test_local_terms_do_not_mind_the_view(name, targets, template, context):
    """The right pose under a wrong rotation is right, and the rotation is left alone."""
    right = exact(targets, template)
    vector = torch.randn(BATCH, 3, generator=torch.Generator().manual_seed(3)).requires_grad_()
    turn = axis_angle_to_matrix(vector)
    turned = {field: getattr(right, field) @ turn.mT for field in ("vertices", "joints", "joints_token")}
    prediction = dataclasses.replace(right, rotation=turn @ right.rotation, **turned)
    value = TERMS[name](prediction, targets, context)
    assert_close(value, torch.zeros(BATCH), atol=1e-6, rtol=0)
    assert (TERMS["vertices"](prediction, targets, context) > 0.005).all()
    moved = dataclasses.replace(prediction, **{field: 1.2 * points for field, points in turned.items()})
    (slope,) = torch.autograd.grad(TERMS[name](moved, targets, context).sum(), vector)
    assert slope.abs().max() < 1e-6


@pytest.mark.parametrize("name", sorted(MESH_TERMS | LOCAL_TERMS | PARAMETER_TERMS | {"joints", "joints_token_l1"}))
def test_labels_of_another_hand_are_masked(name, targets, template, context):
    hand = targets.hand.clone()
    hand[1] = OTHER
    value = TERMS[name](guess(targets, template), dataclasses.replace(targets, hand=hand), context)
    assert value[1] == 0 and value[0] > 0 and value[2] > 0


def test_keypoints_of_no_parametric_hand_train_joints_but_never_meshes(targets, template, context):
    labels = dataclasses.replace(targets, hand=torch.zeros(BATCH, dtype=torch.int64))
    prediction = guess(targets, template)
    for name in TERMS:
        value = TERMS[name](prediction, labels, context)
        assert value.eq(0).all() if name in MESH_TERMS | LOCAL_TERMS | PARAMETER_TERMS else (value > 0).all(), name


def test_vertices_without_a_fingerprint_are_an_error(targets, template, context):
    with pytest.raises(ValueError, match=r"prediction\.hand"):
        TERMS["vertices"](dataclasses.replace(exact(targets, template), hand=None), targets, context)


def test_a_target_that_a_batch_lacks_is_skipped_a_field_that_the_model_lacks_is_an_error(targets, template):
    prediction = exact(targets, template)
    unmasked = dataclasses.replace(targets, mask=None)
    assert set(supervised_losses(prediction, unmasked, {"mask": 1.0, "joints": 1.0, "normal": 0.0})) == {"joints"}
    with pytest.raises(ConfigError, match="'heatmaps' needs heatmaps"):
        supervised_losses(dataclasses.replace(prediction, heatmaps=None), targets, {"heatmaps": 1.0})
    with pytest.raises(ValueError, match=r"targets\.mask"):
        TERMS["mask"](prediction, unmasked)
    with pytest.raises(ValueError, match=r"targets\.joints_valid"):
        supervised_losses(prediction, dataclasses.replace(targets, joints_valid=None), {"joints": 1.0})
    with pytest.raises(ValueError, match="template"):
        supervised_losses(prediction, targets, {"edge_length": 1.0})


def test_a_misspelt_loss_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'vertices'"):
        check_terms({"vertixes": 1.0})
    with pytest.raises(ConfigError, match="did you mean 'flow_nll'"):
        check_terms({"flow_nl": 1.0}, private=["flow_nll"])
    check_terms({"flow_nll": 1.0, "mask": 2.0}, produces=["mask"], private=["flow_nll"])
    with pytest.raises(ConfigError, match="does not produce"):
        check_terms({"vertices": 1.0}, produces=["mask"])


def test_every_term_reads_fields_that_exist():
    for term in TERMS.values():
        assert set(term.prediction) <= {f.name for f in dataclasses.fields(HandPrediction)}
        assert set(term.targets) <= {f.name for f in dataclasses.fields(HandTargets)}


def test_the_surface_map_is_what_a_rasteriser_sees(targets, template):
    """Positions and normals of the template at the cells' centres, from rasterised faces, for the cells that both have:
    the splatted map knows a cell's nearest point only, which may lie half a cell away."""
    camera = torch.tensor([VIEW] * BATCH)
    point, seen = nearest_points(targets.vertices, camera, template, (CELLS, CELLS))
    found = template_points(template)[point]
    far = 50.0  # m: as good as weak perspective
    pixels = torch.tensor([VIEW[0] * far, VIEW[0] * far, 1.0, 1.0]) * CELLS / 2
    shift = torch.tensor([*VIEW[1:], far])
    raster = rasterize(targets.vertices + shift, template.faces, pixels.expand(BATCH, 4), (CELLS, CELLS), Settings())
    truth = torch.zeros(BATCH * CELLS * CELLS, 6)
    attributes = template_points(template)[:778].expand(BATCH, -1, -1).contiguous()
    truth[raster.pixel] = interpolate(raster, template.faces, attributes)[:, 0]
    truth = truth.view(BATCH, -1, 6)
    both = seen & (truth.abs().sum(-1) > 0)
    assert both.sum() > 0.8 * (truth.abs().sum(-1) > 0).sum()
    error = (found - truth)[both]
    assert error[:, :3].norm(dim=-1).median() < 0.156  # dm: a cell
    assert (torch.nn.functional.cosine_similarity(found[both][:, 3:], truth[both][:, 3:]) > 0.5).float().mean() > 0.85
