"""The rasteriser: triangles, spans, z-buffer, in plain torch."""
