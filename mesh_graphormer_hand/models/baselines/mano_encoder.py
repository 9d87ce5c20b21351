"""Encoder to a parametric hand: an image's feature -> pose, shape and camera of MANO. Boukhayma, de Bem, Torr, "3D Hand
Shape and Pose from Images in the Wild", CVPR 2019. Written from the paper.

A ResNet-34's mean feature and a linear layer to 22 numbers: a weak-perspective camera, the wrist's rotation, six
principal components of the finger pose, ten of the shape; the hand layer makes vertices and joints of them. 21.3 M
parameters. Losses: L1 of projected and 3D joints, and the squared norms of pose and shape (`pose_prior`,
`shape_prior`). The only network here whose answer is a posed hand by construction: its bones keep their lengths, its
skin its topology.
Deviations: rotations about the wrist, as 6D (Zhou et al., CVPR 2019) with `rotation: 6d`, else axis-angles, whose
formula here has a finite gradient at 0; a scale that is positive always; the mean over the whole map (published: a 7 x
7 window of 8 x 8); the open hand's components or MANO's, whichever hand is loaded; no heat maps as input and no mask
loss; `pose` and `shape` labels, where there are any, are losses too. `components: 0` regresses the 15 finger rotations.
Published: STB AUC(20-50 mm) .993.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...backbones.base import BackboneConfig, build_backbone
from ...config import ConfigError, parse
from ...contracts import HandInputs, HandPrediction
from ...geometry.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_6d_to_matrix
from ...layers.camera_head import at_least_float32, camera_from, project
from ...mano.hand import NUM_BETAS, NUM_COMPONENTS, Hand
from ...mano.layer import SkinTensors, skin, skin_tensors
from ...skeleton import NUM_MODEL_JOINTS, PERMUTATIONS, WRIST
from ..base import XYZ, HandModel, HandModelConfig

ROTATION_SIZES = {"6d": 6, "axis_angle": 3}  # numbers of a rotation
NUM_FINGER_JOINTS = NUM_MODEL_JOINTS - 1
FIRST_TURN = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)  # 6D: fingers (-x at rest) point up, the palm (-y) to the camera


@dataclass
class Config:
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("resnet_34"))
    rotation: str = "axis_angle"  # of the wrist, and of finger joints where there are no components: axis_angle | 6d
    components: int = 6  # principal components of the finger pose, 0: 15 rotations
    CHOICES = {"rotation": tuple(ROTATION_SIZES)}


class ManoEncoder(HandModel):
    """Image -> MANO's numbers, a camera, and the skin and joints that they give."""

    produces = ("pose", "shape", "camera", "rotation", "vertices", "joints", "joints_2d")
    output_layers = ("linear",)

    def __init__(self, config: HandModelConfig, hand: Hand | None = None) -> None:
        """
        Raises:
            ConfigError: more components than there are.
        """
        self.options = options = parse(Config, config.options, where="model")
        if not 0 <= options.components <= NUM_COMPONENTS:
            raise ConfigError(f"model.components is {options.components}, it should be from 0 to {NUM_COMPONENTS}")
        super().__init__(config, hand)
        self.backbone = build_backbone(options.backbone)
        turn = ROTATION_SIZES[options.rotation]
        fingers = options.components or NUM_FINGER_JOINTS * turn
        self.sizes = [XYZ, turn, fingers, NUM_BETAS]
        self.linear = nn.Linear(self.backbone.dims[-1], sum(self.sizes))
        nn.init.normal_(self.linear.weight, std=1e-3)
        nn.init.zeros_(self.linear.bias)
        with torch.no_grad():
            start = FIRST_TURN if turn == 6 else matrix_to_axis_angle(rotation_6d_to_matrix(torch.tensor(FIRST_TURN)))
            self.linear.bias[XYZ : XYZ + turn] = torch.as_tensor(start, dtype=self.linear.bias.dtype)
            if not options.components and turn == 6:
                identity = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(NUM_FINGER_JOINTS)
                self.linear.bias[XYZ + turn : XYZ + turn + fingers] = identity.to(self.linear.bias)

    def constants(self, hand: Hand) -> dict[str, Tensor]:
        """The hand's skin, mean pose and principal components."""
        tips = torch.tensor(hand.tip_vertices, device="cpu")
        return {f"skin_{name}": value for name, value in vars(skin_tensors(hand)).items()} | {
            "mean": torch.from_numpy(hand.hands_mean.copy()),
            "components": torch.from_numpy(hand.hands_components[: self.options.components].copy()),
            "tips": tips,
            "order": torch.tensor(PERMUTATIONS["mano"], device="cpu"),
            "fingerprint": torch.tensor(hand.fingerprint),
        }

    def forward(self, inputs: HandInputs) -> HandPrediction:
        """Predict from `inputs.image`, any size that is a multiple of 32."""
        feature = self.backbone(self.normalise(inputs.image))[-1].mean((-1, -2))
        numbers = at_least_float32(self.linear(feature))
        with torch.autocast(numbers.device.type, enabled=False):
            camera, turn, fingers, shape = numbers.split(self.sizes, -1)
            camera = camera_from(camera)
            rotation = self._matrices(turn)
            rotations = torch.cat([rotation[:, None], self._fingers(fingers)], 1)
            vertices, joints = self._skin(rotations, shape)
            return HandPrediction(
                pose=matrix_to_axis_angle(rotations),
                shape=shape,
                camera=camera,
                rotation=rotation,
                vertices=vertices,
                joints=joints,
                joints_2d=project(joints, camera, float(inputs.image.shape[-1])),
                hand=self.fingerprint.expand(numbers.shape[0]),
            )

    def _matrices(self, numbers: Float[Tensor, "*b r"]) -> Float[Tensor, "*b 3 3"]:
        return rotation_6d_to_matrix(numbers) if self.options.rotation == "6d" else axis_angle_to_matrix(numbers)

    def _fingers(self, numbers: Float[Tensor, "b n"]) -> Float[Tensor, "b 15 3 3"]:
        """Rotations of the finger joints, from components about the mean pose or from one rotation each."""
        if not self.options.components:
            return self._matrices(numbers.unflatten(-1, (NUM_FINGER_JOINTS, -1)))
        return axis_angle_to_matrix((numbers @ self.components + self.mean).unflatten(-1, (NUM_FINGER_JOINTS, XYZ)))

    def _skin(
        self, rotations: Float[Tensor, "b 16 3 3"], shape: Float[Tensor, "b 10"]
    ) -> tuple[Float[Tensor, "b 778 3"], Float[Tensor, "b 21 3"]]:
        """Vertices and joints relative to the wrist, m."""
        tensors = SkinTensors(**{name: getattr(self, f"skin_{name}") for name in SkinTensors.__dataclass_fields__})
        vertices, joints = skin(tensors, rotations, shape)
        joints = torch.cat([joints, vertices[:, self.tips]], 1)[:, self.order]
        wrist = joints[:, WRIST : WRIST + 1]
        return vertices - wrist, joints - wrist


def build(config: HandModelConfig, hand: Hand) -> ManoEncoder:
    """The network with fresh weights."""
    return ManoEncoder(config, hand)
