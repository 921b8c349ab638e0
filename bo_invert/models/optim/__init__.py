"""Initial designs, duplicates, trust regions, and optimisers of acquisition functions."""
