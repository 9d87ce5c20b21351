"""Supervised terms: pure functions that give one value per sample."""
