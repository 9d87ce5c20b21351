"""hand-train with the toy plug-ins of this folder, as a program:  python tests/helpers/toy_train.py CONFIG ..."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

PLUGINS = {"models": {"toy": "helpers.toy_model"}, "datasets": {"toy": "helpers.toy_data"}}
CONFIG = {
    "model": {"name": "toy"},
    "data": {
        "train": {"toy": {}},
        "test": {"toy": {"samples": 10}},
        "image_size": 16,
        "workers": 0,
        "augment": {"enabled": False},
    },
    "train": {
        "steps": 30,
        "batch_size": 4,
        "accumulate": 1,
        "precision": "fp32",  # on every machine
        "ema": 0.9,
        "optimizer": {"name": "adamw", "lr": 0.003, "warmup": 3, "schedule": "cosine", "weight_decay": 0.01},
        "losses": {"joints": 100.0},
        "checkpoint_every": 5,
        "threads": 1,
    },
}


def with_toys(available):
    """`assembly.available` that also knows the toys."""
    return lambda group: {**available(group), **PLUGINS.get(group, {})}


if __name__ == "__main__":
    from mesh_graphormer_hand import assembly
    from mesh_graphormer_hand.cli.train import main

    assembly.available = with_toys(assembly.available)
    sys.exit(main())
