"""Generic network blocks: attention, graph convolution. No knowledge of hands."""
