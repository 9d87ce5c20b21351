"""Evaluation numbers. The only place where metres become millimetres."""
