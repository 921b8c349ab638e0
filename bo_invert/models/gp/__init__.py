"""Exact Gaussian processes: kernels, hyperparameters, posteriors, surrogates."""
