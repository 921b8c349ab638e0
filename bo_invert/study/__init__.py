"""Studies: ask, tell, run."""
