"""Pairwise tests: one method against each other method, by problem and over all problems.

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
    spread,
    stratified_balance,
    stratified_wilcoxon,
)
from bo_invert.types import Array

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""Level of significance of adjusted p-values; the convention of the field (Fisher 1925)."""

LEAST_SEEDS = 3
"""Smallest number of common seeds for a test on one problem. Engineering choice: with fewer, the
lowest possible p-value is 0.5 or more."""


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
    label: str,
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
        label: label of the method.
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
                    pair = [own, at]
                    test = _test(scores[both][:, pair], losses[both][:, pair], problem_of[both])
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
    names = list(dict.fromkeys(problems))
    strata = [(scores[problems == name, 0], scores[problems == name, 1]) for name in names]
    with np.errstate(invalid="ignore"):
        gaps = np.where(losses[:, 0] == losses[:, 1], 0.0, losses[:, 0] - losses[:, 1])
    medians = [spread(values) for values in (losses[:, 0], losses[:, 1], gaps)]
    mine, theirs, gap = (
        math.nan if one is None or len(names) > 1 else one.median for one in medians
    )
    return PairwiseTest(
        rival="",
        calls=0,
        problem=None,
        problems=len(names),
        pairs=len(scores),
        won=int((scores[:, 0] < scores[:, 1]).sum()),
        lost=int((scores[:, 0] > scores[:, 1]).sum()),
        mine=mine,
        theirs=theirs,
        gap=gap,
        balance=stratified_balance(strata),
        p_value=stratified_wilcoxon(strata),
    )
