"""Predictions of outputs, losses and probabilities at any points of a study."""
