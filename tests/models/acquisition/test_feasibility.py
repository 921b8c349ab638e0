"""Tests of the model of failures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.acquisition.feasibility import failure_caution, fit_feasibility
from bo_invert.types import Array, Outcome, Query, State, Trial


def trial(number: int, failed: bool, design: bool = False) -> Trial:
    query = Query(np.zeros(1), origin="gp", meta={"design": number} if design else {})
    state = State.FAILED if failed else State.COMPLETED
    outcome = Outcome(state) if failed else Outcome(state, np.zeros(1), 0.0)
    return Trial(number, query, state, outcome=outcome)


def caution(design: list[bool], recent: list[bool]) -> float:
    trials = [trial(i, failed, i < len(design)) for i, failed in enumerate([*design, *recent])]
    return failure_caution(History(trials))


def test_caution_grows_with_recent_failures() -> None:
    rare = [True] * 9 + [False]
    levels = [caution(rare, [True] * k + [False] * (20 - k)) for k in (0, 2, 4, 6, 8, 20)]
    assert levels == sorted(levels)
    assert levels[0] == levels[1] == 0.0
    assert 0.0 < levels[2] < 1.0
    assert levels[-2] == levels[-1] == 1.0


def test_caution_is_less_where_most_designs_work() -> None:
    feasible = [False] * 9 + [True]
    assert caution(feasible, [True] * 6 + [False] * 14) == 0.0
    assert caution(feasible, [True] * 20) == 1.0


def drawn(n: int, d: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((n, d))


def log_probability(
    observed: Array, failed: Array, at: Array, caution: float
) -> tuple[Array, object]:
    score, memo = fit_feasibility(observed, failed, np.arange(len(observed)), None, caution)
    assert score is not None
    with torch.no_grad():
        return score(torch.tensor(at)).numpy(), memo


def test_no_model_without_failures() -> None:
    assert fit_feasibility(drawn(5, 2), np.empty((0, 2)), np.arange(5), None) == (None, None)


@pytest.mark.parametrize("caution", [0.0, 1.0])
def test_points_near_observations_are_preferred(caution: float) -> None:
    """With few observations in a thin set, points near them have the highest probability."""
    rng = np.random.default_rng(1)
    observed = 0.5 + 0.01 * rng.standard_normal((8, 6))
    near = observed + 0.002 * rng.standard_normal((8, 6))
    value, _ = log_probability(
        observed, drawn(40, 6), np.concatenate([near, drawn(50, 6, 5)]), caution
    )
    assert value[:8].min() > value[8:].max()


def test_caution_increases_the_difference() -> None:
    rng = np.random.default_rng(1)
    observed = 0.5 + 0.01 * rng.standard_normal((8, 6))
    at = np.concatenate([observed[:1], drawn(1, 6, 7)])
    gaps = [
        float(np.subtract(*log_probability(observed, drawn(40, 6), at, level)[0]))
        for level in (0.0, 0.5, 1.0)
    ]
    assert gaps == sorted(gaps)
    assert gaps[-1] > 100.0 * gaps[0]


def test_random_failures_need_less_caution() -> None:
    """Failures that do not depend on the design have less effect on the score."""
    x, at = drawn(60, 3), drawn(200, 3, seed=4)
    random = np.random.default_rng(2).random(60) < 0.3
    boundary = x[:, 0] > np.quantile(x[:, 0], 0.7)
    spreads = [
        np.std(log_probability(x[~failed], x[failed], at, 0.5)[0]) for failed in (random, boundary)
    ]
    assert spreads[0] < 0.2 * spreads[1]


def test_memos_of_early_versions_are_ignored_or_accepted() -> None:
    x = drawn(30, 2)
    failed = x[:, 0] > 0.6
    args = x[~failed], x[failed], np.arange(int((~failed).sum()))
    _, memo = fit_feasibility(*args, None, 1.0)
    assert isinstance(memo, list)
    for earlier in (memo, memo[0], {"n": 3}, None):
        score, _ = fit_feasibility(*args, earlier, 1.0)
        assert score is not None
        value = score(torch.tensor([[0.1, 0.5], [0.95, 0.5]]).double())
        assert value[0] > value[1]


def test_search_in_a_thin_feasible_set() -> None:
    """One design in ten works; the search still spends most calls on designs that work."""

    def oracle(x: Array) -> float:
        if abs(float(np.sum(x)) - 1.5) > 0.07:
            raise bi.InfeasibleError("no mesh")
        return float(((x - 0.2) ** 2).sum())

    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), oracle, bi.Minimize())
    study = bi.Study.create("s", problem, strategy="gp", initial=6, kernel="rbf", seed=1).run(30)
    late = [t.state is not State.COMPLETED for t in study.trials[18:]]
    assert np.mean(late) < 0.5
