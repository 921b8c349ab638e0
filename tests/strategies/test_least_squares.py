from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problems.examples import arm, sine
from bo_invert.strategies.base import Request
from bo_invert.strategies.least_squares import LeastSquares
from bo_invert.types import Outcome, Query, State, Trial


def run(
    problem: bi.Problem, budget: int = 50, batch: int = 1, seed: int = 0, **options: Any
) -> bi.Study:
    return bi.Study.create("s", problem, LeastSquares(**options), seed=seed).run(
        budget=budget, batch=batch
    )


def cone(trouble: Any = None) -> bi.Problem:
    """Three outputs of two inputs; the target is reached at (0.8, 0.3) only."""

    def oracle(x: Any) -> list[float]:
        if trouble is not None and trouble(x):
            raise RuntimeError("crashed")
        return [float(np.exp(x[0])), float(x[0] * x[1]), float(np.sin(3 * x[1]))]

    return bi.Problem(
        bi.Box([-2.0, -2.0], [2.0, 2.0]),
        oracle,
        bi.Target([np.exp(0.8), 0.24, np.sin(0.9)]),
        name="cone",
    )


@pytest.mark.parametrize("example", [arm, sine])
def test_fifty_calls_hit_nearly_every_target(example: Any) -> None:
    losses = [
        run(example.problem(target=target, differentiable=False), seed=seed).best.loss
        for seed, target in enumerate(example.targets(12, seed=5))
    ]
    assert np.median(losses) < 1e-12
    assert np.mean(np.array(losses) < 1e-6) > 0.9


def peaks(seed: int) -> bi.Problem:
    """Return a problem of 40 outputs with two moving peaks and many local minima."""
    t = np.linspace(0.0, 1.0, 40)

    def oracle(x: Any) -> Any:
        first = 0.15 + 0.6 * (0.5 * x[0] + 0.3 * x[1] + 0.2 * x[2])
        second = 0.3 + 0.6 * (0.2 * x[0] + 0.6 * x[1] - 0.3 * x[3])
        peak = np.exp(-(((t - first) / 0.04) ** 2)) + 0.7 * (1 + x[2]) * np.exp(
            -(((t - second) / 0.06) ** 2)
        )
        return peak + 0.3 * x[3] * t

    target = oracle(np.random.default_rng(seed).random(4))
    return bi.Problem(bi.Box([0.0] * 4, [1.0] * 4), oracle, bi.Target(target), name="peaks")


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.slow
def test_the_model_finds_the_basin_that_starts_miss(batch: int) -> None:
    seeds = (1, 3)
    modelled = [run(peaks(seed), 80, batch=batch, seed=seed) for seed in seeds]
    assert all(study.best.loss < 1e-20 for study in modelled)
    assert any("model" in trial.query.meta for trial in modelled[0].trials)
    alone = [run(peaks(seed), 80, batch=batch, seed=seed, design=1000) for seed in seeds]
    assert min(study.best.loss for study in alone) > 1e-4


@pytest.mark.parametrize("method", ["dogbox", "trf"])
@pytest.mark.parametrize("secant", [0.0, 0.7])
def test_more_outputs_than_inputs(method: str, secant: float) -> None:
    best = run(cone(), 80, method=method, secant=secant).best
    assert best.loss < 1e-12
    assert best.design == pytest.approx([0.8, 0.3], abs=1e-5)


def test_every_difference_is_a_query() -> None:
    calls = []
    space = bi.Box([0.0] * 3, [1.0] * 3)
    problem = bi.Problem(
        space, lambda x: (calls.append(x), [x[0] ** 2, x[1] + x[2]])[1], bi.Target([0.5, 1.1])
    )
    study = run(problem, 30, secant=0.0, initial=1)
    assert len(calls) == study.spent.calls == len(study.trials)
    points = np.array([t.point for t in study.trials])
    shifts = np.abs(points[1:4] - points[0])
    assert shifts == pytest.approx(1e-4 * np.eye(3), abs=1e-12)


def test_updates_save_calls() -> None:
    measured, updated = (
        len(run(arm.problem(seed=3, differentiable=False), 200, secant=s).trials)
        for s in (0.0, 0.7)
    )
    assert updated < 0.8 * measured


def test_differences_of_one_jacobian_are_asked_for_together() -> None:
    problem = arm.problem(differentiable=False)
    statement, strategy = problem.statement, LeastSquares(initial=1)
    (first,) = strategy.ask(statement, [], Request(count=1)).queries
    log = [Trial(0, first, State.COMPLETED, outcome=problem.evaluate([first])[0])]
    queries = strategy.ask(statement, log, Request(1, count=4)).queries
    assert [q.meta["start"] for q in queries] == [0, 0, 0, 0]
    open_log = [*log, *(Trial(i + 1, q, State.RUNNING) for i, q in enumerate(queries))]
    (ahead,) = strategy.ask(statement, open_log, Request(2, count=1)).queries
    assert "design" in ahead.meta, "an idle worker begins what the model will need"


def test_while_a_later_start_finishes_nothing_else_is_asked() -> None:
    study = run(peaks(1), 80, seed=1)
    statement, strategy, log = study.problem.statement, LeastSquares(), study.trials
    later = [i for i, trial in enumerate(log) if trial.query.meta.get("start", 0) > 0]
    asked = [
        strategy.ask(statement, log[:i], Request(i, count=8, seed=1, budget=80)).queries
        for i in later
    ]
    assert all(query.meta.get("start", 0) > 0 for queries in asked for query in queries)
    (step,) = next(queries for queries in asked if len(queries) == 1)
    before = log[: later[[len(queries) for queries in asked].index(1)]]
    waiting = Request(len(before) + 1, count=8, seed=1, budget=80)
    assert (
        strategy.ask(statement, [*before, Trial(len(before), step, State.RUNNING)], waiting).queries
        == ()
    )


def test_differences_step_inwards_at_a_bound() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: 2 * x[0], bi.Target(5.0))
    study = bi.Study.create("s", problem, LeastSquares())
    study.add(np.array([[1.0]]), np.array([[2.0]]))
    study.run(10)
    points = np.array([t.point for t in study.trials])
    assert points[1] == pytest.approx(1.0 - 1e-4, abs=1e-12)
    assert 0.0 <= points.min() <= points.max() == 1.0
    assert study.best.loss == 9.0


def test_done_when_the_target_is_hit() -> None:
    study = run(sine.problem(differentiable=False), 500)
    assert len(study.trials) < 100
    assert study.ask() == []


def test_it_finishes_within_the_tolerance() -> None:
    """Tell the outcomes by hand, so that only the strategy can stop."""
    calls = []
    for tolerance in (0.1, 1e-9, 0.0):
        study = bi.Study.create(
            "s", sine.problem(tolerance=tolerance, differentiable=False), LeastSquares()
        )
        while queries := study.ask():
            study.tell(
                queries[0],
                study.problem.oracle([study.problem.space.decode([queries[0].query.point])[0]])[0],
            )
        calls.append(len(study.trials))
    assert calls[0] < calls[1] <= calls[2]


def curve(unit: float) -> bi.Problem:
    """Twelve outputs of three inputs, in whatever unit."""
    t = np.linspace(0.0, 1.0, 12)

    def oracle(x: Any) -> Any:
        return unit * (x[0] * np.sin(6.0 * t * (0.3 + x[1])) + np.exp(-x[2] * t))

    return bi.Problem(
        bi.Box([0.0] * 3, [1.0] * 3), oracle, bi.Target(oracle([0.6, 0.7, 0.2])), name="curve"
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_unit_of_the_outputs_makes_no_difference(seed: int) -> None:
    studies = {unit: run(curve(unit), 60, seed=seed) for unit in (1e-9, 1e-7, 1.0, 1e9)}
    calls = {len(study.trials) for study in studies.values()}
    assert len(calls) == 1
    assert calls.pop() < 60
    for unit, study in studies.items():
        assert study.best.loss < 1e-24 * unit**2
        assert study.best.design == pytest.approx(studies[1.0].best.design, abs=1e-9)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.slow
def test_no_query_is_less_plausible_than_the_floor(measured: bool) -> None:
    """The target lies far out, and is never reached."""
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(-2.0, 0.5, (300, 3)), rng.normal(2.0, 0.5, (300, 3))])
    space = bi.Latent(lambda z: z, dim=3, **({"codes": codes} if measured else {}))
    problem = bi.Problem(
        space,
        lambda z: [z[0] + z[1], z[2] - z[0] ** 2],
        bi.Target([9.0, 3.0]),
        name="far",
        realism=0.6,
    )
    study = bi.Study.create("s", problem, LeastSquares(), seed=0)
    study.add(points=np.array([[2.9, 0.0, 0.0]]), Y=[[2.9, -8.4]])
    study.run(45)
    own = [trial for trial in study.trials if trial.origin == "least_squares"]
    assert {"start", "design", "model"} == {kind for trial in own for kind in trial.query.meta} - {
        "from"
    }
    assert space.domain.plausibility(np.array([trial.point for trial in own])).min() >= 0.4
    assert None in {trial.query.meta["from"] for trial in own if "start" in trial.query.meta}, (
        "not where the user was"
    )


def test_goes_on_when_the_target_cannot_be_reached() -> None:
    study = run(sine.problem(target=[2.5], differentiable=False), 45)
    assert len(study.trials) == 45
    assert study.best.loss == pytest.approx(0.25, abs=1e-2)
    assert {"start", "design", "model"} == {kind for t in study.trials for kind in t.query.meta} - {
        "from"
    }


def test_asks_the_same_when_finished_starts_are_run_again() -> None:
    study = run(sine.problem(target=[2.5], differentiable=False), 30)
    statement, strategy = study.problem.statement, LeastSquares()
    memo = strategy.ask(statement, study.trials, Request(60)).memo
    assert memo["finished"] > 0
    unfinished = {**memo, "finished": 0}
    with_memo, without = (
        strategy.ask(statement, study.trials, Request(60, memo=m)) for m in (memo, unfinished)
    )
    assert [q.to_json() for q in with_memo.queries] == [q.to_json() for q in without.queries]


def test_starts_at_the_best_given_trial() -> None:
    study = bi.Study.create("s", cone(), LeastSquares())
    study.add(np.array([[-1.0, 1.0], [0.7, 0.2]]), cone().oracle([[-1.0, 1.0], [0.7, 0.2]]))
    study.run(budget=20)
    own = [t for t in study.trials if t.origin == "least_squares"]
    assert {t.query.meta["from"] for t in own} == {1}
    assert study.best.loss < 1e-12


def test_data_of_the_user_spare_the_design() -> None:
    problem = peaks(2)
    study = bi.Study.create("s", problem, LeastSquares(), seed=2)
    points = problem.space.sample(np.random.default_rng(0), 25)
    study.add(
        points=points,
        Y=[outcome.y for outcome in problem.evaluate([Query(point) for point in points])],
    )
    study.run(50)
    assert not any("design" in trial.query.meta for trial in study.trials)
    assert study.best.loss < 1e-20


def test_failures_are_a_wall_and_not_the_end() -> None:
    study = run(cone(lambda x: x[1] > 0.35), 120)
    assert any(t.state is State.FAILED for t in study.trials)
    assert study.best.loss < 1e-12


@pytest.mark.filterwarnings("ignore:study ")
def test_an_oracle_that_always_fails_costs_the_budget_and_no_more() -> None:
    study = run(cone(lambda x: True), 25, batch=4)
    assert len(study.trials) == 25
    assert study.best is None


def test_broken_constraints_are_residuals() -> None:
    problem = bi.Problem(
        bi.Box([-1.0, -1.0], [1.0, 1.0]),
        lambda x: {"sum": x[0] + x[1], "first": x[0]},
        bi.Target({"sum": 0.4}),
        constraints=["first >= 0.5"],
    )
    best = run(problem, 60).best
    assert best.loss < 1e-10
    assert best.design[0] >= 0.5


def test_works_in_a_latent() -> None:
    domain = gaussian_domain(4, radius=3.0)
    statement = ProblemStatement(
        "latent", domain, ("a", "b"), bi.Target([1.0, -0.5]).bind(["a", "b"])
    )
    log: list[Trial] = []
    for n in range(40):
        for query in LeastSquares().ask(statement, log, Request(n)).queries:
            z = query.point
            assert np.linalg.norm(z) <= 3.0 + 1e-9
            y = np.array([np.tanh(z[0]) + 0.3 * z[1], z[2] - z[3] ** 2])
            loss = float(statement.objective.loss(y))
            log.append(
                Trial(n, query, State.COMPLETED, outcome=Outcome(State.COMPLETED, y=y, loss=loss))
            )
    assert min(trial.loss for trial in log) < 1e-12


def test_an_answer_is_found_by_its_exact_point() -> None:
    statement = sine.problem(differentiable=False).statement
    (query,) = LeastSquares(initial=1).ask(statement, [], Request()).queries
    stored = Query.from_json(query.to_json())
    observed = Trial(
        0, stored, State.COMPLETED, outcome=Outcome(State.COMPLETED, y=[0.3], loss=0.1)
    )
    (following,) = LeastSquares(initial=1).ask(statement, [observed], Request(1)).queries
    assert not np.array_equal(following.point, query.point)


@pytest.mark.parametrize(
    "objective", [bi.Minimize("y"), bi.Maximize("y"), bi.Composite(lambda y: y[..., 0], ("y",))]
)
def test_refuses_what_has_no_residuals(objective: Any) -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: x[0], objective, name="plain")
    with pytest.raises(
        bi.UnsuitableStrategyError, match=r"'least_squares' needs residuals.*'plain'.*Target"
    ):
        bi.Study.create("s", problem, "least_squares")


def test_refuses_what_has_no_differences() -> None:
    problem = bi.Problem(
        bi.Box({"n": bi.Int(0, 9)}), lambda d: d["n"], bi.Target(3.0), name="whole"
    )
    with pytest.raises(
        bi.UnsuitableStrategyError, match=r"'least_squares' needs finite differences.*'whole'.*'gp'"
    ):
        bi.Study.create("s", problem, "least_squares")


@pytest.mark.parametrize(
    "options",
    [{"method": "lm"}, {"secant": 1.0}, {"initial": 0}, {"diff_step": 0.0}, {"design": 1}],
)
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match="least_squares"):
        LeastSquares(**options)
