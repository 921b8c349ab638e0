"""Bayesian linear models on the sphere."""
