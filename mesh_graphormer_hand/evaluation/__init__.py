"""Evaluation: predictions of a model over a data set, their scores, tables, pictures and files."""
