"""Strategies that wrap optimisers of other libraries."""
