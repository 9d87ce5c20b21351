"""Register your MANO hand with the open hand, once:  hand-register --mano DIR  (python tools/register_hand.py).

Fits the map between the two surfaces and between their joints (mano/registration/fit.py), says how well it fits and
keeps it in mano_assets/, where evaluation and training find it by the hands' fingerprints. The file is made from your
licensed one: keep it to yourself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import console

GOOD_MM = 1.0  # mean distance of the surfaces above which the fit deserves a look


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and register; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-register", description=__doc__.splitlines()[0])
    parser.add_argument("--mano", metavar="PATH", required=True, help="MANO_RIGHT.pkl, or the folder that holds it")
    parser.add_argument("--hand", metavar="PATH", default="open", help="the other hand (default: the open hand)")
    parser.add_argument("--side", choices=("right", "left"), default="right")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to keep the map (default: mano_assets/)")
    arguments = parser.parse_args(argv)
    return console.run(lambda: register(arguments))


def register(arguments: argparse.Namespace) -> int:
    """Register with the options of the command line; see the module's docstring."""
    console.log_to_terminal()

    from ..config import ConfigError
    from ..mano import hand as hands
    from ..mano.registration import fit as registration_fit
    from ..mano.registration import map as registration

    first, second = hands.load(arguments.hand, arguments.side), hands.load(arguments.mano, arguments.side)
    if first.fingerprint == second.fingerprint:
        raise ConfigError(f"--mano {arguments.mano} and --hand {arguments.hand} are the same hand: nothing to register")
    made = registration_fit.fit(first, second)
    path = registration.save(made, arguments.out)
    q = made.quality
    print(f"{first.name} ({first.fingerprint_hex}) <-> {second.name} ({second.fingerprint_hex})")
    print(f"surfaces: {q['surface']:.2f} mm apart in the mean, {q['surface_max']:.2f} mm at most")
    before, after = q["joint_offset_forward"], q["joints_forward"]
    print(f"joints: {before:.2f} mm apart (root mean square), {after:.2f} mm after the map")
    if q["surface"] > GOOD_MM:
        print(f"note: above {GOOD_MM} mm; are both hands of the same side, and is the file MANO's own?")
    print(path)
    return 0
