"""The hand itself: layer, file format, template, coarse mesh. The only reader of mano_assets/."""
