"""Where the project's own files lie, in a checkout and in an installed wheel alike."""

import re
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent


def shipped(name: str) -> Path:
    """The folder `name` ("configs", "mano_assets") inside the wheel, or next to the package in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name


CONFIGS = shipped("configs")
MANO_ASSETS = shipped("mano_assets")
WEIGHTS = PACKAGE / "weights"


def install_command(extra: str) -> str:
    """The command that installs an optional dependency of pyproject.toml. This package's name is on no index, so that
    of an installed wheel it names what the extra asks for."""
    if (CHECKOUT / "pyproject.toml").is_file():
        return f'pip install -e "{"." if Path.cwd() == CHECKOUT else CHECKOUT}[{extra}]"'
    try:
        required = metadata.requires("mesh-graphormer-hand") or []
    except metadata.PackageNotFoundError:  # copied, not installed
        required = []
    wanted = [r.partition(";")[0].strip() for r in required if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", r)]
    return "pip install " + " ".join(f'"{requirement}"' for requirement in wanted or [f"WHEEL[{extra}]"])
