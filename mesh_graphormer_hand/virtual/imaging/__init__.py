"""From the scene to a photograph: mesh rendering, shading, the sensor."""
