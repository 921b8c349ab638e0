"""Tests of moves inside input constraints: chord steps, and the nearest configuration."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import beta, kstest

import bo_invert as bi
from bo_invert.domains.constrained_box import ConstrainedBox, fix_values, read_fixed
from bo_invert.types import Array

CHAINS, STEPS = 2000, 60
"""Number of independent chains and of their steps. A shared direction kind mixes in about ten."""


def walked(domain: ConstrainedBox, size: float) -> Array:
    """Return the ends of chains that all start at one point of the set."""
    rng = np.random.default_rng(0)
    points = np.repeat(domain.sample(rng, 1), CHAINS, axis=0)
    for _ in range(STEPS):
        points = domain.draws.chord_steps(rng, points, np.full((CHAINS, 1), size))
        assert domain.satisfied(points).all()
    return points


@pytest.mark.parametrize("size", [0.5, 1.0])
@pytest.mark.parametrize("sign", ["<=", "=="])
def test_chord_steps_leave_the_uniform_distribution(sign: str, size: float) -> None:
    names = ["x0", "x1"] if sign == "<=" else ["x0", "x1", "x2"]
    box = bi.Box({n: bi.Float(0, 2) for n in names}, constraints=f"{' + '.join(names)} {sign} 2")
    points = walked(box.domain, size)
    # Both sets are triangles: the shares of their corners have a Dirichlet distribution.
    shares = np.column_stack([points[:, :2], 1.0 - points[:, :2].sum(axis=1)])
    for share in shares.T:
        assert kstest(share, beta(1, 2).cdf).pvalue > 1e-3
    assert kstest(shares[:, 0] / shares[:, :2].sum(axis=1), "uniform").pvalue > 1e-3


def test_chord_steps_leave_corners() -> None:
    domain = bi.Box({n: bi.Float(0, 1) for n in "abc"}, constraints="a + b + c == 1").domain
    rng, points = np.random.default_rng(1), np.repeat(np.eye(3)[:1], 500, axis=0)
    for _ in range(STEPS):
        points = domain.draws.chord_steps(rng, points, np.ones((500, 1)))
    assert domain.satisfied(points).all()
    assert np.quantile(points[:, 0], 0.9) < 0.9


def test_chord_steps_keep_configurations() -> None:
    parameters = {"a": bi.Float(0, 1), "b": bi.Float(0, 1), "n": bi.Int(0, 3), "c": bi.Float(0, 1)}
    constraints = ["a + b + n == 2", bi.AtMost(1, ["c", "b"])]
    domain = bi.Box(parameters, constraints=constraints).domain
    rng = np.random.default_rng(2)
    start = points = domain.sample(rng, 300)
    for _ in range(12):
        points = domain.draws.chord_steps(rng, points, np.full((300, 1), 0.7))
    assert domain.satisfied(points).all()
    np.testing.assert_array_equal(points[:, 2], start[:, 2])
    before, after = domain.feasible.support(start), domain.feasible.support(points)
    np.testing.assert_array_equal(after[before.any(axis=1)], before[before.any(axis=1)])
    assert (points != start).any(axis=1).mean() > 0.3


# --- nearest configuration ------------------------------------------------------------------------

MIXED: dict[str, Any] = {
    "a": bi.Float(0, 1), "b": bi.Float(0, 2), "n": bi.Int(0, 6), "m": bi.Int(2, 5),
    "o": bi.Choice(1, 2, 4, ordered=True),
}  # fmt: skip
"""Two real and three discrete parameters, in ``a + b + n + m == 6`` and ``o + n >= 4``."""


def possible(n: float, m: float, o: float) -> bool:
    """Return True if real values complete the discrete ones: a + b takes all values of [0, 3]."""
    return 0 <= 6 - n - m <= 3 and o + n >= 4


def relaxed(point: Array) -> Array:
    """Project scaled values ``(5,)`` onto the constraints as real numbers, by SLSQP."""
    spans, low = np.array([1.0, 2.0, 6.0, 3.0, 3.0]), np.array([0.0, 0.0, 0.0, 2.0, 1.0])
    limits = [
        {"type": "eq", "fun": lambda w: (low + spans * w)[:4].sum() - 6.0},
        {"type": "ineq", "fun": lambda w: (low + spans * w)[[2, 4]].sum() - 4.0},
    ]
    found = minimize(
        lambda w: ((w - point) ** 2).sum(), np.full(5, 0.5), bounds=[(0, 1)] * 5,
        constraints=limits, method="SLSQP", tol=1e-14,
    )  # fmt: skip
    assert found.success
    return np.asarray(found.x)


def test_empty_configurations_become_the_nearest_possible_one() -> None:
    box = bi.Box(MIXED, constraints=["a + b + n + m == 6", "o + n >= 4"])
    domain, axes = box.domain, box.domain.feasible.axes
    every = itertools.product(range(7), range(2, 6), (1, 2, 4))
    listed = np.array([one for one in every if possible(*one)], dtype=float)
    scaled = (listed - [0.0, 2.0, 1.0]) / [6.0, 3.0, 3.0]
    points = np.random.default_rng(3).random((60, domain.dim))
    designs: Any = box.decode(domain.feasible.valid(points))
    found: Any = box.decode(domain.project(points))
    moved = 0
    for point, design, nearest in zip(points, designs, found, strict=True):
        own = [design[name] for name in "nmo"]
        if possible(*own):
            assert [nearest[name] for name in "nmo"] == own
            continue
        given = np.array([axis.relaxed(point[None, axis.columns])[0] for axis in axes])
        distances = ((scaled - relaxed(given)[2:]) ** 2).sum(axis=1)
        reached = (listed == [nearest[name] for name in "nmo"]).all(axis=1)
        # The tolerance covers the error of SLSQP.
        assert distances[reached].item() <= distances.min() + 1e-6
        moved += 1
    assert moved > 20


def test_fixed_values_of_listed_configurations_hold() -> None:
    constraints = ["a + b + n + m == 6", "o + n >= 4"]
    free = bi.Box(MIXED, constraints=constraints)
    domain = fix_values(free.domain, read_fixed(free.domain, {"n": 1}))
    points = domain.project(np.random.default_rng(4).random((80, free.domain.dim)))
    rows: Any = free.decode(points)
    assert domain.satisfied(points).all()
    # n = 1 leaves o = 4 and m in {2, ..., 5}: all of them are reached.
    assert {(row["n"], row["o"]) for row in rows} == {(1, 4)}
    assert {row["m"] for row in rows} == {2, 3, 4, 5}
