"""Samples in, HandBatch out. Knows files and augmentation, never which model will read the batch."""
