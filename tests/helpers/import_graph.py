"""The drawing of docs/architecture.md, from the imports:  python tests/helpers/import_graph.py"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "mesh_graphormer_hand"
BASE = {"contracts", "skeleton", "config", "files", "io", "paths", "json_stream"}  # drawn as one box


def edges() -> set[tuple[str, str]]:
    """(package, package that it imports), for those of the first level; the base files count as one."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        own = part(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))
        package = path.relative_to(ROOT).with_suffix("").parts[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                stem = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
                names = [stem] if node.module else [(*stem[:-1], alias.name) for alias in node.names]
                found |= {(own, part(name[1])) for name in names if len(name) > 1 and name[1]}
    known = {own for own, _ in found}
    return {(a, b) for a, b in found if a != b and b in known | {"base"} and a != "__init__"}


def part(name: str) -> str:
    return "base" if name in BASE else name


def reduced(graph: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges without those that a longer way stands for."""

    def reach(start: str, without: tuple[str, str]) -> set[str]:
        seen, queue = set(), [start]
        while queue:
            node = queue.pop()
            following = {b for a, b in graph if a == node and (a, b) != without} - seen
            seen |= following
            queue += following
        return seen

    return {edge for edge in graph if edge[1] not in reach(edge[0], edge)}


def drawing() -> str:
    """A Mermaid diagram: an arrow says "imports"."""
    lines = [f"    {a} --> {b}" for a, b in sorted(reduced(edges()))]
    return "\n".join(["flowchart TD", "    base[contracts, skeleton, config, files]", *lines])


if __name__ == "__main__":
    print(drawing())
