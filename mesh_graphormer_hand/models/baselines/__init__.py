"""Systems to compare with, one file each; any one can be deleted."""
