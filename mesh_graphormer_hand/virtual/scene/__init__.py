"""What is in the scene: forearm, objects, people, camera, light, background."""
