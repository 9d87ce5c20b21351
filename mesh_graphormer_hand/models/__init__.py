"""One file per architecture. A file is a model if it defines `Config` and `build`; its name is the registry."""
