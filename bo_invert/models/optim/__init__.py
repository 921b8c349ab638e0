"""Optimisers of acquisition functions, initial designs and samplers."""
