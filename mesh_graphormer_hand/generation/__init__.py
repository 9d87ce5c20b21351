"""Generation: virtual samples written as files in the layouts of public data sets, resumable, audited."""
