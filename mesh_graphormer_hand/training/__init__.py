"""Training. Knows contracts, losses and metrics, never a concrete model or data set."""
