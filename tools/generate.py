"""hand-generate from a checkout: see mesh_graphormer_hand/cli/generate.py, or --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli.generate import main

if __name__ == "__main__":
    sys.exit(main())
