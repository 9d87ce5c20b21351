"""The official evaluations of data sets and benchmarks: prediction files in, the official scores out."""
