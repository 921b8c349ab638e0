"""Posterior of designs given a target: particles, information of calls, branches."""
