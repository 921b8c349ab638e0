"""Surrogates shared by the strategies: the only room that fits Gaussian processes with torch."""
