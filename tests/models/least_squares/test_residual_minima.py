from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.parameters import Float
from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.least_squares.residual_gp import (
    _select_evaluations,
    fit_residual_model,
    sums_of_squares,
)
from bo_invert.models.least_squares.residual_minima import ResidualSearch, _distances
from bo_invert.types import Array

BOX = box_domain({"a": Float(0.0, 1.0), "b": Float(0.0, 1.0)})
NONE = np.empty((0, 2))


def residuals(x: Array) -> Array:
    """Zero at (0.3, 0.7) only; more outputs than inputs."""
    a, b = x[:, 0], x[:, 1]
    return np.column_stack(
        [np.sin(3 * a) - np.sin(0.9), np.exp(a - b) - np.exp(-0.4), a * b - 0.21]
    )


def grid(n: int = 24) -> Array:
    return BOX.sobol(np.random.default_rng(0), n)


def search(
    points: Array,
    missed: Array | None = None,
    excesses: Array | None = None,
    failed: Array = NONE,
    domain: Domain = BOX,
) -> ResidualSearch:
    missed = residuals(points) if missed is None else missed
    excesses = np.empty((len(points), 0)) if excesses is None else excesses
    model, _ = fit_residual_model(to_unit(domain, points), missed, excesses)
    best = np.argsort(sums_of_squares(missed, excesses), kind="stable")
    return ResidualSearch(domain, model, points[best], failed)


def test_proposes_where_residuals_vanish() -> None:
    (found,) = search(grid()).propose(1, [], np.random.default_rng(1))
    assert found == pytest.approx([0.3, 0.7], abs=0.02)


def test_a_batch_is_distinct() -> None:
    points = grid()
    found = np.array(search(points).propose(4, [np.array([0.3, 0.7])], np.random.default_rng(1)))
    everything = np.concatenate([points, found, [[0.3, 0.7]]])
    gaps = np.linalg.norm(everything[:, None] - everything[None], axis=2) + np.eye(len(everything))
    assert gaps.min() > 1e-9


def test_an_explored_basin_is_not_proposed_again() -> None:
    """The minimum of an unreachable target is known, so the next point is elsewhere."""
    points = np.concatenate(
        [grid(), 0.5 + 0.01 * np.random.default_rng(0).standard_normal((6, 2)), [[0.5, 0.5]]]
    )
    floor = np.column_stack([1.0 + ((points - 0.5) ** 2).sum(1)])
    (found,) = search(points, floor).propose(1, [], np.random.default_rng(1))
    assert np.linalg.norm(found - 0.5) > 0.05


def test_twins_are_modelled_once() -> None:
    points = np.array([[0.1, 0.1], [0.1001, 0.1], [0.5, 0.5], [0.1, 0.1001]])
    assert list(_select_evaluations(points, np.array([3.0, 2.0, 1.0, 4.0]))) == [1, 2]


def test_many_evaluations_are_reduced_to_the_best_and_a_spread() -> None:
    points = np.random.default_rng(0).random((3000, 6))
    merits = np.random.default_rng(1).random(3000)
    selected = _select_evaluations(points, merits)
    assert len(selected) == 400
    assert set(np.argsort(merits)[:200]) <= set(selected)
    assert merits[selected].max() > 0.9


def test_many_twins_leave_room_for_others() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([0.5 + 1e-4 * rng.random((2000, 6)), rng.random((30, 6))])
    selected = _select_evaluations(points, np.concatenate([rng.random(2000), 1.0 + rng.random(30)]))
    assert len(selected) == 31


def test_distances_in_blocks() -> None:
    rng = np.random.default_rng(0)
    x, known = rng.random((700, 5)), rng.random((9000, 5))  # three blocks and a rest
    direct = [np.linalg.norm(known - point, axis=1).min() for point in x]
    assert _distances(x, known) == pytest.approx(direct, abs=1e-7)


def test_memory_does_not_grow_with_the_number_of_points() -> None:
    """The largest array is a block of distances."""
    rng = np.random.default_rng(0)
    domain = box_domain({f"x{i}": Float(0.0, 1.0) for i in range(16)})
    points = rng.random((4000, 16))
    missed = np.column_stack([points.sum(1) - 7.0, np.sin(points[:, 0] + points[:, 1])])
    tracemalloc.start()
    search(points[40:], missed[40:], failed=points[:40], domain=domain).propose(1, [], rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


def test_excesses_over_constraints_are_residuals() -> None:
    points = grid()
    (found,) = search(points, excesses=10.0 * (0.45 - points[:, :1])).propose(
        1, [], np.random.default_rng(1)
    )
    assert found[0] == pytest.approx(0.45, abs=0.02), (
        "drawn from 0.3 to where the constraint nearly holds"
    )
    (free,) = search(points, excesses=points[:, :1] - 0.9).propose(1, [], np.random.default_rng(1))
    assert free == pytest.approx([0.3, 0.7], abs=0.02), "a constraint that holds is no residual"


def test_failures_are_avoided() -> None:
    points = grid(64)
    lost = (np.abs(points - [0.3, 0.7]) < 0.2).all(1)
    for found in search(points[~lost], failed=points[lost]).propose(
        5, [], np.random.default_rng(1)
    ):
        gaps = np.linalg.norm(points - found, axis=1)
        assert not lost[gaps.argmin()]


def test_stays_within_the_radius_of_a_latent() -> None:
    domain = gaussian_domain(3, radius=2.0)
    points = domain.sample(np.random.default_rng(0), 30)
    far = points - np.array([3.0, 0.0, 0.0])  # best at a norm of 3, outside
    found = search(points, far, failed=np.empty((0, 3)), domain=domain).propose(
        3, [], np.random.default_rng(1)
    )
    assert np.linalg.norm(found, axis=1).max() <= 2.0 + 1e-9
    assert found[0] == pytest.approx([2.0, 0.0, 0.0], abs=0.1)


def test_constant_outputs_still_give_proposals() -> None:
    points = grid()
    (found,) = search(points, np.ones((len(points), 3))).propose(1, [], np.random.default_rng(1))
    assert np.linalg.norm(points - found, axis=1).min() > 1e-9
