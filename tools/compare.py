"""hand-compare from a checkout: see mesh_graphormer_hand/cli/compare.py, or --help."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mesh_graphormer_hand.cli.compare import main

if __name__ == "__main__":
    sys.exit(main())
