"""Executors and supervised processes. An executor has ``submit(fn, *args) -> Future``."""
