"""Exact Gaussian processes: kernels, hyperparameters, posteriors and surrogates."""
