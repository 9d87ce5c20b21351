"""A comparison of systems: rows trained on equal terms, scored on the same columns, written as one table."""
