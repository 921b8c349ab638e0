"""Shortest steps in a linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bo_invert.models.inverse.least_norm import least_norm_steps


@pytest.mark.parametrize(("entries", "dim"), [(2, 5), (9, 3)])
def test_steps_are_shortest_and_arrays_and_tensors_agree(entries: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((4, entries, dim))
    slopes[1] = 0.0
    residuals = (slopes @ rng.standard_normal((4, dim, 1)))[..., 0]
    ridge = np.full(4, 1e-10)
    steps = least_norm_steps(slopes, residuals, ridge)
    expected = (np.linalg.pinv(slopes) @ residuals[..., None])[..., 0]
    np.testing.assert_allclose(steps, expected, atol=1e-7)
    tensors = (torch.tensor(part) for part in (slopes, residuals, ridge))
    np.testing.assert_allclose(least_norm_steps(*tensors).numpy(), steps, atol=1e-9)
    assert least_norm_steps(slopes[:0], residuals[:0], ridge[:0]).shape == (0, dim)
