"""Regressors of scikit-learn for the digits problem, not yet trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel


def untrained_forest(seed: int) -> RandomForestRegressor:
    """Create the random forest of the digits problem."""
    return RandomForestRegressor(100, min_samples_leaf=2, random_state=seed)


def untrained_judge(seed: int) -> VotingRegressor:
    """Create an ensemble of three model families.

    Several families reduce the errors shared with the forest and the network.
    """
    kinds: Sequence[tuple[str, Any]] = [
        ("trees", ExtraTreesRegressor(100, random_state=seed)),
        (
            "boosting",
            GradientBoostingRegressor(
                n_estimators=300, max_depth=4, subsample=0.5, random_state=seed
            ),
        ),
        (
            "gp",
            GaussianProcessRegressor(
                RBF(3.0) + WhiteKernel(1e-2), optimizer=None, normalize_y=True
            ),
        ),
    ]
    return VotingRegressor(kinds)
