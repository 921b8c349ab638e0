"""Pairwise tests and their tables: one method against each other method, by problem and over all.

A test over few seeds may be unable to find any difference, so each result states the lowest
p-value that was possible.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.report.performance import losses_at, matrix, scores_at
from bo_invert.report.statistics import (
    holm,
    least_p,
    median,
    stratified_balance,
    stratified_wilcoxon,
)
from bo_invert.report.table import Cell, Table, counted, span
from bo_invert.types import Array

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""Level of significance of adjusted p-values; the convention of the field (Fisher 1925)."""

LEAST_SEEDS = 3
"""Smallest number of common seeds for a test on one problem. Engineering choice: with fewer, the
lowest possible p-value is 0.5 or more."""

_TEST = "p: exact two-sided Wilcoxon signed-rank test over common seeds"
_HOLM = "Holm-adjusted for the rivals of this table"
_LEAST_NOTE = (
    "Lowest p: the adjusted p-value if one side were better in every pair, against every rival. "
    f"If it is {SIGNIFICANT} or more, no result of this test can be significant."
)


@dataclass(frozen=True, kw_only=True)
class PairwiseTest:
    """Signed-rank test of a method against a rival over the pairs of problem and seed of both.

    Args:
        rival: label of the other method.
        calls: number of calls after which the runs are compared.
        problem: name of the problem; None for all problems together.
        problems: number of problems.
        pairs: number of pairs.
        won: pairs in which the method is better.
        lost: pairs in which the rival is better.
        mine: median loss of the method; NaN for all problems together, like the next two.
        theirs: median loss of the rival.
        gap: median difference, ``mine - theirs`` in each pair.
        balance: rank-biserial correlation in [-1, 1]; -1: the method is better in every pair.
        p_value: two-sided p-value; ranks are within problems.
        adjusted: ``p_value`` after Holm's correction for the family of rivals.
        least: ``adjusted`` if one side had won every pair in all tests of the family.
    """

    rival: str
    calls: int
    problem: str | None
    problems: int
    pairs: int
    won: int
    lost: int
    mine: float
    theirs: float
    gap: float
    balance: float
    p_value: float
    adjusted: float = 1.0
    least: float = 1.0

    @property
    def tied(self) -> int:
        return self.pairs - self.won - self.lost

    @property
    def led(self) -> bool:
        """True if the rival has the higher rank sum or more pairs, significant or not."""
        return self.balance > 0 or self.lost > self.won

    @property
    def worse(self) -> bool:
        """True if the rival is significantly better."""
        return self.balance > 0 and self.adjusted < SIGNIFICANT

    @property
    def better(self) -> bool:
        """True if the method is significantly better."""
        return self.balance < 0 and self.adjusted < SIGNIFICANT

    @property
    def decidable(self) -> bool:
        """True if this number of pairs can be significant."""
        return self.least < SIGNIFICANT


def pairwise_tests(
    frame: pd.DataFrame,
    label: str | None,
    calls: Sequence[int],
    apart: Collection[str] = (),
    *,
    pooled: bool = False,
) -> list[PairwiseTest]:
    """Test a method against every other one, at each number of calls.

    Holm's correction applies to the rivals of one family at one number of calls, and without
    ``pooled`` on one problem. A pair that the rival refuses is omitted; one that the method
    itself refuses is lost. A few seeds of many problems, pooled, can show a difference that a
    few seeds of one problem cannot.

    Args:
        frame: runs of all methods, see ``performance.run_frame``.
        label: label of the method; no tests if it is None or has no runs.
        calls: numbers of calls after which the runs are compared.
        apart: labels that form a family of their own, so that their number does not reduce the
            power of the tests against the other methods.
        pooled: if True, one test over all problems, stratified by problem; otherwise one test
            for each problem with at least ``LEAST_SEEDS`` common seeds.
    """
    labels = list(frame["label"].unique())
    if label not in labels:
        return []
    runs = matrix(frame, (~frame["refused"]).astype(float))
    problem_of, allowed = runs.index.get_level_values("problem").to_numpy(), runs.to_numpy() == 1.0
    tables = {
        number: [
            matrix(frame, values).to_numpy(dtype=float)
            for values in (scores_at(frame, number), losses_at(frame, number))
        ]
        for number in calls
    }
    own, found = labels.index(label), []
    for problem in [None] if pooled else list(dict.fromkeys(problem_of)):
        here = np.ones(len(runs), dtype=bool) if problem is None else problem_of == problem
        for number, (scores, losses) in tables.items():
            families: tuple[list[PairwiseTest], ...] = ([], [])
            for at, rival in enumerate(labels):
                both = here & allowed[:, at] & ~np.isnan(scores[:, own]) & ~np.isnan(scores[:, at])
                if at != own and both.sum() >= (1 if pooled else LEAST_SEEDS):
                    pair = np.ix_(both, [own, at])
                    test = _test(scores[pair], losses[pair], problem_of[both])
                    test = replace(test, rival=rival, calls=number, problem=problem)
                    families[rival in apart].append(test)
            found += [test for family in families for test in _corrected(family)]
    return found


def _corrected(family: Sequence[PairwiseTest]) -> list[PairwiseTest]:
    """Apply Holm's correction; its results are lowest where all p-values are lowest."""
    adjusted = holm([test.p_value for test in family])
    least = holm([least_p(test.pairs) for test in family])
    return [
        replace(test, adjusted=p, least=q)
        for test, p, q in zip(family, adjusted, least, strict=True)
    ]


def _test(scores: Array, losses: Array, problems: Array) -> PairwiseTest:
    """Test the first column of ``(pairs, 2)`` scores against the second one."""
    one, other = losses.T
    strata = [scores[problems == name].T for name in dict.fromkeys(problems)]
    gaps = np.subtract(one, other, out=np.zeros(len(losses)), where=one != other)
    medians = [median(values) if len(strata) == 1 else math.nan for values in (one, other, gaps)]
    return PairwiseTest(
        rival="",
        calls=0,
        problem=None,
        problems=len(strata),
        pairs=len(scores),
        won=int((scores[:, 0] < scores[:, 1]).sum()),
        lost=int((scores[:, 0] > scores[:, 1]).sum()),
        **dict(zip(("mine", "theirs", "gap"), medians, strict=True)),
        balance=stratified_balance(strata),
        p_value=stratified_wilcoxon(strata),
    )


def pairwise_tables(
    against: str,
    tests: Sequence[PairwiseTest],
    pooled: Sequence[PairwiseTest],
    rivals: Sequence[str],
    ours: Collection[str],
) -> list[Table]:
    """Return three tables for peers and three for this package's methods.

    Args:
        against: label of the tested method.
        tests: tests by problem.
        pooled: tests over all problems.
        rivals: labels of all other methods, in display order.
        ours: labels of this package's methods; the others are those of peers.
    """
    tables = []
    for own, kind in ((False, "peer"), (True, "method of ours")):
        group = [rival for rival in rivals if (rival in ours) == own]
        found = [test for test in tests if test.rival in group]
        tables += [
            pooled_table(against, pooled, group, kind),
            problems_table(against, found, group, kind),
            losses_table(against, found, kind),
        ]
    return tables


def pooled_table(
    against: str, tests: Sequence[PairwiseTest], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return pairs won, tied and lost against each rival, and the pooled test."""
    rows: list[tuple[Cell, ...]] = []
    for rival in rivals:
        own = [test for test in tests if test.rival == rival]
        if own:
            cells = [
                f"{_counts(test)} (p {_p(test.adjusted):g}"
                f"{', better' if test.better else ', worse' if test.worse else ''})"
                for test in own
            ]
            rows.append((rival, own[0].problems, own[0].pairs, *cells, _p(own[0].least)))
    columns = (kind, "problems", "pairs", *_after(tests), "lowest p")
    notes = (
        "Won / tied / lost pairs of problem and seed.",
        f"{_TEST}, stratified by problem, {_HOLM} at one number of calls, level {SIGNIFICANT}.",
        _LEAST_NOTE,
        "Problems that a rival refuses are omitted, not won.",
    )
    return Table(columns, tuple(rows), f"{against} against every {kind}, all problems", notes)


def problems_table(
    against: str, tests: Sequence[PairwiseTest], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return the number of problems significantly won, tied and lost against each rival."""
    rows: list[tuple[Cell, ...]] = []
    for rival in rivals:
        own = [test for test in tests if test.rival == rival]
        cells = []
        for number in dict.fromkeys(test.calls for test in tests):
            here = [test for test in own if test.calls == number]
            better, worse = sum(test.better for test in here), sum(test.worse for test in here)
            cells.append(f"{better} / {len(here) - better - worse} / {worse}")
        if own:
            low, high = (_p(pick(test.least for test in own)) for pick in (min, max))
            least = f"{low:g}" if math.isclose(low, high) else f"{low:g}–{high:g}"
            decidable = f"{sum(test.decidable for test in own)} of {len(own)}"
            rows.append((rival, *cells, span([test.pairs for test in own]), least, decidable))
    columns = (kind, *_after(tests), "seeds", "lowest p", "could be significant")
    notes = [
        f"{_TEST}, {_HOLM} on one problem at one number of calls, level {SIGNIFICANT}.",
        _LEAST_NOTE,
    ]
    if not any(test.led for test in tests):
        notes.append(f"No {kind} leads on any problem, significantly or not.")
    caption = f"Problems that {against} won / tied / lost significantly, by {kind}"
    return Table(columns, tuple(rows), caption, tuple(notes))


def losses_table(against: str, tests: Sequence[PairwiseTest], kind: str = "peer") -> Table:
    """Return every test that the rival leads, significant ones first."""
    led = sorted(
        (test for test in tests if test.led),
        key=lambda test: (not test.worse, test.adjusted, -test.balance),
    )
    rows = tuple(
        (test.problem, test.calls, test.rival, _counts(test), test.mine, test.theirs, test.gap,
         _p(test.p_value), _p(test.adjusted), _p(test.least), "yes" if test.worse else "no")
        for test in led
    )  # fmt: skip
    columns = ("problem", "calls", kind, "seeds won / tied / lost", f"{against}: median",
               "rival: median", "median difference", "p", "p (Holm)", "lowest p",
               "significant")  # fmt: skip
    undecidable = sum(not test.decidable for test in led)
    caption = (
        f"Tests in which a {kind} leads {against}: {sum(test.worse for test in led)} significant "
        f"of {len(led)} led, among {counted(len(tests), 'test')}"
    )
    notes = (
        "Values are losses, not regrets. A rival leads by its rank sum or by more seeds.",
        f"{undecidable} of these {len(led)} cannot be significant with this number of seeds.",
    )
    return Table(columns, rows, caption, notes)


def _after(tests: Sequence[PairwiseTest]) -> list[str]:
    return [f"after {number} calls" for number in dict.fromkeys(test.calls for test in tests)]


def _counts(test: PairwiseTest) -> str:
    return f"{test.won} / {test.tied} / {test.lost}"


def _p(value: float) -> float:
    return float(f"{value:.2g}")
