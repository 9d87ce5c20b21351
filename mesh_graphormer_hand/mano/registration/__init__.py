"""Registration: the map between the surfaces of two hand models."""
