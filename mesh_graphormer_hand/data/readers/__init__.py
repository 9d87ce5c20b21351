"""Readers of label files: annotations, splits, indexes, checks, and the data set that they make."""
