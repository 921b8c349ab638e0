"""Checks of a problem before a study, within a call budget, and advice on a strategy."""
