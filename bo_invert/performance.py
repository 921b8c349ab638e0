"""How methods compare over calls: problems solved, calls to hit, ranks and paired tests at several budgets. numpy only.

A *pair* is one problem with one seed: all methods had the same task there. Losses of different pairs have no common
unit, so all is measured against a pair's own yardstick, from where searches start to the lowest loss known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bo_invert.runs import Run, Status
from bo_invert.statistics import balance, block_ranks, holm, spread, wilcoxon
from bo_invert.types import Array

#: Shares of the way from the start to the lowest loss known that are still missing when a pair counts as solved.
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-5)

#: The same, below which two losses are a tie: nine digits of the way are done, and results keep ten digits of a loss.
TIE = 1e-9

#: Adjusted p-values below it are significant.
SIGNIFICANT = 0.05

Pair = tuple[str, int]


@dataclass(frozen=True)
class Yardstick:
    """What losses of one pair are measured against.

    Args:
        start: median over methods of the first loss seen.
        best: the optimum if it is known, otherwise the lowest loss that any method reached.
    """

    start: float
    best: float

    def level(self, tolerance: float) -> float:
        """The loss at which all but the share ``tolerance`` of the way is done (Moré & Wild 2009)."""
        return self.best + tolerance * max(0.0, self.start - self.best)


def starts(runs: Sequence[Run]) -> dict[Pair, float]:
    """Per pair, the median over methods of the first loss seen; infinite where nothing feasible was."""
    found = {}
    for pair, paired in _by_pair(runs).items():
        middle = spread(run.start for run in paired if math.isfinite(run.start))
        found[pair] = math.inf if middle is None else middle.median
    return found


def yardsticks(runs: Sequence[Run], optima: Mapping[str, float | None] | None = None) -> dict[Pair, Yardstick]:
    """One for each pair on which any method found something feasible.

    Args:
        runs: of all methods.
        optima: lowest losses there are, by problem, where they are known.
    """
    found = {}
    begun = starts(runs)
    for pair, paired in _by_pair(runs).items():
        lowest = min((run.lowest for run in paired), default=math.inf)
        optimum = (optima or {}).get(pair[0])
        if math.isfinite(lowest):
            found[pair] = Yardstick(begun[pair], lowest if optimum is None else min(lowest, optimum))
    return found


def contenders(runs: Sequence[Run]) -> list[str]:
    """Labels of the methods that ran on every problem, with one seed at least: only they can be ranked over all."""
    problems = {run.problem for run in runs}
    ran: dict[str, set[str]] = {}
    for run in runs:
        ran.setdefault(run.label, set())
        if run.status is not Status.REFUSED:
            ran[run.label].add(run.problem)
    return [label for label, where in ran.items() if where == problems]


def thorough(runs: Sequence[Run]) -> list[str]:
    """The contenders with more than half as many pairs as the one with most.

    Slow methods have a few seeds. The others should not be judged on those few alone.
    """
    counts = {label: sum(run.label == label for run in runs) for label in contenders(runs)}
    return [label for label, count in counts.items() if 2 * count > max(counts.values())]


def common_pairs(runs: Sequence[Run], labels: Iterable[str]) -> list[Pair]:
    """Pairs that each of these methods ran, in their order."""
    wanted = set(labels)
    return [
        pair
        for pair, paired in _by_pair(runs).items()
        if wanted <= {run.label for run in paired if run.status is not Status.REFUSED}
    ]


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of some methods.

    Args:
        labels: of the methods.
        calls: where the runs were read off, shape ``(b,)``.
        means: mean ranks, shape ``(labels, b)``; 1 is best.
        pairs: how many the methods have in common.
    """

    labels: tuple[str, ...]
    calls: tuple[int, ...]
    means: Array
    pairs: int


def ranks_at(
    runs: Sequence[Run], labels: Sequence[str], calls: Sequence[int], yards: Mapping[Pair, Yardstick]
) -> Ranks | None:
    """Mean ranks over the pairs that all these methods ran; None when there are none.

    Ranks over other pairs than the common ones would compare a method's five problems with another's twenty. Each
    problem counts the same, however many seeds there are of it: pairs are averaged within problems first.
    """
    pairs = [pair for pair in common_pairs(runs, labels) if pair in yards]
    if len(labels) < 2 or not pairs:
        return None
    table = _table(runs)
    means = []
    for number in calls:
        by_problem: dict[str, list[list[float]]] = {}
        for pair in pairs:
            scores = [_score(table[label, *pair], number, yards[pair]) for label in labels]
            by_problem.setdefault(pair[0], []).append(scores)
        means.append(np.mean([block_ranks(blocks).mean(axis=0) for blocks in by_problem.values()], axis=0))
    return Ranks(tuple(labels), tuple(calls), np.array(means).T, len(pairs))


@dataclass(frozen=True)
class Duel:
    """One method against a rival on one problem at one number of calls, over the seeds that both have.

    Args:
        problem: its name.
        calls: where the runs were read off.
        rival: the other method's label.
        pairs: how many seeds both have.
        mine: median loss of the method over these.
        theirs: median loss of the rival.
        balance: from -1, the method is better on every seed, to 1, the rival is.
        p_value: of the Wilcoxon signed-rank test, two-sided.
        adjusted: the same after Holm's correction for all rivals on this problem at this number of calls.
    """

    problem: str
    calls: int
    rival: str
    pairs: int
    mine: float
    theirs: float
    balance: float
    p_value: float
    adjusted: float

    @property
    def lost(self) -> bool:
        """Whether the rival is significantly better."""
        return self.balance > 0 and self.adjusted < SIGNIFICANT

    @property
    def won(self) -> bool:
        """Whether the method is significantly better."""
        return self.balance < 0 and self.adjusted < SIGNIFICANT


def duels(
    runs: Sequence[Run], label: str, calls: Sequence[int], yards: Mapping[Pair, Yardstick], least: int = 3
) -> list[Duel]:
    """The method against every other one, on each problem, at each number of calls.

    Args:
        runs: of all methods.
        label: of the method.
        calls: where the runs are read off.
        yards: see ``yardsticks``.
        least: fewer common seeds than that are no duel.
    """
    table = _table(runs)
    problems = dict.fromkeys(run.problem for run in runs)
    rivals = [rival for rival in dict.fromkeys(run.label for run in runs) if rival != label]
    found = []
    for problem in problems:
        common = {
            rival: [pair for pair in common_pairs(runs, (label, rival)) if pair[0] == problem and pair in yards]
            for rival in rivals
        }
        for number in calls:
            block = []
            for rival, pairs in common.items():
                if len(pairs) < least:
                    continue
                mine = [_score(table[label, *pair], number, yards[pair]) for pair in pairs]
                theirs = [_score(table[rival, *pair], number, yards[pair]) for pair in pairs]
                block.append(
                    Duel(
                        problem, number, rival, len(pairs), _median(table, label, pairs, number),
                        _median(table, rival, pairs, number), balance(mine, theirs), wilcoxon(mine, theirs), 1.0,
                    )
                )  # fmt: skip
            adjusted = holm([duel.p_value for duel in block])
            found += [replace(duel, adjusted=p) for duel, p in zip(block, adjusted, strict=True)]
    return found


def calls_to_hit(
    runs: Sequence[Run], label: str, pairs: Iterable[Pair], yards: Mapping[Pair, Yardstick], tolerance: float
) -> Array:
    """Calls until each of the pairs was solved, shape ``(pairs,)``; infinite where it was not."""
    table = _table(runs)
    return np.array([table[label, *pair].calls_to(yards[pair].level(tolerance)) for pair in pairs], dtype=float)


def _score(run: Run, calls: int, yard: Yardstick) -> float:
    """The loss by then; losses next to the lowest known are ties, because nobody cares who is nearer."""
    return max(float(run.loss_at(calls)), yard.level(TIE))


def _median(table: Mapping[tuple[str, str, int], Run], label: str, pairs: Sequence[Pair], calls: int) -> float:
    middle = spread(float(table[label, *pair].loss_at(calls)) for pair in pairs)
    assert middle is not None
    return middle.median


def _table(runs: Sequence[Run]) -> dict[tuple[str, str, int], Run]:
    return {(run.label, run.problem, run.seed): run for run in runs}


def _by_pair(runs: Sequence[Run]) -> dict[Pair, list[Run]]:
    pairs: dict[Pair, list[Run]] = {}
    for run in runs:
        pairs.setdefault((run.problem, run.seed), []).append(run)
    return pairs
