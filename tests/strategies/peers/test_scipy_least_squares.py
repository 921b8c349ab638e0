from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.problems.examples import arm
from bo_invert.strategies.base import Request, from_spec

pytestmark = pytest.mark.peers

NAME = "scipy_least_squares"
BOX = bi.Box([0.0] * 3, [1.0] * 3)
GOAL = np.array([1.2, 0.4, 0.3])


def curve(x: np.ndarray) -> np.ndarray:
    return np.array([np.exp(x[0] * x[1]), np.sin(3 * x[1]) * x[2], x[0] ** 2 + 0.1 * x[2]])


def curved(trouble: Any = None, **settings: Any) -> bi.Problem:
    """With ``trouble``, what is asked is counted and may go wrong."""
    asked = []

    def oracle(x: np.ndarray) -> Any:
        asked.append(x)
        wrong = trouble(len(asked)) if trouble else None
        return curve(x) if wrong is None else wrong

    return bi.Problem(BOX, oracle, bi.Target(GOAL), name="curved", **settings)


def run(problem: bi.Problem, budget: int, batch: int = 1, **options: Any) -> bi.Study:
    study = bi.Study.create("s", problem, strategy=NAME, seed=1, **options)
    return study.run(budget, batch=batch, stop_when_hit=False)


def plain(start: int) -> tuple[list[np.ndarray], Any]:
    """Record the evaluations of SciPy from point ``start`` of the same Sobol sequence."""
    from scipy.optimize import least_squares

    asked: dict[bytes, np.ndarray] = {}

    def residuals(x: np.ndarray) -> np.ndarray:
        asked.setdefault(x.tobytes(), x.copy())
        return curve(x) - GOAL

    first = BOX.domain.sobol(Request(seed=1).stream(0), 1, skip=start)[0]
    result = least_squares(residuals, first, bounds=(0.0, 1.0))
    return list(asked.values()), result


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_asks_what_scipy_asks_and_nothing_else(batch: int) -> None:
    """Run by run to their ends, the same points in the same order, to the last bit."""
    expected = [points for start in range(4) for points in plain(start)[0]]
    study = run(curved(), len(expected), batch=batch)
    np.testing.assert_array_equal([trial.point for trial in study.trials], expected)
    assert {trial.query.meta["start"] for trial in study.trials} == {0, 1, 2, 3}
    assert study.spent.values == len(expected)
    assert 3 * study.best.loss == pytest.approx(2 * min(plain(start)[1].cost for start in range(4)))


def test_the_differences_of_a_jacobian_are_asked_together() -> None:
    problem = curved()
    study = bi.Study.create("s", problem, strategy=NAME, seed=1)
    (first,) = study.ask(8)
    assert not study.ask(8), "it waits for the first point"
    study.tell(first, curve(first.point))
    beside = study.ask(8)
    moved = np.array([trial.point - first.point for trial in beside])
    assert len(beside) == 3
    np.testing.assert_array_equal(np.abs(moved) > 0, np.eye(3, dtype=bool))
    assert np.abs(moved).max() < 2e-8
    study.tell(beside[1], curve(beside[1].point))
    assert not study.ask(8)


def test_the_step_of_the_differences_can_be_chosen() -> None:
    points = np.array([trial.point for trial in run(curved(), 4, diff_step=0.01).trials])
    np.testing.assert_allclose(np.diag(points[1:] - points[0]), 0.01 * points[0], rtol=1e-6)
    with pytest.raises(bi.InvalidInputError, match="diff_step"):
        from_spec(NAME, diff_step=0.0)


def test_a_run_that_ends_in_a_local_minimum_is_followed_by_another() -> None:
    target = arm.targets(4, seed=5)[3]
    trials = run(arm.problem(target=target, differentiable=False), 300, batch=4).trials
    best = [
        min(trial.loss for trial in trials if trial.query.meta["start"] == start)
        for start in (0, 1)
    ]
    assert best[0] > 0.1
    assert best[1] < 1e-12


def test_begins_at_the_best_that_was_given() -> None:
    study = bi.Study.create("s", curved(), strategy=NAME, seed=1)
    points = np.array([[0.2, 0.2, 0.2], [0.5, 0.3, 0.8]])
    study.add(points, [curve(x) for x in points])
    best = int(np.argmin([((curve(x) - GOAL) ** 2).sum() for x in points]))
    trials = study.run(3, stop_when_hit=False).trials[2:]
    assert {trial.query.meta["from"] for trial in trials} == {best}
    assert all(np.abs(trial.point - points[best]).max() < 1e-7 for trial in trials), (
        "differences: the rest is known"
    )


CRASHED, HIGH, LOW = bi.FailedError("crashed"), [1e300] * 3, [-1e300] * 3
MANY = set(range(2, 200, 4))


@cache
def undisturbed() -> bi.Study:
    return run(curved(), 60)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize(
    ("wrong", "calls"),
    [
        *((CRASHED, calls) for calls in ({1}, {3}, {5}, MANY)),
        *((wrong, calls) for wrong in (HIGH, LOW) for calls in ({3}, MANY)),
    ],
)
def test_goes_on_after_calls_without_an_answer(wrong: Any, calls: set[int]) -> None:
    whole = undisturbed()
    study = run(curved(lambda call: wrong if call in calls else None), 60, batch=2)
    assert study.spent.values == 60
    assert study.best.loss < max(1e-3, 3 * whole.best.loss)
    starts = [trial.query.meta["start"] for trial in study.trials]
    assert (starts[1] == 1) == (1 in calls), "only a start without an answer is given up"
    if calls == {3}:
        assert starts[:6] == [0] * 6


def test_broken_constraints_are_residuals() -> None:
    problem = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), lambda x: {"sum": float(x.sum()), "left": float(x[0])},
        bi.Target({"sum": 1.0}), constraints=["left >= 0.8"],
    )  # fmt: skip
    best = run(problem, 30).best
    assert best.loss < 1e-12
    assert best.feasible


def test_refuses_what_has_no_residuals_or_no_differences() -> None:
    least = bi.Problem(BOX, lambda x: 0.0, bi.Minimize(), name="least")
    whole = bi.Problem(
        bi.Box({"n": bi.Int(1, 5)}), lambda d: float(d["n"]), bi.Target(3.0), name="whole"
    )
    for problem, words in ((least, "residuals"), (whole, "finite differences")):
        with pytest.raises(
            bi.UnsuitableStrategyError, match=rf"'{NAME}' needs {words}.*'{problem.name}'"
        ):
            bi.Study.create("s", problem, strategy=NAME)
