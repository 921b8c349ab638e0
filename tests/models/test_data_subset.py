"""Tests of the data subset: cost is bounded in long logs."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.models import fitted_model
from bo_invert.models.data_subset import MAX_POINTS, select_subset
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.optim.duplicates import DuplicateFilter
from bo_invert.strategies.base import Request
from bo_invert.strategies.gp import GP
from bo_invert.types import Outcome, Query, State, Trial


def test_few_points_are_all_selected() -> None:
    inputs = np.random.default_rng(0).random((50, 3))
    np.testing.assert_array_equal(select_subset(inputs, np.arange(50), 50), np.arange(50))


def test_the_best_the_nearest_and_a_spread_are_selected() -> None:
    inputs = np.random.default_rng(0).random((4000, 3))
    losses = np.linalg.norm(inputs - 0.5, axis=1) + np.sin(40.0 * inputs).sum(1)
    ranking = np.lexsort((losses,))
    selected = select_subset(inputs, ranking, 200)
    assert len(selected) == 200
    assert (np.diff(selected) > 0).all()
    assert set(ranking[:50]) <= set(selected)
    gaps = np.linalg.norm(inputs - inputs[ranking[0]], axis=1)
    assert set(np.argsort(gaps)[:15]) <= set(selected), (
        "a tenth of a hundred would belong to each incumbent alone"
    )
    quarters = np.histogram(selected, bins=4, range=(0, 4000))[0]
    assert quarters.min() >= 20


def test_known_points_are_found_in_bounded_memory() -> None:
    rng = np.random.default_rng(0)
    known = rng.random((10_000, 64))
    asked = np.concatenate([known[:200], rng.random((200, 64))])
    tracemalloc.start()
    picked = DuplicateFilter(BoxDomain("box", 64, {})).select_new(asked, known, 100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(picked, asked[200:300])
    assert peak < 8 * known.nbytes, (
        "a table of 400 x 10,000 x 64 numbers would be 400 times as large as the points"
    )


def test_a_global_model_uses_at_most_a_thousand_points(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), lambda x: float((x**2).sum()), bi.Minimize())
    points = np.random.default_rng(0).random((MAX_POINTS + 300, 2))
    trials = []
    for number, point in enumerate(points):
        outcome = Outcome(State.COMPLETED, np.array([(point**2).sum()]), float((point**2).sum()))
        trials.append(Trial(number, Query(point, origin="data"), State.COMPLETED, outcome=outcome))
    sizes: list[tuple[int, Any]] = []
    fit = fit_surrogate

    def watched(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append((len(inputs), kwargs.get("total")))
        return fit(inputs, *args, **kwargs)

    monkeypatch.setattr(fitted_model, "fit_surrogate", watched)
    proposal = GP(kernel="rbf", warp=False).ask(problem.statement, trials, Request(0, 12, 0))
    assert sizes == [(MAX_POINTS, MAX_POINTS + 300)], (
        "and the schedule of refits counts all of them"
    )
    chosen = np.array([query.point for query in proposal.queries])
    assert len(np.unique(chosen, axis=0)) == 12
    assert proposal.memo["outputs"]["n"] == MAX_POINTS + 300
