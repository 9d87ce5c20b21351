"""Where a thumb has to go to touch a finger: `virtual.gestures` was filled in with what this finds.

python -m tools.open_hand.contacts   prints the angles of every pose in TOUCHES.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from mesh_graphormer_hand.mano.hand import load
from mesh_graphormer_hand.skeleton import MODEL_PARENTS
from mesh_graphormer_hand.virtual.hand import gestures, poses
from mesh_graphormer_hand.virtual.hand.anatomy import FINGER_CHAINS, Anatomy

# pose -> what touches: thumb joint (2 base, 3 middle, 4 tip), finger (0 index), bone (0-2), place along it, and the
# offset from the bone (mm): dorsal, and towards the thumb's side
Touch = tuple[int, int, int, float, float, float]
PINCH = (4, 0, 2, 0.75, -6.0, 0.0)  # the thumb's pulp on the finger's: `reach.depths` is 0.2 mm then
TOUCHES: dict[str, tuple[Touch, ...]] = {
    "fist": ((4, 1, 1, 0.6, 15.0, 4.0),),
    "point": ((4, 1, 1, 0.6, 15.0, 4.0),),
    "v_sign": ((4, 2, 1, 0.6, 14.0, 6.0),),
    "horns": ((4, 1, 1, 0.6, 15.0, -6.0),),
    "pinch": (PINCH,),
    "ok": (PINCH,),
    "pinch_closed": (PINCH,),
    "three_last": (PINCH,),
    "eight_pinch_middle": ((4, 1, 2, 0.75, -8.0, 0.0),),
    "seven_pinch_ring": ((4, 2, 2, 0.75, -9.0, 0.0),),
    "six_pinch_little": ((4, 3, 2, 0.75, -6.0, 0.0),),
    "key": ((4, 0, 1, 0.75, 3.0, 17.0),),
    "four": ((4, 2, 0, 0.1, -22.0, 0.0),),
    "asl_b": ((4, 2, 0, 0.1, -22.0, 4.0),),
    "asl_d": ((4, 1, 2, 0.8, -7.0, 0.0),),
    "asl_o": ((4, 0, 2, 0.9, -4.0, 2.0),),
    "asl_t": ((4, 0, 1, 0.5, -13.0, -9.0),),
    "asl_w": ((4, 3, 1, 0.7, 13.0, 3.0),),
    "asl_x": ((4, 1, 1, 0.6, 15.0, 2.0),),
    "three": ((4, 3, 1, 0.6, 13.0, 3.0),),
    "feix_tripod": ((4, 0, 2, 0.75, -14.0, -5.0),),
    "feix_writing": ((4, 0, 2, 0.6, -14.0, 0.0),),
    **dict.fromkeys(("fist_thumb_in", "feix_light_tool", "feix_distal", "feix_quadpod"), ()),  # clear
}
STIFF = 0.03  # mm per degree that a joint is pulled back to where it was
INSIDE = 2.5  # of overlap that touching digits may have, mm


def solve(anatomy: Anatomy, name: str) -> Float[np.ndarray, "5"]:
    """The thumb's angles (degrees) with which the pose's contacts are met as well as joint limits let them."""
    fingers, start = np.array(gestures.GESTURES[name][:4], float), np.array(gestures.GESTURES[name][4], float)
    low, high = np.array(poses.THUMB_LOW, float), np.array(poses.THUMB_HIGH, float)

    def residual(thumb: np.ndarray) -> np.ndarray:
        rotations = anatomy.rotations(fingers, thumb)
        joints = 1e3 * anatomy.pose(rotations)
        gaps = [joints[touch[0]] - _target(anatomy, rotations, joints, touch) for touch in TOUCHES[name]]
        inside = max(1e3 * float(poses.penetration(joints[None] * 1e-3)[0]) - INSIDE, 0)
        return np.concatenate([*gaps, [3 * inside], STIFF * 10 * (thumb - start) / 10])

    return least_squares(residual, start.clip(low + 0.1, high - 0.1), bounds=(low, high), diff_step=1e-3).x


def _target(anatomy: Anatomy, rotations: np.ndarray, joints: np.ndarray, touch: Touch) -> np.ndarray:
    _, finger, bone, along, dorsal, aside = touch
    chain, world = FINGER_CHAINS[finger], np.eye(3)
    for joint in range(chain.start, chain.start + bone + 1):
        world = world @ rotations[joint]
    assert MODEL_PARENTS[chain.start] == 0
    _, across, up = anatomy.frames[chain.start + bone] @ world.T
    first = 5 + 4 * finger + bone
    return joints[first] + along * (joints[first + 1] - joints[first]) + dorsal * up + aside * across


def main() -> None:
    """Print all of them."""
    anatomy = Anatomy.of(load("open"))
    for name in TOUCHES:
        thumb = solve(anatomy, name)
        overlap = 1e3 * poses.penetration(
            anatomy.pose(anatomy.rotations(np.array(gestures.GESTURES[name][:4], float), thumb))[None]
        )
        print(f"{name:22s} {tuple(int(round(a)) for a in thumb)}   overlap {overlap[0]:.1f} mm")


if __name__ == "__main__":
    main()
