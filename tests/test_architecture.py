"""The layer diagram, executable: a module imports its own package or a strictly lower layer, and keeps the house rules.

Read from the syntax tree, so that imports inside functions count too.
"""

import ast
import functools
import importlib
from collections import Counter
from pathlib import Path

import pytest

from helpers import import_graph
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
MAX_PARAMETERS = 8  # of a function
MAX_FILES = 16  # of a folder, without __init__.py; folders of plug-ins may have more
# What still breaks a rule. Lists may only shrink: a row that is not needed any more fails, too.
CIRCLES: set[tuple[str, str]] = set()  # pairs of modules that import each other, directly or not
FOREIGN_PRIVATE_NAMES: dict[str, set[str]] = {}  # file -> underscore names of other packages
FULL_FOLDERS: dict[str, int] = {}  # folder -> files
MANY_PARAMETERS = {  # file:function -> parameters
    f"{NAME}/evaluation/evaluate.py:evaluate": 9,
    f"{NAME}/render/effects.py:soft_shadow": 9,
    f"{NAME}/render/shading.py:render": 9,
    f"{NAME}/render/shading.py:_render_chunk": 9,
    f"{NAME}/virtual/imaging/shading.py:draw_hands": 10,
}
PLUGINS = ("models/baselines", "data/datasets", "virtual/scene/objects")
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


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def own_imports(path: Path) -> frozenset[str]:
    return frozenset(name for name in imports(parsed(path), path) if name.startswith(f"{NAME}."))


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
    roots = {name.split(".")[0] for name in imports(parsed(path), path)}
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
    text, tree = path.read_text(), parsed(path)
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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_load(path: Path) -> set[str]:
    """Modules of the package that are imported when `path` is: not those inside functions or for type checks only."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not isinstance(node, ast.If)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = []
    known = {module_name(p) for p in FILES}
    found = set()
    for name in imports(tree, path):
        found |= {name} & known or {name.rpartition(".")[0]} & known
    return found - {NAME}


def test_no_circles_inside_a_package():
    """Also none that Python happens to get through."""
    graph = {module_name(path): imports_at_load(path) for path in FILES}
    graph = {
        name: {t for t in targets if t.split(".")[1] == name.split(".")[1]}
        for name, targets in graph.items()
        if name != NAME
    }

    def reachable(start: str) -> set[str]:
        seen, todo = set(), list(graph[start])
        while todo:
            if (name := todo.pop()) not in seen:
                seen.add(name)
                todo += graph[name]
        return seen

    reach = {name: reachable(name) for name in graph}
    circles = {(a, b) for a in graph for b in reach[a] if a <= b and a in reach[b]}
    assert circles == CIRCLES


def test_underscore_names_stay_in_their_package():
    found: dict[str, set[str]] = {}
    for path in FILES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in own_imports(path):
            _, other, *rest = name.split(".")
            if other != own and any(part.startswith("_") and not part.startswith("__") for part in rest):
                found.setdefault(relative(path), set()).add(name)
    assert found == FOREIGN_PRIVATE_NAMES


def test_folders_are_seen_at_a_glance():
    plugins = {f"{NAME}/{group}" for group in (*PLUGINS, "metrics/protocols")}
    files = Counter(relative(path.parent) for path in FILES if path.name != "__init__.py")
    full = {folder: n for folder, n in files.items() if n > MAX_FILES and folder not in plugins}
    assert_shrinks(full, FULL_FOLDERS, MAX_FILES)


def test_functions_take_few_parameters():
    found = {}
    for path in FILES + TOOLS:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                taken = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in taken if name not in ("self", "cls")])
                if count > MAX_PARAMETERS:
                    found[f"{relative(path)}:{node.name}"] = count
    assert_shrinks(found, MANY_PARAMETERS, MAX_PARAMETERS)


def assert_shrinks(found: dict[str, int], listed: dict[str, int], limit: int) -> None:
    """Nothing breaks a rule but what is listed, by no more than is listed, and all that is listed still does."""
    more = {name: n for name, n in found.items() if n > listed.get(name, limit)}
    assert not more, f"above {limit}"
    less = {name: found.get(name, 0) for name, n in listed.items() if found.get(name, 0) < n}
    assert not less, "change the list at the top of this file"


def test_lists_of_exceptions_only_shrink():
    assert_shrinks({"a": 9}, {"a": 9}, 8)
    for found in ({"a": 10}, {"a": 9, "b": 9}, {}):
        with pytest.raises(AssertionError):
            assert_shrinks(found, {"a": 9}, 8)


def test_the_drawing_is_of_today():
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert import_graph.drawing() in page, "python tests/helpers/import_graph.py draws it anew"
