"""Test for noise in a log without repeated points."""

from __future__ import annotations

import numpy as np

from bo_invert.models.noise_test import neighbour_slope, noise_suspected
from bo_invert.types import Array


def cluster(n: int = 60, d: int = 4) -> Array:
    """Points at log-uniform distances from a centre, as of a search that converges."""
    rng = np.random.default_rng(0)
    away = rng.normal(size=(n, d))
    away /= np.linalg.norm(away, axis=1)[:, None]
    return np.asarray(0.5 + 10.0 ** rng.uniform(-2.5, -1.0, (n, 1)) * away)


def bowl(x: Array) -> Array:
    return np.asarray(((x - 0.45) ** 2).sum(1, keepdims=True))


def test_noise_differs_from_slopes_and_ripples() -> None:
    x = cluster()
    noise = np.random.default_rng(1).normal(size=(len(x), 1))
    assert noise_suspected(x, bowl(x) + 0.1 * noise)
    assert not noise_suspected(x, bowl(x))
    assert not noise_suspected(x, np.cos(40.0 * x).sum(1, keepdims=True))
    slope, error = neighbour_slope(x, x[:, :1])
    assert abs(slope - 1.0) < 3.0 * error


def test_outputs_are_pooled() -> None:
    x = cluster()
    noise = np.random.default_rng(1).normal(size=(len(x), 3))
    assert noise_suspected(x, bowl(x) + 0.1 * noise)


def test_sparse_points_and_equal_values_are_no_evidence() -> None:
    x, rng = cluster(), np.random.default_rng(1)
    noise = rng.normal(size=(len(x), 1))
    assert not noise_suspected(x, np.round(noise))
    sparse = rng.uniform(size=(60, 8))
    assert neighbour_slope(sparse, noise) == (np.inf, np.inf)
    assert not noise_suspected(sparse, noise)
    assert not noise_suspected(x[:3], noise[:3])
