"""One file per data set. A file is a data set if it defines `Config` and `build`; its name is the registry."""
