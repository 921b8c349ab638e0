"""Benchmarks: strategies compared on problems with equal budgets, seeds and accounting."""
