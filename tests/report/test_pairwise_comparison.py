"""Pairwise tests: power with few seeds, leading rivals, ranks of refused and crashed runs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, wilcoxon as scipy_wilcoxon

from bo_invert.benchmark import suite
from bo_invert.report.benchmark_tables import BenchmarkRuns, bench_markdown, benchmark_tables
from bo_invert.report.figures import profiles_figure
from bo_invert.report.pairwise_comparison import (
    losses_table,
    pairwise_tests,
    pooled_table,
    problems_table,
)
from bo_invert.report.performance import contenders, ranks_at, run_frame
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistical_tests import (
    least_p,
    stratified_balance,
    stratified_wilcoxon,
    wilcoxon,
)
from bo_invert.report.table import Table


def a_run(
    losses: list[float],
    label: str = "a",
    problem: str = "p",
    seed: int = 0,
    status: Status = Status.FINISHED,
) -> Run:
    """One loss after each call."""
    curve = np.minimum.accumulate(np.array(losses, dtype=float))
    calls = np.arange(1, len(losses) + 1)
    return Run(
        label, problem, seed, {"name": label}, len(losses), calls=calls, losses=curve, status=status
    )


def field(scores: dict[str, dict[str, list[float]]], start: float = 100.0) -> list[Run]:
    """Labels to problems to the loss after two calls, by seed."""
    return [
        a_run([start, loss], label, problem, seed)
        for label, problems in scores.items()
        for problem, losses in problems.items()
        for seed, loss in enumerate(losses)
    ]


def outcomes(runs: list[Run], optima: dict[str, float] | None = None, **options: Any) -> list[Any]:
    """Tests of the method ``mine`` after two calls."""
    return list(pairwise_tests(run_frame(runs, optima), "mine", (2,), **options).itertuples())


def column(table: Table, name: str) -> dict[str, object]:
    """By what stands first in a row."""
    return {row[0]: row[table.columns.index(name)] for row in table.rows}


# ---------------------------------------------------------------------- the tests themselves


def test_the_signed_rank_test_counts_all_signs_with_ties_too() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(size=(2, 9))
        assert wilcoxon(a, b) == pytest.approx(scipy_wilcoxon(a, b, method="exact").pvalue)
    for differences in ([1, 1, 1, 1, 1], [1, -2, 2, 2, 3, -3, 5], [0, 1, 1, -1, 4, 4]):
        ranks = np.array(
            [
                np.mean(np.flatnonzero(np.sort(np.abs(_differing(differences))) == abs(d)) + 1)
                for d in _differing(differences)
            ]
        )
        seen = abs((np.sign(_differing(differences)) * ranks).sum())
        sums = [
            abs((np.array(signs) * ranks).sum())
            for signs in itertools.product((-1, 1), repeat=len(ranks))
        ]
        assert wilcoxon(differences, [0] * len(differences)) == pytest.approx(
            np.mean(np.array(sums) >= seen - 1e-9)
        )


def _differing(differences: list[float]) -> np.ndarray:
    return np.array([d for d in differences if d])


def test_no_test_goes_below_the_least_p() -> None:
    for pairs in range(1, 21):
        assert wilcoxon([1.0] * pairs, [0.0] * pairs) == least_p(pairs), (
            "ties among differences gain nothing"
        )
    assert least_p(5) == 0.0625
    assert least_p(0) == wilcoxon([], []) == 1.0


def test_the_stratified_test_by_hand() -> None:
    strata = [([1, 2], [0, 0]), ([1e6, 0], [0, 3e6])]  # ranks 1, 2 and 1, -2
    assert stratified_balance(strata) == pytest.approx(2 / 6)
    sums = [abs(np.dot(signs, [1, 2, 1, 2])) for signs in itertools.product((-1, 1), repeat=4)]
    assert stratified_wilcoxon(strata) == pytest.approx(np.mean(np.array(sums) >= 2))
    assert stratified_wilcoxon([([1], [0])] * 20) == pytest.approx(least_p(20)), (
        "one of each is a sign test"
    )
    mixed = [([1], [0])] * 15 + [([0], [1])] * 5
    assert stratified_wilcoxon(mixed) == pytest.approx(binomtest(15, 20).pvalue)
    assert stratified_wilcoxon([]) == 1.0


def test_the_stratified_test_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    rejected = 0
    for _ in range(400):  # units and spreads differ by problem, without a true difference
        strata = [tuple(10.0**unit * rng.standard_cauchy(size=(2, 5))) for unit in range(4)]
        rejected += stratified_wilcoxon(strata) < 0.05
    assert rejected <= 33  # the exact test rejects 5 % at most; three standard errors more


# ---------------------------------------------------------------------- tests by problem


def test_duels_find_the_losses() -> None:
    seeds = range(8)
    runs = field(
        {
            "mine": {"p": [2.0 + seed for seed in seeds]},
            "better": {"p": [1 + seed / 2 for seed in seeds]},
            "worse": {"p": [80.0 + seed for seed in seeds]},
            "same": {"p": [2.0 + seed for seed in seeds]},
        }
    )
    found = {test.rival: test for test in outcomes(runs, {"p": 0.0})}
    assert found["better"].p_value == pytest.approx(2 / 2**8)
    assert found["better"].adjusted == pytest.approx(3 * 2 / 2**8)
    assert (found["better"].worse, found["better"].led) == (True, True)
    assert (found["worse"].better, found["worse"].led) == (True, False)
    same = found["same"]
    assert (same.p_value, same.won, same.tied, same.lost, same.led) == (1, 0, 8, 0, False)
    assert (found["better"].mine, found["better"].theirs, found["better"].pairs) == (5.5, 2.75, 8)
    assert found["better"].gap == pytest.approx(
        np.median([2 + seed - 1 - seed / 2 for seed in seeds])
    )


def test_losses_next_to_the_optimum_are_ties() -> None:
    runs = field({"mine": {"p": [1e-12] * 8}, "other": {"p": [1e-30] * 8}}, start=1.0)
    test = outcomes(runs, {"p": 0.0})[0]
    assert (test.p_value, test.balance, test.tied) == (1, 0, 8)


def test_five_defeats_of_five_are_listed_although_no_test_can_find_them() -> None:
    runs = field({"mine": {"p": [5.0, 6, 7, 8, 9]}, "ax": {"p": [1.0, 2, 3, 4, 4.5]}})
    data = BenchmarkRuns(tuple(runs), (2,), "mine", {"p": 0.0})
    table = losses_table("mine", data.tests)
    assert [row[:7] for row in table.rows] == [("p", 2, "ax", "0 / 0 / 5", 7.0, 3.0, 4.0)]
    assert table.rows[0][-4:] == (0.062, 0.062, 0.062, "no")
    assert "0 significant of 1 led, among 1 test" in table.caption
    assert "1 of these 1 cannot be significant" in table.notes[-1]
    assert column(problems_table("mine", data.tests, ["ax"]), "could be significant") == {
        "ax": "0 of 1"
    }
    assert table.caption in bench_markdown(data)


def test_a_rival_leads_by_seeds_or_by_ranks() -> None:
    scores = {
        "mine": [9.0, 9.0, 9.0, 9.0, 9.0],
        "by seeds": [8.9, 8.8, 8.7, 17.0, 18.0],
        "by ranks": [1.0, 1.5, 9.1, 9.2, 9.3],
        "neither": [8.9, 9.2, 9.3, 8.6, 9.5],
    }
    runs = field({label: {"p": losses} for label, losses in scores.items()})
    found = {test.rival: test for test in outcomes(runs)}
    leads = {
        rival: (test.won, test.lost, round(15 * test.balance), test.led)
        for rival, test in found.items()
    }
    assert leads == {
        "by seeds": (2, 3, -3, True),
        "by ranks": (3, 2, 3, True),
        "neither": (3, 2, -5, False),
    }
    assert {
        row[2] for row in losses_table("mine", pairwise_tests(run_frame(runs), "mine", (2,))).rows
    } == {
        "by seeds",
        "by ranks",
    }


def test_the_lowest_p_is_that_of_the_family() -> None:
    labels = [f"rival {number}" for number in range(13)]
    scores = {label: {"p": [50.0 + seed for seed in range(8)]} for label in labels}
    runs = field({"mine": {"p": [float(seed) for seed in range(8)]}, **scores})
    found = outcomes(runs, {"p": 0.0})
    assert {test.p_value for test in found} == {least_p(8)}
    assert {test.adjusted for test in found} == {test.least for test in found} == {13 * least_p(8)}
    assert not any(test.better or test.decidable for test in found), (
        "with 13 rivals eight of eight are not enough"
    )
    apart = outcomes(runs, {"p": 0.0}, apart=labels[3:])
    assert {test.rival: test.least for test in apart}["rival 0"] == 3 * least_p(8)
    assert {test.rival: test.least for test in apart}["rival 3"] == 10 * least_p(8)
    assert [test.rival for test in apart if test.better] == labels[:3]


def test_no_adjusted_p_is_below_the_lowest_one() -> None:
    rng = np.random.default_rng(3)
    counts = {"a": 4, "b": 7, "c": 7, "d": 12}
    for _ in range(50):
        runs = field(
            {
                "mine": {"p": rng.normal(size=12).tolist()},
                **{label: {"p": rng.normal(1, 1, size=n).tolist()} for label, n in counts.items()},
            }
        )
        for test in outcomes(runs):
            assert test.adjusted >= test.least


def test_our_own_methods_hide_no_defeat_by_a_peer() -> None:
    ours = {f"own {number}": {"p": [20.0 + seed for seed in range(7)]} for number in range(4)}
    runs = tuple(
        field(
            {
                "auto": {"p": [9.0 + seed for seed in range(7)]},
                "peer": {"p": [float(seed) for seed in range(7)]},
                **ours,
            }
        )
    )
    together = BenchmarkRuns(runs, (2,), "auto", {"p": 0.0})
    assert not together.tests["worse"].any(), "five rivals: seven defeats of seven are not enough"
    apart = BenchmarkRuns(runs, (2,), "auto", {"p": 0.0}, ours=frozenset({"auto", *ours}))
    assert apart.tests.query("worse")["rival"].tolist() == ["peer"]
    captions = [table.caption for table in benchmark_tables(apart)]
    assert "Tests in which a peer leads auto: 1 significant of 1 led, among 1 test" in captions
    assert "auto against every method of ours, all problems" in captions


def test_ours_and_peers_of_the_suite() -> None:
    assert suite.own_labels(suite.METHODS) == {"auto", "gp", "turbo", "least_squares"}
    assert suite.own_labels({"mine": {"name": "gp", "options": {}}, "theirs": {"name": "ax"}}) == {
        "mine"
    }


# ---------------------------------------------------------------------- all problems together


def test_five_seeds_of_ten_problems_have_power_together() -> None:
    rng = np.random.default_rng(1)
    problems = [f"p{number}" for number in range(10)]
    base = {
        name: (10.0 ** (number - 5) * rng.uniform(1, 2, 5)) for number, name in enumerate(problems)
    }
    runs = []
    for (
        name,
        losses,
    ) in base.items():  # units are decades apart; the peer is better on four seeds of five
        better = losses * np.where(np.arange(5) == 0, 1.1, 0.7)
        runs += field({"mine": {name: losses.tolist()}, "peer": {name: better.tolist()}}, start=1e9)
    data = BenchmarkRuns(tuple(runs), (2,), "mine", dict.fromkeys(problems, -1.0))
    runs = tuple(runs)
    assert not data.tests["worse"].any()
    (test,) = data.pooled.itertuples()
    assert (test.problems, test.pairs, test.won, test.tied, test.lost) == (
        10,
        50,
        10,
        0,
        40,
    )
    assert test.worse
    assert test.p_value < 1e-3
    assert test.least == least_p(50)
    table = pooled_table("mine", data.pooled, ["peer"])
    assert table.rows[0][:3] == ("peer", 10, 50)
    assert str(column(table, "after 2 calls")["peer"]).startswith("10 / 0 / 40 (p ")
    assert str(column(table, "after 2 calls")["peer"]).endswith(", worse)")


def test_one_seed_of_each_problem_is_enough_together() -> None:
    problems = {f"p{number}": [2.0] for number in range(8)}
    runs = tuple(field({"mine": problems, "peer": {name: [1.0] for name in problems}}))
    data = BenchmarkRuns(runs, (2,), "mine", dict.fromkeys(problems, 0.0))
    assert data.tests.empty
    (test,) = data.pooled.itertuples()
    assert (test.worse, test.p_value) == (True, least_p(8))
    assert "mine against every peer, all problems" in bench_markdown(data)


def test_the_rank_of_a_difference_is_that_within_its_problem() -> None:
    runs = field({"mine": {"small": [1.0, 2, 3, 4], "large": [10.0, 20, 30, 40]},
                  "peer": {"small": [2.0, 4, 6, 8], "large": [9.0, 18, 27, 36]}})  # fmt: skip
    (test,) = outcomes(runs, {"small": 0.0, "large": 0.0}, pooled=True)
    assert (test.balance, test.p_value, test.won, test.lost) == (0, 1, 4, 4)


# ---------------------------------------------------- refused runs, crashes, ties in ranks


def test_refused_and_crashed_runs_rank_last() -> None:
    runs = []
    for seed in range(2):
        runs += field({"a": {"p": [3.0]}, "b": {"p": [5.0]}, "c": {"p": [3.0]}, "d": {"p": [1.0]}})
        runs += [
            a_run([100, 4], "a", "q"),
            a_run([100, 2], "b", "q"),
            a_run([], "c", "q", status=Status.REFUSED),
        ]
        runs += [a_run([1], "d", "q", status=Status.ERROR)]
        runs[-8:] = [replace(run, seed=seed) for run in runs[-8:]]
    runs += [a_run([], "e", problem, status=Status.REFUSED) for problem in "pq"]
    assert contenders(run_frame(runs)) == ["a", "b", "c", "d"], (
        "a method that refused everything is not ranked"
    )
    ranks = ranks_at(run_frame(runs, {"p": 0.0, "q": 0.0}), "abcd", (1, 2))
    assert ranks is not None
    assert ranks.pairs == 4
    by_label = ranks.means[2].to_dict()
    assert by_label == {
        "a": (2.5 + 2) / 2,
        "b": (4 + 1) / 2,
        "c": (2.5 + 3.5) / 2,
        "d": (1 + 3.5) / 2,
    }
    first = ranks.means[1].to_dict()
    assert first["d"] == (2.5 + 1) / 2, "what it found before it broke down counts"


def test_a_refusal_of_a_rival_is_no_win_and_one_of_ours_is_a_loss() -> None:
    runs = field({"mine": {"p": [3.0] * 6}, "other": {"p": [4.0] * 6}})
    runs += [a_run([9, 1], "mine", "q", seed) for seed in range(6)]
    runs += [a_run([], "other", "q", seed, Status.REFUSED) for seed in range(6)]
    runs += [a_run([], "mine", "r", seed, Status.REFUSED) for seed in range(6)]
    runs += [a_run([9, 1], "other", "r", seed) for seed in range(6)]
    frame = run_frame(runs)
    found = {test.problem: test for test in outcomes(runs)}
    assert set(found) == {"p", "r"}
    assert (found["r"].lost, found["r"].worse, found["r"].mine) == (6, True, math.inf)
    (test,) = outcomes(runs, pooled=True)
    assert (test.problems, test.won, test.lost) == (2, 6, 6)
    figure = profiles_figure(frame, ["mine", "other"], (1e-2,))
    assert [trace.y[-1] for trace in figure.data] == [2 / 3, 1 / 3], (
        "what was refused was not solved"
    )
