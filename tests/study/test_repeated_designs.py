"""Reuse of known designs: a design is evaluated once, also at several points."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.benchmark.single_run import run_one
from bo_invert.storage.open import open_store


class Words:
    """Texts of one letter per coordinate: very many points for one text."""

    def __init__(self, noise: float = 0.0) -> None:
        self.asked: list[str] = []
        self.noise = noise

    def decode(self, codes: np.ndarray) -> list[str]:
        return ["".join("ab"[int(z > 0)] for z in row) for row in codes]

    def score(self, text: str) -> float:
        self.asked.append(text)
        return text.count("b") + self.noise * len(self.asked)

    def problem(self, dim: int = 4, **options: Any) -> bi.Problem:
        return bi.Problem(bi.Latent(self.decode, dim), self.score, bi.Maximize(), **options)


PLAIN = {"kernel": "matern", "warp": False}


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("gp", PLAIN), ("cmaes", {}), ("pcn", {"steps": 20}), ("auto", {}), ("turbo", PLAIN)],
    ids=["gp", "cmaes", "pcn", "auto", "turbo"],
)
@pytest.mark.slow
def test_no_text_is_paid_twice(strategy: str, options: Any) -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(), strategy, seed=0, **options).run(10)
    assert len(words.asked) == len(set(words.asked)) == study.spent.values == 10
    texts = Counter(trial.design for trial in study.trials)
    assert study.spent.reused == sum(texts.values()) - len(texts) == len(study.trials) - 10
    values = {trial.design: trial.y[0] for trial in study.trials}
    assert all(trial.y[0] == values[trial.design] for trial in study.trials)


def test_it_ends_when_there_is_nothing_new() -> None:
    """Sixteen texts are all there are."""
    words = Words()
    study = bi.Study.create("s", words.problem(), strategy="prior", seed=0)
    with pytest.warns(UserWarning, match="were known designs .16 designs are known"):
        study.run(40)
    assert len(set(words.asked)) == len(words.asked) == study.spent.values <= 16


def test_proposals_in_vain_are_few_whatever_the_batch() -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(), strategy="prior", seed=0)
    with pytest.warns(UserWarning, match="so the run ends here") as caught:
        study.run(40, batch=10)
    assert sum("known" in str(one.message) for one in caught) == 1
    assert len(study.trials) < 16 + 4 * 100


class Stubborn(bi.Strategy):
    """Proposes one design again and again, and every seventh time another one."""

    name = "stubborn"

    def ask(self, statement: Any, trials: Any, request: bi.Request) -> bi.Proposal:
        point = np.full(statement.domain.dim, 1.0)
        if len(trials) % 7 == 6:
            point = request.stream(0).choice([-1.0, 1.0], len(point))
        return bi.Proposal((bi.Query(point),))


def test_known_designs_are_billed_from_the_limit_so_that_a_run_spends_its_budget() -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(6), Stubborn(), seed=0)
    study.run(30, reuse_limit=40)
    assert study.spent.calls == len(words.asked) == 30
    early = [trial.design for trial in study.trials[:40]]
    fresh = len(set(early))
    assert study.spent.reused == 40 - fresh > 0
    # From the limit on, every proposal has a call, known or not.
    assert len(study.trials) == 40 + 30 - fresh
    assert words.asked[fresh:] == [trial.design for trial in study.trials[40:]]


def test_a_limit_counts_the_trials_of_earlier_runs() -> None:
    whole, parts = Words(), Words()
    quiet = bi.Study.create("s", whole.problem(6), Stubborn(), seed=0).run(30, reuse_limit=40)
    broken = bi.Study.create("s", parts.problem(6), Stubborn(), seed=0)
    broken.run(30, reuse_limit=40, stop=lambda: len(parts.asked) > 3)
    broken.run(30, reuse_limit=40)
    assert parts.asked == whole.asked
    assert broken.spent.reused == quiet.spent.reused


def test_reuse_does_not_end_a_run_of_a_comparison() -> None:
    run = run_one("stubborn", Words().problem(6), Stubborn(), 25)
    assert (run.status, run.ended) == ("finished", "budget spent")
    assert run.bill.calls == 25


def test_a_box_of_whole_numbers_and_choices_pays_once_for_each() -> None:
    space = bi.Box({"n": bi.Int(1, 3), "kind": bi.Choice("x", "y")})
    asked: list[tuple[int, str]] = []

    def oracle(p: Any) -> float:
        asked.append((p["n"], p["kind"]))
        return float(p["n"])

    study = bi.Study.create(
        "s", bi.Problem(space, oracle, bi.Minimize()), strategy="random", seed=0
    )
    with pytest.warns(UserWarning, match="6 distinct designs exist"):
        study.run(40)
    assert len(asked) == len(set(asked)) == study.spent.values == 6
    assert (
        study.spent.reused < 40
    )  # what is finite is known to be: there is no search for a seventh
    asked.clear()
    bi.Study.create(
        "s", bi.Problem(space, oracle, bi.Minimize(), reuse=False), strategy="random", seed=0
    ).run(20)
    assert len(asked) == 20
    asked.clear()
    bi.Study.create(
        "s", bi.Problem(space, oracle, bi.Minimize()), "gp", seed=0, noisy=True, **PLAIN
    ).run(12)
    assert len(asked) == 12
    assert bi.Box({"n": bi.Int(1, 3), "x": bi.Float(0, 1)}).identify is None


def test_a_free_worker_waits_for_news_where_all_designs_are_under_way() -> None:
    """It is not the end, and no reason to ask on and on."""
    begun = threading.Barrier(3, timeout=20)
    asked: list[int] = []

    def oracle(p: Any) -> float:
        asked.append(p["n"])
        if len(asked) <= 3:
            begun.wait()
            time.sleep(0.2)
        return float(p["n"])

    problem = bi.Problem(bi.Box({"n": bi.Int(1, 3)}), oracle, bi.Minimize())
    study = bi.Study.create("s", problem, strategy="random", seed=0)
    with pytest.warns(UserWarning, match="3 distinct designs exist") as caught:
        study.run(10, batch=4, executor="threads")
    assert sorted(asked) == [1, 2, 3]
    assert len(caught) == 1
    assert len(study.trials) < 60


@pytest.mark.slow
def test_an_interrupted_run_knows_them_again() -> None:
    whole = Words()
    quiet = bi.Study.create("s", whole.problem(), "gp", seed=3, **PLAIN).run(10)
    store, parts = open_store(None), Words()
    bi.Study.create("s", parts.problem(), "gp", seed=3, storage=store, **PLAIN).run(
        10, stop=lambda: len(parts.asked) > 5
    )
    again = bi.Study.open("s", store, problem=parts.problem()).run(10)
    assert [t.point.tolist() for t in again.trials] == [t.point.tolist() for t in quiet.trials]
    assert parts.asked == whole.asked


def test_twice_in_one_batch_is_one_call() -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(2), strategy="prior", seed=0)
    trials = study.ask(3)
    assert len({trial.design for trial in trials}) == len(trials) == 3
    given_up = [trial for trial in study.trials if trial.state is bi.State.CANCELLED]
    assert given_up
    assert "is running" in given_up[0].outcome.reason
    assert study.spent.lost == study.spent.values == 0


def test_a_users_own_point_is_measured_again() -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(), strategy="prior").run(3)
    text = words.asked[0]
    study.enqueue(point=study.trials[0].point)
    study.run(4)
    assert words.asked.count(text) == 2


def test_answers_that_differ_are_asked_for_again() -> None:
    """A noisy oracle: once that shows, nothing is taken from the log."""
    words = Words(noise=0.01)
    study = bi.Study.create("s", words.problem(2), strategy="prior", seed=0).run(2)
    study.enqueue(point=study.trials[0].point)
    study.run(30)
    assert len(words.asked) == study.spent.values == 30


@pytest.mark.parametrize("how", ["reuse=False", "noisy"])
@pytest.mark.slow
def test_it_can_be_switched_off(how: str) -> None:
    words = Words()
    options = {"reuse": False} if how == "reuse=False" else {}
    strategy = {"name": "gp", "options": {"noisy": True, **PLAIN}} if how == "noisy" else "prior"
    study = bi.Study.create("s", words.problem(2, **options), strategy=strategy, seed=0).run(12)
    assert len(words.asked) == 12
    assert study.spent.reused == 0


def test_what_was_added_is_known() -> None:
    words = Words()
    study = bi.Study.create("s", words.problem(2), strategy="prior", seed=0)
    points = np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    study.add(points=points, Y=[2.0, 0.0, 1.0])
    study.run(1)
    assert words.asked == ["ab"]


def test_infeasible_is_an_answer_too() -> None:
    asked = []

    def score(text: str) -> float:
        asked.append(text)
        if text == "ab":
            raise bi.InfeasibleError("cannot be made")
        return 1.0

    problem = bi.Problem(bi.Latent(Words().decode, 2), score, bi.Maximize())
    study = bi.Study.create("s", problem, strategy="prior", seed=0).run(4)
    assert sorted(asked) == ["aa", "ab", "ba", "bb"]
    assert study.spent.infeasible >= 1


def test_arrays_of_real_numbers_are_never_looked_up_unless_wanted() -> None:
    decoded = []

    def decode(codes: np.ndarray) -> np.ndarray:
        decoded.append(len(codes))
        return np.round(codes)

    space = bi.Latent(decode, 1)
    for reuse, most in ((None, 0), (True, 9)):
        problem = bi.Problem(space, lambda x: float(x[0]), bi.Minimize(), reuse=reuse)
        study = bi.Study.create("s", problem, strategy="prior", seed=0).run(4)
        assert (study.spent.reused > 0) is (most > 0)


def test_answers_of_a_cache_end_a_run_at_last() -> None:
    """They use up no budget."""

    class Free(bi.Oracle):
        batched = True

        def __call__(self, designs: Any) -> Any:
            return np.zeros(len(designs))

        def answers(self, designs: Any, outputs: Any) -> Any:
            from dataclasses import replace

            return [replace(answer, calls=0) for answer in super().answers(designs, outputs)]

    study = bi.Study.create(
        "s", bi.Problem(bi.Box([0.0], [1.0]), Free(), bi.Minimize()), strategy="random"
    )
    with pytest.warns(UserWarning, match="came from a cache"):
        study.run(10)
    assert study.spent.values == 0
    assert study.spent.reused == 200
