"""The 21 joints: names, order, parents, mirror tables, fingertip conventions and the orders of other programs.

Canonical order (MANO for FreiHAND, OpenPose, COCO-WholeBody): wrist, then thumb, index, middle, ring and little finger,
each from its base to its tip.
"""

NUM_JOINTS, NUM_VERTICES = 21, 778
WRIST = 0
FINGERS = ("thumb", "index", "middle", "ring", "little")
JOINT_NAMES = (
    "wrist",
    *(f"thumb_{j}" for j in ("cmc", "mcp", "ip", "tip")),
    *(f"{f}_{j}" for f in FINGERS[1:] for j in ("mcp", "pip", "dip", "tip")),
)
PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
BONES = tuple((parent, child) for child, parent in enumerate(PARENTS) if parent >= 0)
PALM = (0, 1, 5, 9, 13, 17)  # joints that move as one: the wrist and the first joint of every finger
LEFT_RIGHT = "left", "right"  # sides of a person's own hands
TIPS = (4, 8, 12, 16, 20)  # canonical indices of the fingertips, thumb first
FINGER_COLOURS = ((230, 60, 60), (240, 160, 30), (80, 190, 60), (50, 130, 240), (170, 70, 220))  # RGB, thumb first

# MANO's 16 kinematic joints: wrist, index 1-3, middle 1-3, little 1-3, ring 1-3, thumb 1-3.
NUM_MODEL_JOINTS = 16
MODEL_JOINT_NAMES = (
    "wrist",
    *(f"{f}_{j}" for f in ("index", "middle", "little", "ring") for j in ("mcp", "pip", "dip")),
    *(f"thumb_{j}" for j in ("cmc", "mcp", "ip")),
)
MODEL_PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)

# canonical = source[permutation]
PERMUTATIONS = {
    "canonical": tuple(range(21)),  # FreiHAND, DexYCB, COCO-WholeBody, OneHand10K, Panoptic, Halpe, HInt, MediaPipe
    "interhand": (20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16),
    "rhd": (0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17),
    "mano": (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20),  # 16 joints, then 5 tips
}

# Mesh vertices that stand for the fingertips (thumb, index, middle, ring, little), by the program that uses them.
# They differ by 1-5 mm: compare joints only under one convention.
FINGERTIPS = {
    "manopth": (745, 317, 444, 556, 673),  # manopth (right hand), IntagHand; the open hand's own tips
    "manopth_left": (745, 317, 445, 556, 673),  # manopth (left hand), InterWild, MeshGraphormer's regressor
    "freihand": (744, 320, 443, 555, 672),  # FreiHAND's official wrapper
    "smplx": (744, 320, 443, 554, 671),  # smplx, HaMeR, YouTube-3D-Hands
}
