"""Names that have to be read from the body are not used in packages that are clean; a constant has one meaning.

Read from the syntax tree: identifiers only, no text.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from helpers.places import ROOT

PACKAGE = ROOT / "mesh_graphormer_hand"
# Say what it is: a count, a size, a limit with its unit; given, message, positions, kept ...
BANNED = {"told", "said", "look", "looks", "places", "rest", "things", "ink", "worn", "prop"}
BANNED |= {"MOST", "LEAST", "FEW", "MANY", "REACH", "ROOM", "TOGETHER", "TWINS", "YOUNG", "PATIENCE", "TOLD"}
# Files and folders whose names are in order; a package joins the list when it is done, and the list ends as {""}.
CLEAN = (
    "training",
    "virtual",
    "generation",
    "data",
    "evaluation",
    "losses",
    "metrics",
    "models",
    "layers",
    "backbones",
)
CLEAN += (
    "inference",
    "cli",
    "render",
    "benchmarks",
    "config.py",
    "contracts.py",
    "assembly.py",
    "files.py",
    "paths.py",
)
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]+")
FILES = sorted(PACKAGE.rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(PACKAGE if path in FILES else ROOT))


def clean_files() -> list[Path]:
    return [p for p in (*FILES, *BENCHMARKS) if relative(p).startswith(CLEAN)]


def names(tree: ast.AST) -> set[str]:
    """Every name that a file gives: functions, classes, parameters, variables, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def constants(tree: ast.Module) -> dict[str, str]:
    """All-caps names at the top of a file, with the expression that each stands for."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {
                t.id: ast.dump(node.value) for t in targets if isinstance(t, ast.Name) and CONSTANT.fullmatch(t.id)
            }
    return found


@pytest.mark.parametrize("path", clean_files(), ids=relative)
def test_no_riddles(path):
    bad = {name for name in names(ast.parse(path.read_text())) if name.strip("_") in BANNED}
    assert not bad, f"{sorted(bad)}: use the field's word"


def test_a_constant_has_one_value():
    """Two files that give one name different values are read as if they agreed."""
    values = defaultdict(dict)
    for path in FILES:
        for name, value in constants(ast.parse(path.read_text())).items():
            values[name].setdefault(value, relative(path))
    twice = {name: sorted(where.values()) for name, where in values.items() if len(where) > 1}
    assert not twice


def test_the_rules_can_fail():
    tree = ast.parse("MOST = 3\ndef f(told):\n    self._said = 1\n")
    assert {name for name in names(tree) if name.strip("_") in BANNED} == {"MOST", "told", "_said"}
    assert constants(ast.parse("A = 1\nLIMIT_PX: int = 2\nlower = 3")) == {
        "LIMIT_PX": ast.dump(ast.parse("2").body[0].value)
    }
