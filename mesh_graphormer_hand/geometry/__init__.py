"""Pure tensor maths: rotations, cameras, crops, alignment, normals. Knows nothing of hands, models or files."""
