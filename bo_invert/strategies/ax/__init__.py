"""Ax as a strategy, and conversions between studies and Ax clients."""
