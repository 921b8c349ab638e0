"""Example problems with known optima or judges; see ``bo_invert.ready_problem``."""
