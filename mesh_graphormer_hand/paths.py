"""Where the project's own files lie, in a checkout and in an installed wheel alike."""

from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent


def shipped(name: str) -> Path:
    """The folder `name` ("configs", "mano_assets") inside the wheel, or beside the package in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else CHECKOUT / name


CONFIGS = shipped("configs")
MANO_ASSETS = shipped("mano_assets")
WEIGHTS = PACKAGE / "weights"
