"""One method tested against its rivals: problem by problem, and over all of them. numpy only.

With few seeds a test may be unable to find anything, so every verdict says how low its p-value could have been at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from bo_invert.report.performance import Pair, Yardstick, by_label, common_pairs, score_at
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import (
    holm,
    least_p,
    spread,
    stratified_balance,
    stratified_wilcoxon,
)

#: Adjusted p-values below it are significant.
SIGNIFICANT = 0.05

#: Fewer common seeds of one problem than that are no duel. All problems together take what there is.
LEAST = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A method against a rival at one number of calls, over pairs of problem and seed that both have.

    Args:
        rival: the other method's label.
        calls: where the runs were read off.
        problems: on how many problems.
        pairs: how many both have.
        won: pairs in which the method was better.
        lost: pairs in which the rival was better.
        balance: of the signed ranks: from -1, the method is better in every pair, to 1, the rival is.
        p_value: of the signed-rank test, two-sided, ranks within problems.
        adjusted: the same after Holm's correction for the rival's family.
        least: what ``adjusted`` would be if one side had won every pair, in all tests of the family.
    """

    rival: str
    calls: int
    problems: int
    pairs: int
    won: int
    lost: int
    balance: float
    p_value: float
    adjusted: float = 1.0
    least: float = 1.0

    @property
    def tied(self) -> int:
        return self.pairs - self.won - self.lost

    @property
    def led(self) -> bool:
        """Whether the rival leads, significantly or not: by signed ranks, or by the number of pairs."""
        return self.balance > 0 or self.lost > self.won

    @property
    def worse(self) -> bool:
        """Whether the rival is significantly better."""
        return self.balance > 0 and self.adjusted < SIGNIFICANT

    @property
    def better(self) -> bool:
        """Whether the method is significantly better."""
        return self.balance < 0 and self.adjusted < SIGNIFICANT

    @property
    def decidable(self) -> bool:
        """Whether so many pairs could have been significant at all."""
        return self.least < SIGNIFICANT


@dataclass(frozen=True, kw_only=True)
class Duel(Verdict):
    """A verdict on one problem.

    Args:
        problem: its name.
        mine: median loss of the method over the seeds that both have.
        theirs: median loss of the rival.
        gap: median of what the method's loss is higher, over the same seeds.
    """

    problem: str
    mine: float
    theirs: float
    gap: float


V = TypeVar("V", bound=Verdict)


def duels(
    runs: Sequence[Run],
    label: str,
    calls: Sequence[int],
    yards: Mapping[Pair, Yardstick],
    apart: Collection[str] = (),
) -> list[Duel]:
    """The method against every other one, on each problem, at each number of calls.

    Holm's correction is for all rivals of one family on one problem at one number of calls. Problems that a rival
    refuses are no wins; those that the method itself refuses are lost.

    Args:
        runs: of all methods.
        label: of the method.
        calls: where the runs are read off.
        yards: see ``performance.yardsticks``.
        apart: labels whose tests are a family of their own, lest they make it harder to find a loss to the others.
    """
    table = by_label(runs)
    losses = {key: run.loss_at(calls) for key, run in table.items()}

    def judge(rival: str, pairs: list[Pair], number: int) -> Duel:
        at = list(calls).index(number)
        mine = [float(losses[label, *pair][at]) for pair in pairs]
        theirs = [float(losses[rival, *pair][at]) for pair in pairs]
        gaps = [0.0 if a == b else a - b for a, b in zip(mine, theirs, strict=True)]
        verdict = _verdict(table, label, rival, pairs, number, yards)
        return Duel(
            **vars(verdict),
            problem=pairs[0][0],
            mine=_median(mine),
            theirs=_median(theirs),
            gap=_median(gaps),
        )

    shared = _shared(runs, label, yards)
    found = []
    for problem in dict.fromkeys(run.problem for run in runs):
        here = {
            rival: [pair for pair in pairs if pair[0] == problem] for rival, pairs in shared.items()
        }
        enough = {rival: pairs for rival, pairs in here.items() if len(pairs) >= LEAST}
        found += _families(enough, calls, apart, judge)
    return found


def overall(
    runs: Sequence[Run],
    label: str,
    calls: Sequence[int],
    yards: Mapping[Pair, Yardstick],
    apart: Collection[str] = (),
) -> list[Verdict]:
    """The method against every other one over all problems at once, at each number of calls; see ``duels``.

    A few seeds of many problems can tell what a few seeds of one cannot. The test is the signed-rank test stratified
    by problem: each pair of problem and seed is one, and differences are ranked among those of their problem.
    """
    table = by_label(runs)

    def judge(rival: str, pairs: list[Pair], number: int) -> Verdict:
        return _verdict(table, label, rival, pairs, number, yards)

    return _families(_shared(runs, label, yards), calls, apart, judge)


def _shared(
    runs: Sequence[Run], label: str, yards: Mapping[Pair, Yardstick]
) -> dict[str, list[Pair]]:
    """Per rival the pairs to be compared over."""
    table = by_label(runs)
    return {
        rival: [
            pair
            for pair in common_pairs(runs, (label, rival))
            if pair in yards and table[rival, *pair].status is not Status.REFUSED
        ]
        for rival in dict.fromkeys(run.label for run in runs)
        if rival != label
    }


def _families(
    shared: Mapping[str, list[Pair]],
    calls: Sequence[int],
    apart: Collection[str],
    judge: Callable[[str, list[Pair], int], V],
) -> list[V]:
    """Verdicts on all rivals with pairs, corrected within families."""
    found: list[V] = []
    for number in calls:
        for own in (False, True):
            rivals = [rival for rival, pairs in shared.items() if pairs and (rival in apart) == own]
            block = [judge(rival, shared[rival], number) for rival in rivals]
            adjusted = holm([verdict.p_value for verdict in block])
            least = holm(
                [least_p(verdict.pairs) for verdict in block]
            )  # Holm's are lowest where all p-values are
            found += [
                replace(verdict, adjusted=p, least=q)
                for verdict, p, q in zip(block, adjusted, least, strict=True)
            ]
    return found


def _verdict(
    table: Mapping[tuple[str, str, int], Run],
    label: str,
    rival: str,
    pairs: Sequence[Pair],
    calls: int,
    yards: Mapping[Pair, Yardstick],
) -> Verdict:
    strata: dict[str, tuple[list[float], list[float]]] = {}
    for pair in pairs:
        mine, theirs = strata.setdefault(pair[0], ([], []))
        mine.append(score_at(table[label, *pair], calls, yards[pair]))
        theirs.append(score_at(table[rival, *pair], calls, yards[pair]))
    scores = list(strata.values())
    scored = [two for both in scores for two in zip(*both, strict=True)]
    return Verdict(
        rival=rival, calls=calls, problems=len(strata), pairs=len(pairs), won=sum(a < b for a, b in scored),
        lost=sum(a > b for a, b in scored), balance=stratified_balance(scores), p_value=stratified_wilcoxon(scores),
    )  # fmt: skip


def _median(values: Sequence[float]) -> float:
    middle = spread(values)
    return math.nan if middle is None else middle.median
