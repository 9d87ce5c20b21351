"""Build the open hand.   python -m tools.open_hand [--again | --keep FILE] [--out FILE] [--fast] [--pictures DIR]

Takes a few minutes on one core and needs the extra: pip install -e ".[open_hand]". Everything is computed from
formulas: the same machine builds the same arrays every time. Another processor or library version may round
differently, and the remesher turns a last bit into another triangulation. Such a hand is as good, but it is another
hand (its fingerprint differs), so a file that holds another one is only replaced if you say so. With --keep the
triangles, the numbers of the vertices and the skin weights are an earlier hand's: only places and directions are new.
So the shipped hand was made of the first one, and --again does it again, from the shipped file and `first`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

for library in ("OMP", "OPENBLAS", "MKL"):  # sums in one order, whatever the number of cores; before numpy reads them
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mesh_graphormer_hand import files  # noqa: E402

SHIPPED = Path(__file__).parents[2] / "mano_assets" / "open_hand.npz"
IDENTITY = ("faces", "v_template", "J_regressor")  # what the fingerprint is made of


def main(argv: list[str] | None = None) -> int:
    """Build, check, write, draw; the exit code is 1 if a check fails."""
    args = _arguments(argv)
    if importlib.util.find_spec("skimage") is None:
        print('building the open hand needs scikit-image: pip install -e ".[open_hand]"', file=sys.stderr)
        return 2
    from . import build, checks, first
    from .surface import Hand

    arrays: build.Arrays = {}
    if args.again:
        old = first.restored(_read(SHIPPED), _read(first.PLACES))
        names, stages = build.KEPT_STAGES, build.kept_stages(Hand(), arrays, old)
    elif args.keep:
        names, stages = build.KEPT_STAGES, build.kept_stages(Hand(), arrays, _read(args.keep))
    else:
        names, stages = build.STAGES, build.stages(Hand(), arrays, args.fast)
    bar = tqdm(stages, total=len(names), desc="open hand", unit="stage")
    for done, _ in enumerate(bar, 1):
        bar.set_postfix_str(f"{names[done - 1]} done")
    for failure in (failures := checks.failures(arrays)):
        print(f"FAILED  {failure}", file=sys.stderr)
    if failures:
        return 1
    if _another_hand(args.out, arrays) and not args.replace:
        print(
            f"{args.out} holds another hand, and weights trained on it would not know this one. "
            "Write elsewhere with --out, or give --replace.",
            file=sys.stderr,
        )
        return 1
    _write(args.out, arrays)
    print("all checks passed")
    if args.pictures:
        from . import pictures

        print(*pictures.save(args.out, args.pictures), sep="\n")
    print(args.out)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.open_hand", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=SHIPPED, help="default: %(default)s")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--again", action="store_true", help="build the shipped hand as it was built")
    kept.add_argument("--keep", type=Path, metavar="FILE", help="take triangles and skin weights from this hand")
    parser.add_argument("--fast", action="store_true", help="no finer render mesh: the template stands in for it")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="also draw it: six sides and three poses")
    parser.add_argument("--replace", action="store_true", help="replace a file that holds another hand")
    return parser.parse_args(argv)


def _another_hand(path: Path, arrays: dict[str, np.ndarray]) -> bool:
    if not path.exists():
        return False
    old = _read(path)
    return not all(name in old and np.array_equal(old[name], arrays[name]) for name in IDENTITY)


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with files.replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


if __name__ == "__main__":
    sys.exit(main())
