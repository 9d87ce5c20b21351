"""What every test shares: a fixed seed, one torch thread a process (the suite runs one process a core), no network."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch, which read it once, when they load
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing in the suite may look for weights on a hub

import cv2
import numpy as np
import pytest
import torch

torch.set_num_threads(1)
cv2.setNumThreads(1)  # a forked process that inherits a pool of threads waits for them for ever


def pytest_collection_finish():
    """What has been imported stays: no test's garbage collection looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seed():
    """Each test starts from the same random state, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


def pytest_collection_modifyitems(config, items):
    """Skip, with the reason, what this machine cannot run."""
    missing = {
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
        "pytorch3d": None if _importable("pytorch3d") else "PyTorch3D is not installed (environment.yml brings it)",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and marker in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
