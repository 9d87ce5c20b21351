"""Who hands belong to: a population of women, men and children, as means and deviations of the builder's controls.

Adults: hand length, and breadth, thickness (circumference less twice the breadth), wrist circumference and palm length
relative to it, with their correlations, computed from the public data of ANSUR II (Gordon et al., "2012 anthropometric
survey of U.S. Army personnel", Natick/TR-15/007: 4,082 men, 1,986 women). Finger and thumb breadths and the lengths of
the single digits: British adults (Pheasant and Haslegrave, "Bodyspace", 2006, hand dimensions). Children: hand length
grows about evenly from 7 to 17 years (Snyder et al., "Anthropometry of infants, children and youths to age 18",
UM-HSRI-77-17, 1977); their proportions are taken to be those of women and men alike, as no table of theirs was at
hand. What no table has (prominence of joints, thenar, hypothenar, taper) has deviations of our own.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SHARES = {"women": 0.42, "men": 0.42, "children": 0.16}
SAMPLES, SEED = 20000, 0
# mean and deviation: hand length (mm); breadth, thickness, wrist circumference and palm length over hand length
MEASURES = ("length", "breadth", "thickness", "wrist", "palm")
MEANS = {
    "men": np.array([193.3, 0.4572, 0.1853, 0.9113, 0.6028]),
    "women": np.array([181.1, 0.4322, 0.1673, 0.8561, 0.6006]),
}
SPREADS = {
    "men": np.array([9.95, 0.0211, 0.0208, 0.0444, 0.0203]),
    "women": np.array([10.05, 0.0210, 0.0226, 0.0438, 0.0188]),
}
CORRELATIONS = np.array(  # of men; women's differ by less than 0.1
    [
        [1.00, -0.48, -0.22, -0.48, -0.27],
        [-0.48, 1.00, 0.14, 0.68, 0.16],
        [-0.22, 0.14, 1.00, 0.40, 0.14],
        [-0.48, 0.68, 0.40, 1.00, 0.19],
        [-0.27, 0.16, 0.14, 0.19, 1.00],
    ]
)
CHILD_LENGTHS, CHILD_SPREAD = (128.0, 182.0), 7.0  # mm, at 7 and at 17 years
MIDDLE = 0.5 * (MEANS["men"] + MEANS["women"])  # what the controls' 1.0 stands for
# over hand length, men and women: breadth of the index at its middle joint, of the thumb; deviation of both
FINGER_BREADTH, FINGER_SPREAD = (21 / 189, 18 / 174), 0.05
THUMB_BREADTH, THUMB_SPREAD = (23 / 189, 19 / 174), 0.07
OWN = {  # deviation of each control about 1, independent of all others
    "index_len": 0.025,
    "ring_len": 0.025,
    "little_len": 0.04,
    "thumb_len": 0.05,
    "distal_len": 0.05,
    "taper": 0.05,
    "joint_bulge": 0.5,
    "thenar": 0.08,
    "hypothenar": 0.07,
    "knuckle": 0.5,
}
CONTROLS = (
    *("hand_length", "finger_len", "palm_len", "palm_width", "palm_depth", "wrist", "finger_girth", "thumb_girth"),
    *OWN,
)


def sample(count: int = SAMPLES, seed: int = SEED) -> Float[np.ndarray, "n 18"]:
    """Controls of `count` people, columns in the order of CONTROLS."""
    rng = np.random.default_rng(seed)
    group = rng.choice(len(SHARES), count, p=list(SHARES.values()))
    man = np.where(group == 2, rng.random(count) < 0.5, group == 1)
    z = rng.normal(size=(count, len(MEASURES))) @ np.linalg.cholesky(CORRELATIONS).T
    measures = np.where(man[:, None], MEANS["men"] + z * SPREADS["men"], MEANS["women"] + z * SPREADS["women"])
    age = rng.random(count)
    child = CHILD_LENGTHS[0] + age * np.ptp(CHILD_LENGTHS) + CHILD_SPREAD * z[:, 0]
    measures[:, 0] = np.where(group == 2, child, measures[:, 0])
    length, breadth, thickness, wrist, palm = measures.T
    palm = palm / MIDDLE[4]
    columns = [length, (1 - palm * MIDDLE[4]) / (1 - MIDDLE[4]), palm, breadth / MIDDLE[1], thickness / MIDDLE[2]]
    columns.append(wrist / MIDDLE[3])
    for (men, women), spread in ((FINGER_BREADTH, FINGER_SPREAD), (THUMB_BREADTH, THUMB_SPREAD)):
        columns.append(np.where(man, men, women) / (0.5 * (men + women)) + spread * rng.normal(size=count))
    columns += [1 + spread * rng.normal(size=count) for spread in OWN.values()]
    return np.stack(columns, 1)


def covariance() -> tuple[Float[np.ndarray, "18"], Float[np.ndarray, "18 18"]]:
    """Mean and covariance of the population's controls."""
    people = sample()
    return people.mean(0), np.cov(people.T)
