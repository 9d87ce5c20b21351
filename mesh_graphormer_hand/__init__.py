"""A hand in 3D from one picture: 778 mesh vertices, 21 joints and the camera.

Nothing is imported here on purpose: `import mesh_graphormer_hand` costs nothing. README.md shows the layers.
"""
