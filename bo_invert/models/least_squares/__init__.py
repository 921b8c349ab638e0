"""Models and solvers for vector targets, based on residuals."""
