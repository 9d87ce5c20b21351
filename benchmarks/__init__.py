"""Benchmarks of a checkout: speed and memory of training, inference, generation; not part of the wheel."""
