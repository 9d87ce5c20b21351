"""Supervised terms: pure functions without parameters that give one float32 value per sample (see `registry`)."""

from .registry import TERMS, Context, Term, check_terms, supervised_losses

__all__ = ["TERMS", "Context", "Term", "check_terms", "supervised_losses"]
