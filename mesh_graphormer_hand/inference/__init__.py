"""Inference: hands from photos and videos: detectors, the predictor, its results, tracking, fast runtimes."""

BACKENDS = "auto", "onnx", "torch"  # how a network is computed, see `network.load_network`
EXPORT_FORMATS = "onnx", "torch", "hub"  # what `export.export_model` writes
