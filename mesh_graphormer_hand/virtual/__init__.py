"""Virtual hands: samplers of pose, shape, skin, light, camera and background -> images with every label."""
