"""Peers: optimisers of other libraries as strategies."""
