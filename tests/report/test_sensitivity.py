"""Tests of importances against known values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.sensitivity import importances, shapley_effects
from bo_invert.types import Array

F = bi.Float


class Known:
    """Function as a model without uncertainty."""

    def __init__(self, fn: Callable[[Array], Array]) -> None:
        self._fn = fn

    def draws(self, points: Array, output: str | None) -> Array:
        return np.array([self._fn(points)] * 8)


def shares(domain: Domain, fn: Callable[[Array], Array], count: int = 2048) -> Array:
    found = shapley_effects(
        lambda points: Known(fn).draws(points, None), domain, np.random.default_rng(0), count
    )
    return np.asarray(np.median(found.shares, axis=0))


def test_shapley_effects_of_a_mixture_agree_with_theory() -> None:
    # Fractions are uniform on the triangle: c({a}) = 0, c({a, b}) = E (1 - c)^2 / 12 = 1/24 and
    # c(all) = Var a = 1/18 give the effect (2/144 + 1/54) / (1/18) = 0.583 of a.
    space = bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=["a + b + c == 1"])
    found = shares(space.domain, lambda x: x[:, 0])
    np.testing.assert_allclose(found, [0.583, 0.208, 0.208], atol=0.1)
    equal = shares(space.domain, lambda x: x.prod(axis=1))
    np.testing.assert_allclose(equal, 1 / 3, atol=0.1)


def test_shapley_effects_without_dependence_are_shares_of_variance() -> None:
    space = bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=["a + b + c <= 3"])
    found = shares(space.domain, lambda x: x[:, 0] + 2 * x[:, 1])
    np.testing.assert_allclose(found, [0.2, 0.8, 0.0], atol=0.1)


def test_equal_parameters_share_their_effect() -> None:
    space = bi.Box(dict.fromkeys("ab", F(0, 1)), constraints=["a == b"])
    np.testing.assert_allclose(shares(space.domain, lambda x: x[:, 0]), 0.5, atol=0.1)


def test_parameters_that_decide_on_others_have_importance() -> None:
    space = bi.Box({"solver": bi.Choice("sgd", "adam"), "m": bi.When("solver", "sgd", F(0, 1))})

    def fn(points: Array) -> Array:
        rows = space.domain.values(points)
        return np.array([row.get("m", 2.0) for row in rows])

    found = importances(Known(fn), space.domain, None)
    solver, m = np.median(found.shares, axis=0)
    assert solver > 0.8
    assert 0.01 < m < 0.3


def test_too_many_parameters_are_refused() -> None:
    space = bi.Box({f"x{i}": F(0, 1) for i in range(101)})
    with pytest.raises(InvalidInputError, match="at most 100 parameters"):
        importances(Known(lambda x: x[:, 0]), space.domain, None)
