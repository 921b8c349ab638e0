"""Test for noise in a log without repeated points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.noise_test import log_suggests_noise, neighbour_slope, noise_suspected
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


def test_points_of_a_level_set_are_no_evidence_of_noise() -> None:
    target = bi.Target(0.2, tolerance=0.002)
    rng = np.random.default_rng(0)
    angles, radii = rng.uniform(0.0, 6.28, 150), (0.2 + 0.002 * rng.uniform(-1, 1, 150)) ** 0.5
    at = radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for noise, suspected in ((0.0, False), (0.02, True)):
        problem = bi.Problem(bi.Box([-1.0] * 2, [1.0] * 2), lambda x: 0.0, target)
        study = bi.Study.create("s", problem)
        values = (at**2).sum(1) + noise * rng.standard_normal(150)
        study.add(list(at), values)
        history = History(study.journal.trials)
        assert log_suggests_noise(study.statement, history) is suspected
        free = replace(study.statement, objective=bi.Minimize())
        assert log_suggests_noise(free, history) is True
