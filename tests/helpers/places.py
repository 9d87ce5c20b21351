"""Where the checkout and the reference data of the tests lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"  # numbers that other programs gave
TOY_TRAIN = ROOT / "tests" / "helpers" / "toy_train.py"  # trains the toy model in a process of its own
