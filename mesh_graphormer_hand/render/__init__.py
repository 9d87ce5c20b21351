"""Meshes -> pictures: batched rasteriser, shading, overlays."""
