"""Models and solvers for vector targets, from residuals."""
