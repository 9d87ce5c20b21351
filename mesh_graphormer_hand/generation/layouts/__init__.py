"""Virtual hands as files: layouts that other programs read, written so that a kill at any moment loses nothing."""
