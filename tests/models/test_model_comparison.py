"""Tests of the model comparison in a latent of many coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bo_invert.history import History
from bo_invert.models.model_comparison import linear_is_better
from bo_invert.objectives import Minimize, ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.types import Array, Outcome, Query, State, Trial

_DIM = 48


def observed(f: Callable[[Array], Array], n: int, seed: int) -> tuple[ProblemStatement, History]:
    points = np.random.default_rng(seed).standard_normal((n, _DIM))
    y = f(points)
    outputs = tuple(f"y{i}" for i in range(y.shape[1]))
    objective = Minimize("y0").bind(outputs)
    domain = Domain("gaussian", _DIM, {}, radius=np.sqrt(_DIM) + 2.5)
    losses = objective.loss(y)
    trials = [
        Trial(i, Query(x), State.COMPLETED, 0, (), Outcome(State.COMPLETED, row, float(loss)))
        for i, (x, row, loss) in enumerate(zip(points, y, losses, strict=True))
    ]
    return ProblemStatement("latent", domain, outputs, objective), History(trials)


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
