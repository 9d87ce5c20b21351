"""The layer diagram, executable: a module imports its own package or a strictly lower layer, and keeps the house rules.

Read from the syntax tree, so that imports inside functions count too.
"""

import ast
import importlib
from pathlib import Path

import pytest

from helpers.places import ROOT

PACKAGE = ROOT / "mesh_graphormer_hand"
NAME = PACKAGE.name
LAYERS = [  # bottom first; names on one line may not import each other
    {"contracts", "skeleton", "config", "files", "json_stream", "paths"},
    {"geometry"},
    {"layers", "backbones", "mano", "render"},
    {"models", "losses", "metrics", "virtual"},
    {"data"},
    {"assembly", "generation"},
    {"evaluation"},
    {"training", "inference"},
    {"cli"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
LEANS = {("config", "paths")}  # within a layer: a config lies at a path
PLUGINS = ("models/baselines", "data/datasets")
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path != PACKAGE / "__init__.py"]
TOOLS = sorted((ROOT / "tools").rglob("*.py"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST, path: Path) -> set[str]:
    """Absolute dotted names of everything that `path` imports, at any depth."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts[:-1]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, node.module) if node.module else base)
            found |= {f"{stem}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def own_imports(path: Path) -> set[str]:
    return {name for name in imports(ast.parse(path.read_text()), path) if name.startswith(f"{NAME}.")}


def may_import(own: str, other: str) -> bool:
    return other == own or RANK[other] < RANK[own] or (own, other) in LEANS


def test_every_part_has_a_layer():
    parts = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert parts <= set(RANK), f"name the layer of {sorted(parts - set(RANK))} in LAYERS"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_imports_point_down(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in own_imports(path):
        other = name.split(".")[1]
        if other in RANK:  # the rest are names in the package's own __init__, which is empty
            assert may_import(own, other), f"{own} (layer {RANK[own]}) may not know about {name} (layer {RANK[other]})"


def test_the_rule_can_fail():
    tree = ast.parse("def f():\n    from ..models import base\n    from .. import training\n    import tools.train")
    found = imports(tree, PACKAGE / "geometry" / "x.py")
    assert found == {f"{NAME}.models.base", f"{NAME}.training", "tools.train"}
    assert not may_import("geometry", "models") and not may_import("models", "losses") and may_import("cli", "training")


@pytest.mark.parametrize("group", PLUGINS)
def test_plugins_know_no_sibling(group):
    """Any file here can be deleted: a block that two share belongs to a lower layer."""
    siblings = {path.stem for path in (PACKAGE / group).glob("*.py")} - {"__init__", "base"}
    prefix = ".".join((NAME, *group.split("/")))
    for path in FILES:
        named = {name.removeprefix(prefix + ".").split(".")[0] for name in own_imports(path) if name.startswith(prefix)}
        assert not named & siblings, f"{relative(path)} imports the plug-in {sorted(named & siblings)}"


def test_models_are_known_by_name_only():
    for path in FILES:
        named = [name for name in own_imports(path) if name.startswith(f"{NAME}.models.mesh_graphormer")]
        assert not named, f"{relative(path)} imports a concrete model: go through assembly"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_imports_tools_or_tests(path):
    roots = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), path)}
    assert not roots & {"tools", "tests"}


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=relative)
def test_init_files_have_no_side_effect(path):
    """A docstring, or definitions: nothing that runs when the package is imported."""
    harmless = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "say in one line what the package owns"
    for node in tree.body[1:]:
        assert isinstance(node, harmless), f"line {node.lineno} runs on import"


@pytest.mark.parametrize("path", FILES + TOOLS, ids=relative)
def test_house_rules(path):
    """Short files and functions, a docstring each, logging instead of prints, any device, no swallowed error."""
    text = path.read_text()
    tree = ast.parse(text)
    talks = "cli" in path.relative_to(ROOT).parts or path in TOOLS
    assert text.count("\n") <= 500, "split the file"
    assert ast.get_docstring(tree), "say in one line what this file owns"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            assert getattr(node.func, "attr", "") != "cuda", f"line {node.lineno}: use .to(device)"
            assert talks or getattr(node.func, "id", "") != "print", f"line {node.lineno}: the package logs"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 80, f"{node.name} is too long"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_imports_alone(path):
    """With the shape checks of the tests switched on, too."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
