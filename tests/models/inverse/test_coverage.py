"""Covered mass and branches of particles."""

from __future__ import annotations

import numpy as np

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.inverse.coverage import Coverage
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model

RNG = np.random.default_rng(0)
FIRST = np.array([0.2, 0.2]) + 0.02 * RNG.random((60, 2))
SECOND = np.array([0.8, 0.8]) + 0.02 * RNG.random((40, 2))
POINTS = np.concatenate([SECOND, FIRST])
LABELS = np.array([1] * 40 + [0] * 60)
NONE = np.empty(0, dtype=int)
LABEL = np.array([0]), np.array([1])


def test_all_branches_are_undiscovered_without_verified_designs() -> None:
    coverage = Coverage(POINTS, np.empty((0, 2)), 0.05, LABELS, NONE)
    assert coverage.masses.tolist() == [0.6, 0.4]
    assert coverage.undiscovered_branches == 2
    assert coverage.uncovered_share == 1.0


def test_verified_designs_cover_their_branch() -> None:
    coverage = Coverage(POINTS, np.array([[0.21, 0.21]]), 0.05, LABELS, np.array([0]))
    assert coverage.undiscovered_branches == 1
    assert np.isclose(coverage.uncovered_share, 0.4)
    gain = coverage.gain(np.array([[0.81, 0.81], [0.21, 0.21], [0.5, 0.5]]), np.empty((0, 2)))
    assert np.allclose(gain, [0.4, 0.0, 0.0])


def test_a_far_verified_design_discovers_its_branch() -> None:
    coverage = Coverage(POINTS, np.array([[0.4, 0.4]]), 0.05, LABELS, np.array([1]))
    assert coverage.undiscovered_branches == 1
    assert coverage.uncovered_share == 1.0


def test_pending_points_count_as_covering() -> None:
    coverage = Coverage(POINTS, np.empty((0, 2)), 0.05, LABELS, NONE)
    candidate = np.array([[0.81, 0.81]])
    assert coverage.gain(candidate, candidate) == 0.0


def test_distance_is_a_root_mean_square() -> None:
    point = np.zeros((1, 4))
    near, far = np.full((1, 4), 0.049), np.full((1, 4), 0.051)
    assert Coverage(point, near, 0.05, *LABEL).covered.all()
    assert not Coverage(point, far, 0.05, *LABEL).covered.any()


def test_a_single_particle_counts_to_the_nearest_branch() -> None:
    problem = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), lambda x: x[0] - x[1], bi.Target(0.0, tolerance=0.01)
    )
    study = bi.Study.create("s", problem, "sobol", seed=0).run(20, stop_when_hit=False)
    fit = fit_target_model(study.statement, History(study.journal.trials), TargetOptions())
    line = np.repeat(np.linspace(0.2, 0.8, 50)[:, None], 2, axis=1)
    points = np.concatenate([line, [[0.9, 0.1]]])
    coverage = Coverage.of(fit.model, points, line[:1], 0.05)
    assert coverage.masses.tolist() == [1.0, 0.0][: len(coverage.masses)]
    assert coverage.undiscovered_branches == 0
