"""Ctrl-C in the middle of a training that a test runs in its own process."""

import os
import signal
from collections.abc import Callable

import pytest

from mesh_graphormer_hand.training.trainer import Trainer


def interrupt_after_a_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make each step end in Ctrl-C; call what this returns and steps end as before."""
    step = Trainer.training_step

    def interrupted(trainer, batches):
        done = step(trainer, batches)
        os.kill(os.getpid(), signal.SIGINT)
        return done

    monkeypatch.setattr(Trainer, "training_step", interrupted)
    return lambda: monkeypatch.setattr(Trainer, "training_step", step)
