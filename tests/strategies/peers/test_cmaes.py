from __future__ import annotations

import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.problems.examples import mixed
from bo_invert.strategies.base import Request
from bo_invert.strategies.peers import cmaes
from bo_invert.strategies.peers.cmaes import CMAES
from bo_invert.types import Outcome, Query, State, Trial


def run(
    problem: bi.Problem, budget: int, strategy: CMAES | None = None, batch: int = 1, seed: int = 0
) -> bi.Study:
    return bi.Study.create("s", problem, strategy or CMAES(), seed=seed).run(
        budget=budget, batch=batch
    )


def sphere(d: int = 3, **options: Any) -> bi.Problem:
    return bi.Problem(
        bi.Box([0.0] * d, [1.0] * d), lambda x: float(((x - 0.7) ** 2).sum()), Minimize(), **options
    )


def latent(d: int, radius: float = np.inf) -> ProblemStatement:
    return ProblemStatement("latent", gaussian_domain(d, radius), ("y",), Minimize())


def answer(queries: Sequence[Query], start: int, losses: Sequence[float]) -> list[Trial]:
    return [
        Trial(
            start + i, query, State.COMPLETED, outcome=Outcome(State.COMPLETED, y=[loss], loss=loss)
        )
        for i, (query, loss) in enumerate(zip(queries, losses, strict=True))
    ]


def forget() -> None:
    cmaes._CACHE._entries.clear()


@pytest.mark.parametrize("d", [1, 3])
def test_finds_a_bowl(d: int) -> None:
    assert run(sphere(d), 250).best.loss < 1e-6


def test_finds_hartmann() -> None:
    assert run(bi.ready_problem("hartmann6", differentiable=False), 500, seed=1).best.loss < -3.2


def test_many_coordinates_get_a_diagonal_covariance() -> None:
    study = run(sphere(120), 400, batch=18)
    assert study.best.loss < 0.8 * min(trial.loss for trial in study.trials[:18])


def test_a_generation_is_the_same_however_it_is_cut_into_asks() -> None:
    one, seven, many = (run(sphere(), 70, batch=batch) for batch in (1, 7, 14))
    points = [[t.query.point.tolist() for t in study.trials] for study in (one, seven, many)]
    assert points[0] == points[1] == points[2]
    assert {t.query.meta["generation"] for t in one.trials} == set(range(10))


def test_no_hidden_randomness_no_files_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], recwarn: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    state, other = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    run(bi.Problem(bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: 1.0, Minimize()), 100)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert random.getstate() == other
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_right_without_the_cache() -> None:
    study = run(sphere(), 100)
    statement, forgetful = study.problem.statement, []
    for n in (0, 1, 6, 7, 50, 99, 100):
        forget()
        forgetful.append(CMAES().ask(statement, study.trials[:n], Request(n, 3)).queries)
    for queries, n in zip(forgetful, (0, 1, 6, 7, 50, 99, 100), strict=True):
        again = CMAES().ask(statement, study.trials[:n], Request(n, 3)).queries
        assert [q.to_json() for q in again] == [q.to_json() for q in queries]


def test_two_logs_of_one_problem_do_not_mix() -> None:
    statement = sphere().statement
    queries = CMAES().ask(statement, [], Request(count=99)).queries
    rising, falling = (answer(queries, 0, losses) for losses in (range(7), range(7, 0, -1)))
    apart = []
    for log in (rising, falling):
        forget()
        apart.append(CMAES().ask(statement, log, Request(count=1)).queries[0].point)
    together = [
        CMAES().ask(statement, log, Request(count=1)).queries[0].point for log in (rising, falling)
    ]
    assert np.array_equal(apart, together)
    assert not np.array_equal(*apart)


def test_threads_get_what_one_alone_gets() -> None:
    study = run(sphere(), 60)
    statement = study.problem.statement

    def ask(n: int) -> list[float]:
        return CMAES().ask(statement, study.trials[:n], Request(count=1)).queries[0].point.tolist()

    lengths = [7, 14, 59, 30, 42, 0] * 4
    alone = [ask(n) for n in lengths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, lengths)) == alone


def test_waits_for_the_last_of_a_generation_and_cares_for_no_order() -> None:
    statement = sphere().statement
    queries = CMAES().ask(statement, [], Request(count=99)).queries
    assert len(queries) == 7
    log = answer(queries, 0, [3.0, 1.0, 2.0, 7.0, 6.0, 5.0, 4.0])
    waiting = [*log[:3], Trial(3, queries[3], State.RUNNING), *log[4:]]
    assert CMAES().ask(statement, waiting, Request(count=2)).queries == ()
    assert len(CMAES().ask(statement, log[:5], Request(count=9)).queries) == 2
    shuffled = [log[i] for i in (4, 2, 0, 6, 1, 3, 5)]
    after = [
        CMAES().ask(statement, observed, Request(count=1)).queries[0].point
        for observed in (log, shuffled)
    ]
    assert np.array_equal(*after)


def test_starts_at_the_best_given_trial_and_stays_with_it() -> None:
    problem = sphere(6)
    study = bi.Study.create("s", problem, CMAES(sigma0=0.01))
    study.add(
        points=np.array([[0.1] * 6, [0.65] * 6]),
        Y=[problem.oracle.fn(np.full(6, v)) for v in (0.1, 0.65)],
    )
    study.run(budget=30)
    own = [t for t in study.trials if t.origin == "cmaes"]
    assert {t.query.meta["from"] for t in own} == {1}
    assert np.abs(np.array([t.point for t in own]) - 0.65).max() < 0.1
    study.add(points=np.full((1, 6), 0.7), Y=[0.0])
    study.run(budget=60)
    assert {t.query.meta["from"] for t in study.trials if t.origin == "cmaes"} == {1}


def test_restarts_when_nothing_moves() -> None:
    space = bi.Box({"n": bi.Int(0, 2), "on": bi.Choice(True, False)})
    study = run(bi.Problem(space, lambda d: d["n"], Minimize(), reuse=False), 400)
    starts = [t.query.meta["start"] for t in study.trials]
    sizes = {
        start: 1
        + max(t.query.meta["index"] for t in study.trials if t.query.meta["start"] == start)
        for start in range(max(starts))
    }
    assert max(starts) >= 3
    assert sizes[1] == 2 * sizes[0], "the second population is twice as large"
    assert max(starts[:50]) < max(starts)


def test_asks_only_for_what_can_be_evaluated() -> None:
    study = run(mixed.problem(), 120)
    points = np.array([t.query.point for t in study.trials])
    assert np.array_equal(study.problem.space.domain.project(points), points)


def test_solves_the_mixed_problem_with_its_constraint() -> None:
    assert run(mixed.problem(), 300, seed=1).best.loss < -61.8


def test_in_a_latent_it_starts_as_the_prior_and_stays_plausible() -> None:
    statement = latent(16, radius=5.0)
    log: list[Trial] = []
    for _ in range(20):
        queries = CMAES().ask(statement, log, Request(count=99)).queries
        points = np.array([query.point for query in queries])
        if not log:
            assert np.linalg.norm(points, axis=1).mean() == pytest.approx(4.0, abs=0.7)
        assert np.linalg.norm(points, axis=1).max() <= 5.0 + 1e-9
        log += answer(queries, len(log), points[:, 0].tolist())
    assert min(trial.loss for trial in log) < -4.0


def test_failed_trials_rank_last_and_broken_constraints_before_them() -> None:
    def outcome(state: State, loss: float | None = None, violation: float = 0.0) -> Trial:
        y = None if loss is None else [loss]
        return Trial(
            0, Query([0.0]), state, outcome=Outcome(state, y=y, loss=loss, violation=violation)
        )

    trials = [
        outcome(State.FAILED),
        outcome(State.COMPLETED, -9.0, 0.5),
        outcome(State.COMPLETED, 1e6),
        Trial(0, Query([0.0]), State.CANCELLED),
        outcome(State.COMPLETED, -99.0, 0.9),
        outcome(State.COMPLETED, -3.0),
        outcome(State.INFEASIBLE),
    ]
    scores = cmaes._scores(trials)
    assert scores is not None
    assert scores[[2, 5]].tolist() == [1e6, -3.0], "losses stay what they are"
    assert (
        scores[5] < scores[2] < scores[1] < scores[4] < scores[0] == scores[3] == scores[6] < np.inf
    )
    assert cmaes._scores([*trials, None]) is None
    assert cmaes._scores([*trials, Trial(0, Query([0.0]), State.LOST)]) is None


@pytest.mark.filterwarnings("ignore:study ")
def test_survives_an_oracle_that_always_fails() -> None:
    def broken(x: Any) -> float:
        raise OSError("no licence")

    study = run(bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), broken, Minimize()), 40)
    assert len(study.trials) == 40
    assert study.best is None


@pytest.mark.parametrize("options", [{"sigma0": 0.0}, {"sigma0": float("nan")}, {"popsize": 2}])
def test_options_that_cannot_be_meant(options: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match="cmaes"):
        CMAES(**options)
