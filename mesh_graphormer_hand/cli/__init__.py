"""Console commands: thin verbs over `assembly`, `engine` and `predictor`."""
