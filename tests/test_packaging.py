"""What a stranger installs: the wheel's contents, and that the four places that name a dependency agree."""

import ast
import functools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.places import ROOT
from mesh_graphormer_hand import paths

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "matplotlib-base": "matplotlib",
    "py-opencv": "opencv-python-headless",
    "pytorch": "torch",
    "pytorch_geometric": "torch-geometric",
}
IMPORT_NAMES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}  # where they differ from the package's
CONDA_ONLY = {"python", "pip", "pytorch3d"}
PIP_ONLY = {"mediapipe"}  # its makers build no conda package
OPTIONAL = {"pytorch3d", "manopth", "mediapipe", "pillow-heif"}  # imported where a user has them
TOOLING = {"hatchling", "pre-commit", "pytest-timeout", "pytest-xdist", "ruff"}  # run
TOOLING |= {"tensorboard"}  # imported by another package
TOOLING |= {"gradio", "onnx", "onnxruntime", "onnxscript"}  # imported by name where a user has them


def requirements(*extras: str) -> dict[str, Requirement]:
    """Package name -> requirement, of the package itself and the named extras."""
    lines = PROJECT["dependencies"] + [r for extra in extras for r in PROJECT["optional-dependencies"][extra]]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


EVERYTHING = requirements(*PROJECT["optional-dependencies"])


@functools.cache
def imported_names(folder: str) -> frozenset[str]:
    """The first parts of all that is imported anywhere below `folder` by an absolute name."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module.split(".")[0])
    return frozenset(found)


def imported_packages(*folders: str) -> set[str]:
    """Third-party packages imported anywhere below `folders`, by the name under which they are installed."""
    found = set().union(*(imported_names(folder) for folder in folders))
    ours = {"mesh_graphormer_hand", "benchmarks", "helpers", "tools", "tests"} | {
        p.stem for p in (ROOT / "tests").glob("*.py")
    }
    return {canonicalize_name(IMPORT_NAMES.get(n, n)) for n in found - set(sys.stdlib_module_names) - ours}


def test_every_import_is_declared():
    """The package stands on its own dependencies; tools and tests may also use the extras."""
    assert imported_packages("mesh_graphormer_hand") - OPTIONAL <= set(requirements())
    assert imported_packages("tools", "benchmarks", "tests") - OPTIONAL <= set(EVERYTHING)


def test_everything_declared_is_imported():
    unused = set(EVERYTHING) - imported_packages("mesh_graphormer_hand", "benchmarks", "tools", "tests") - TOOLING
    assert not unused, f"pyproject.toml asks for {sorted(unused)}, which nothing imports"


def test_pins_lie_in_the_ranges():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    assert set(EVERYTHING) <= set(pins), "a dependency without a tested version"
    for name, requirement in EVERYTHING.items():
        assert Version(pins[name]) in requirement.specifier, name


def test_environment_yml_asks_for_the_same_ranges():
    entries = OmegaConf.to_container(OmegaConf.load(ROOT / "environment.yml"))["dependencies"]
    assert all(isinstance(e, str) for e in entries), "a `pip:` part is a requirements file, which knows no --no-deps"
    conda = {}
    for entry in entries:
        requirement = Requirement(entry)
        conda[canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))] = requirement.specifier
    assert set(conda) - CONDA_ONLY == set(EVERYTHING) - PIP_ONLY
    assert "pytorch3d" in conda
    for name in set(EVERYTHING) - PIP_ONLY:
        assert conda[name] == EVERYTHING[name].specifier, name
    (told,) = re.findall(r'pip install "(mediapipe.*?)"', (ROOT / "environment.yml").read_text())
    assert Requirement(told).specifier == EVERYTHING["mediapipe"].specifier
    assert Version("3.11") in conda["python"] and PROJECT["requires-python"] == ">=3.11"


def test_pre_commit_runs_the_tested_ruff():
    pin = re.search(r"^ruff==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"rev: v{pin}" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_makefile_looks_for_torch_in_the_declared_range():
    makefile = (ROOT / "Makefile").read_text()
    low, high = re.search(r"\[(\d+, \d+)\] <= v < \[(\d+, \d+)\]", makefile).groups()
    assert str(EVERYTHING["torch"].specifier) == f"<{high.split(',')[0]},>={low.replace(', ', '.')}"


def test_console_commands_exist():
    for command, target in PROJECT["scripts"].items():
        module, function = target.split(":")
        tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, command


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    """A freshly built wheel, unpacked as an installer would."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(out), str(ROOT)], check=True, capture_output=True, timeout=120)
    (path,) = out.glob("*.whl")
    zipfile.ZipFile(path).extractall(out / "site")
    return out / "site"


@pytest.fixture(scope="module")
def wheel(unpacked) -> set[str]:
    """The names of the files in it."""
    return {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}


def test_what_is_missing_can_be_installed_from_a_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert paths.install_command("page") == 'pip install -e ".[page]"'
    monkeypatch.chdir(tmp_path)
    assert paths.install_command("page") == f'pip install -e "{ROOT}[page]"'


def test_no_hint_names_a_package_that_is_on_no_index():
    said = [p for f in ("mesh_graphormer_hand", "docs") for p in (ROOT / f).rglob("*.*") if p.suffix in (".py", ".md")]
    assert not [p for p in (*said, ROOT / "README.md") if 'install "mesh-graphormer-hand' in p.read_text()]


def test_wheel_carries_what_it_needs_outside_the_checkout(wheel):
    """paths.py finds configs, the open hand and the weights inside the installed package."""
    package = ROOT / "mesh_graphormer_hand"
    expected = {f"mesh_graphormer_hand/{p.relative_to(package)}" for p in package.rglob("*.py")}
    expected |= {f"mesh_graphormer_hand/{p.relative_to(ROOT)}" for p in (ROOT / "configs").rglob("*.yaml")}
    expected |= {f"mesh_graphormer_hand/{p.relative_to(package)}" for p in (package / "weights").rglob("*.*")}
    expected.add("mesh_graphormer_hand/mano_assets/open_hand.npz")
    assert expected <= wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_wheel_carries_nothing_else(wheel):
    """No tests, no tools, and above all no licensed hand that a user has dropped into mano_assets/."""
    assert {name.split("/")[0].split("-")[0] for name in wheel} <= {"mesh_graphormer_hand"}
    assert not [name for name in wheel if "MANO_" in name or name.endswith((".pkl", ".pyc"))]


def test_installed_package_finds_its_own_files(unpacked, tmp_path):
    """Away from the checkout: configs by name, the open hand, a console command that says what is wrong."""
    code = """
from mesh_graphormer_hand import config, paths
from mesh_graphormer_hand.cli.train import main
from mesh_graphormer_hand.mano import hand
print(paths.PACKAGE)
print(hand.load("open").name, config.load("graphormer_lite").model["name"])
print(main(["graphormer_lite", "train.stps=1"]))
print(paths.install_command("page"))
"""
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == [str(unpacked / "mesh_graphormer_hand"), "open graphormer_lite", "2"]
    assert "did you mean 'steps'" in done.stderr
    assert done.stdout.split("\n")[3] == 'pip install "gradio<7,>=6"', "of an index: this package's name is on none"
    assert not list(tmp_path.iterdir())
