"""Inference: hands from photos and videos: detectors, the predictor, its results, tracking, fast runtimes."""
