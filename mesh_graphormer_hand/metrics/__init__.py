"""Evaluation numbers. The only place where metres become millimetres."""

from .accumulator import Accumulator
from .measures import HIGHER_IS_BETTER, RANKING, HandMismatchError, per_sample

__all__ = ["HIGHER_IS_BETTER", "RANKING", "Accumulator", "HandMismatchError", "per_sample"]
