"""Tests of the model comparison in a latent of many coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.history import History
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.model_comparison import compare_forest, linear_is_better
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.spaces.box import Box
from bo_invert.types import Array, Outcome, Query, State, Trial

_DIM = 48


def observed(f: Callable[[Array], Array], n: int, seed: int) -> tuple[ProblemStatement, History]:
    points = np.random.default_rng(seed).standard_normal((n, _DIM))
    y = f(points)
    outputs = tuple(f"y{i}" for i in range(y.shape[1]))
    objective = Minimize("y0").bind(outputs)
    domain = gaussian_domain(_DIM, radius=np.sqrt(_DIM) + 2.5)
    return ProblemStatement("latent", domain, outputs, objective), History(completed(points, y))


def completed(points: Array, y: Array) -> list[Trial]:
    """Return trials whose loss is the first output."""
    return [
        Trial(i, Query(x), State.COMPLETED, 0, (), Outcome(State.COMPLETED, row, float(row[0])))
        for i, (x, row) in enumerate(zip(points, y, strict=True))
    ]


def bowl(x: Array) -> Array:
    return np.asarray(((x - 1.0) ** 2).sum(1, keepdims=True))


def slope(x: Array) -> Array:
    direction = np.random.default_rng(5).standard_normal((_DIM, 1))
    return np.asarray(np.tanh(0.1 * x @ direction))


@pytest.mark.parametrize(("f", "linear"), [(bowl, False), (slope, True)])
def test_a_smooth_model_with_a_shared_lengthscale_competes(
    f: Callable[[Array], Array], linear: bool
) -> None:
    """On a bowl a shared lengthscale predicts best; ARD is worse than the linear model."""
    assert linear_is_better(*observed(f, 80, 1)) is linear


@pytest.mark.parametrize(("read", "rest", "linear"), [(bowl, slope, False), (slope, bowl, True)])
def test_only_modelled_outputs_are_compared(
    read: Callable[[Array], Array], rest: Callable[[Array], Array], linear: bool
) -> None:
    assert (
        linear_is_better(*observed(lambda x: np.hstack([read(x), *4 * [rest(x)]]), 60, 0)) is linear
    )


def staircase(x: Array) -> Array:
    return np.asarray(2.0 * (abs(x[:, :1] - 0.4) < 0.15) + (x[:, 1:2] > 0.7))


@pytest.mark.parametrize(("f", "stepped"), [(staircase, True), (bowl, False)])
def test_a_forest_orders_steps_better_and_a_process_smooth_outputs(
    f: Callable[[Array], Array], stepped: bool
) -> None:
    points = np.random.default_rng(3).random((60, 10))
    history = History(completed(points, f(points)))
    domain, objective = Box([0.0] * 10, [1.0] * 10).domain, Minimize("y0").bind(("y0",))
    statement = ProblemStatement("box", domain, ("y0",), objective)
    memo = fit_surrogate(points, f(points), search_space=ModelSearchSpace.of("auto", False, (0,)))
    forest, process = compare_forest(statement, history, memo.memo, seed=0)
    assert (forest > process) is stepped, (forest, process)
