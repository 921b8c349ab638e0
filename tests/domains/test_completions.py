"""Tests of completions: points with held coordinates whose others satisfy the constraints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.completions import complete
from bo_invert.domains.search_domain import Domain
from bo_invert.report.charts.grid import grid, grid_values, varied_columns

F = bi.Float


def fractions(names: str) -> dict[str, Any]:
    return dict.fromkeys(names, F(0, 1))


SPACES: dict[str, Callable[[], bi.Box]] = {
    "mixture": lambda: bi.Box(fractions("abcde"), constraints=["a + b + c + d + e == 1"]),
    "bounded mixture": lambda: bi.Box(
        {"a": F(0.1, 0.6), "b": F(0.2, 0.8), "c": F(0, 0.3), "d": F(0, 1)},
        constraints=["a + b + c == 1", "b + c <= 0.7"],
    ),
    "order": lambda: bi.Box(fractions("abcd"), constraints=["a <= b <= c <= d"]),
    "3 of 8": lambda: bi.Box(
        fractions("abcdefgh"),
        constraints=[bi.AtMost(3, of=list("abcdefgh"), smallest=0.05), "a+b+c+d+e+f+g+h == 1"],
    ),
    "integers": lambda: bi.Box(
        {**dict.fromkeys("abc", bi.Int(0, 20)), "s": bi.Choice("x", "y"), "k": bi.Fixed(3)},
        constraints=["a + b + c == 20"],
    ),
    "steps": lambda: bi.Box(
        dict.fromkeys("abc", F(0, 1, step=0.05)), constraints=["a + b + c == 1"]
    ),
    "function": lambda: bi.Box(
        {**fractions("ab"), "s": bi.Choice("x", "y")},
        constraints=[
            bi.Feasible(
                lambda v: (v["a"] ** 2 + v["b"] ** 2 < 1) & ((v["s"] == "x") | (v["a"] < 0.3))
            )
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_each_value_of_a_parameter_has_a_completion_in_the_set(name: str) -> None:
    domain = SPACES[name]().domain
    base = domain.sample(np.random.default_rng(3), 1)[0]
    for parameter, one in domain.axes.items():
        values = grid_values(one, 11)
        found = grid(domain, base, {parameter: values})
        inside = domain.satisfied(found.points)
        assert inside[found.possible].all()
        shown = [row[parameter] for row in domain.values(found.points[found.possible])]
        wanted = [value for value, fine in zip(values, found.possible, strict=True) if fine]
        assert shown == pytest.approx(wanted) if not isinstance(wanted[0], str) else shown == wanted
        # Draws of the set show which values are possible at all.
        draws = {
            row[parameter] for row in domain.values(domain.sample(np.random.default_rng(1), 200))
        }
        if isinstance(wanted[0], (str, int)):
            assert draws <= set(wanted)
        else:
            assert min(wanted) <= min(draws) + 0.1
            assert max(wanted) >= max(draws) - 0.1


def test_other_parts_of_a_mixture_keep_their_ratios() -> None:
    domain = SPACES["mixture"]().domain
    base = np.array([0.1, 0.2, 0.3, 0.4, 0.0])
    found = grid(domain, base, {"a": [0.0, 0.55, 1.0]}).points
    np.testing.assert_allclose(found[1], [0.55, 0.1, 0.15, 0.2, 0.0], atol=1e-9)
    np.testing.assert_allclose(found[2], [1.0, 0.0, 0.0, 0.0, 0.0], atol=1e-9)
    vertex = grid(domain, np.eye(5)[0], {"a": [0.6]}).points[0]
    np.testing.assert_allclose(vertex, [0.6, 0.1, 0.1, 0.1, 0.1], atol=1e-9)


def test_conditional_parameters_exist_on_their_grid() -> None:
    space = bi.Box({"solver": bi.Choice("sgd", "adam"), "m": bi.When("solver", "sgd", F(0, 1))})
    domain: Domain = space.domain
    base = domain.encode([{"solver": "adam"}])[0]
    found = grid(domain, base, {"m": [0.0, 0.5, 1.0]})
    assert found.possible.all()
    assert [row["m"] for row in domain.values(found.points)] == [0.0, 0.5, 1.0]
    both = grid(domain, base, {"solver": ["sgd", "adam"], "m": [0.2, 0.8]})
    assert both.exists.tolist() == both.possible.tolist() == [True, True, False, False]


def test_impossible_values_are_reported() -> None:
    domain = SPACES["bounded mixture"]().domain
    points = domain.sample(np.random.default_rng(0), 4)
    columns = varied_columns(domain)
    held = np.zeros(points.shape, dtype=bool)
    held[:, columns["a"]] = True
    points[:, columns["a"]] = 0.0  # a = 0.1 leaves 0.9 for b + c, of which 0.7 are allowed
    _, done = complete(domain, points, held)
    assert not done.any()
