"""Cells of stepwise functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bo_invert.models.inverse.step_cells import StepCells
from bo_invert.types import Array


def stepwise(x: Array, thresholds: Array) -> Array:
    """Return outputs ``(n, 1)`` that change at each threshold ``(d, k)``."""
    return np.asarray(
        [(x[:, [j]] > own).sum(1) * 10.0**-j for j, own in enumerate(thresholds)]
    ).sum(0)[:, None]


def test_density_is_that_of_the_thresholds() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([c + 0.05 * rng.random((12, 2)) for c in rng.random((8, 2))])
    thresholds = rng.random((2, 30))
    cells = StepCells.fit(x, stepwise(x, thresholds), np.zeros(len(x), dtype=bool))
    assert cells.stepwise
    assert 15.0 < cells.density < 60.0


def test_outputs_without_ties_have_no_cells() -> None:
    x = np.random.default_rng(0).random((30, 2))
    cells = StepCells.fit(x, x.sum(1, keepdims=True), x[:, 0] > 0.5)
    assert not cells.stepwise
    logs = torch.tensor([-1.0, -2.0])
    assert torch.equal(cells.log_mixture(torch.zeros(2, 2), logs), logs)


def test_points_near_an_observation_share_its_output() -> None:
    x = np.array([[0.0, 0.0], [1.0, 1.0]])
    cells = StepCells(x, np.array([True, False]), 10.0)
    at = torch.tensor([[0.0, 0.1], [1.0, 0.9], [0.001, 0.0], [0.999, 1.0]], dtype=torch.float64)
    chance = torch.full((4,), 0.3, dtype=torch.float64)
    own = cells.log_mixture(at, chance.log()).exp().numpy()
    same = np.exp(-10.0 * np.array([0.1, 0.1, 0.001, 0.001]))
    expected = (1.0 - same) * 0.3 + same * np.array([1.0, 0.0, 1.0, 0.0])
    assert own == pytest.approx(expected)
