"""Train one configuration:  hand-train graphormer_lite train.steps=2000   (python tools/train.py in a checkout).

The run goes to runs/NAME, NAME being the config file's unless train.name says otherwise. The same command again goes on
from the last checkpoint there.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from .. import config as configs
from . import console

logger = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train; returns the exit code."""
    parser = argparse.ArgumentParser(prog="hand-train", description=__doc__.splitlines()[0])
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped one (graphormer_lite)")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="settings, such as train.steps=100")
    parser.add_argument("--fresh", action="store_true", help="set the run's folder aside and start over")
    arguments = parser.parse_intermixed_args(argv)
    return console.run(lambda: train(arguments.config, arguments.overrides, arguments.fresh))


def train(config: str, overrides: list[str], fresh: bool = False) -> int:
    """Train as the command line says; see the module's docstring."""
    experiment = configs.load(config, overrides)
    folder = Path(experiment.train.output) / (experiment.train.name or configs.find(config).stem)
    console.log_to_terminal()

    import torch  # after the config, so that its mistakes are told at once

    from .. import assembly
    from ..engine import evaluate, train
    from ..mano.template import hand_template

    assembly.check(experiment)
    accelerator = train.make_accelerator(experiment)
    if accelerator.is_main_process:
        prepare_folder(folder, fresh)
    else:
        console.only_warnings()
    accelerator.wait_for_everyone()
    hand = assembly.load_hand(experiment)
    parts = accelerator.num_processes * experiment.train.accumulate
    device = accelerator.device if experiment.data.on_device else "cpu"
    stream = assembly.build_stream(experiment, hand, parts, device)
    tests = assembly.build_tests(experiment, hand)
    torch.manual_seed(experiment.train.seed)
    model = assembly.build_model(experiment, hand)
    if experiment.train.init:
        taken = assembly.warm_start(model, experiment.train.init, experiment.train.init_parts)
        logger.info("starts from %s: %d tensors of %d", experiment.train.init, taken, len(model.state_dict()))
    template = hand_template(hand, model.coarse)
    train.fit(
        model,
        stream,
        experiment,
        folder,
        template=template,
        accelerator=accelerator,
        tests=tests,
        references={"mean_pose": evaluate.MeanPose(template)},
    )
    if accelerator.is_main_process:
        print(folder)
    return 0


def prepare_folder(folder: Path, fresh: bool) -> None:
    """Make the run's folder; `fresh` renames one that is there."""
    if fresh and folder.exists():
        aside = folder.with_name(f"{folder.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
    folder.mkdir(parents=True, exist_ok=True)
