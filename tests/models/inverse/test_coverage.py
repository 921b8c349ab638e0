"""Covered mass and branches of particles."""

from __future__ import annotations

import numpy as np

from bo_invert.models.inverse.coverage import Coverage

RNG = np.random.default_rng(0)
FIRST = np.array([0.2, 0.2]) + 0.02 * RNG.random((60, 2))
SECOND = np.array([0.8, 0.8]) + 0.02 * RNG.random((40, 2))
POINTS = np.concatenate([SECOND, FIRST])


def test_branches_are_numbered_by_mass() -> None:
    coverage = Coverage(POINTS, np.empty((0, 2)), 0.05)
    assert coverage.branches.tolist() == [1] * 40 + [0] * 60
    assert coverage.undiscovered_branches == 2
    assert coverage.uncovered_share == 1.0


def test_verified_designs_cover_their_branch() -> None:
    coverage = Coverage(POINTS, np.array([[0.21, 0.21]]), 0.05)
    assert coverage.undiscovered_branches == 1
    assert np.isclose(coverage.uncovered_share, 0.4)
    gain = coverage.gain(np.array([[0.81, 0.81], [0.21, 0.21], [0.5, 0.5]]), np.empty((0, 2)))
    assert np.allclose(gain, [0.4, 0.0, 0.0])


def test_pending_points_count_as_covering() -> None:
    coverage = Coverage(POINTS, np.empty((0, 2)), 0.05)
    candidate = np.array([[0.81, 0.81]])
    assert coverage.gain(candidate, candidate) == 0.0


def test_distance_is_a_root_mean_square() -> None:
    point = np.zeros((1, 4))
    near, far = np.full((1, 4), 0.049), np.full((1, 4), 0.051)
    assert Coverage(point, near, 0.05).covered.all()
    assert not Coverage(point, far, 0.05).covered.any()


def test_a_single_particle_is_no_branch() -> None:
    coverage = Coverage(np.concatenate([FIRST, [[0.9, 0.1]]]), FIRST[:1], 0.05)
    assert coverage.undiscovered_branches == 0
