"""Files of predictions, anybody's, scored by an official protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import assembly
from .. import config as configs

if TYPE_CHECKING:
    from ..metrics.protocols.base import Scores


def score_files(
    protocol: str, truth: Path, predictions: Path, options: dict | None = None, skip_broken: bool = False
) -> Scores:
    """The scores of a file of predictions by the protocol of that name.

    Raises:
        ConfigError: no such protocol or option.
        ScoreError: a missing, damaged or mismatched file, or a broken sample.
    """
    from ..metrics.protocols.base import ScoreError

    module = assembly.plugin("protocols", protocol, where="--protocol")
    config = configs.parse(module.Config, options or {}, where=protocol)
    try:
        return module.score(truth, predictions, config, skip_broken)
    except (AttributeError, LookupError, TypeError) as error:  # whatever a file of another layout makes it stumble over
        raise ScoreError(
            f"{truth} or {predictions} is laid out otherwise than the protocol {protocol} reads it "
            f"({type(error).__name__}: {error}); docs/evaluation.md names the files"
        ) from error
