"""How methods compare over calls: problems solved, calls to hit and ranks at several budgets. numpy only.

A *pair* is one problem with one seed: all methods had the same task there. Losses of different pairs have no common
unit, so all is measured against a pair's own yardstick, from where searches start to the lowest loss known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import block_ranks, spread
from bo_invert.types import Array

#: Shares of the way from the start to the lowest loss known that are still missing when a pair counts as solved.
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-5)

#: The same, below which two losses are a tie: nine digits of the way are done, and results keep ten digits of a loss.
TIE = 1e-9

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
    for pair, paired in by_pair(runs).items():
        middle = spread(run.start for run in paired if math.isfinite(run.start))
        found[pair] = math.inf if middle is None else middle.median
    return found


def yardsticks(
    runs: Sequence[Run], optima: Mapping[str, float | None] | None = None
) -> dict[Pair, Yardstick]:
    """One for each pair on which any method found something feasible.

    Args:
        runs: of all methods.
        optima: lowest losses there are, by problem, where they are known.
    """
    found = {}
    begun = starts(runs)
    for pair, paired in by_pair(runs).items():
        lowest = min((run.lowest for run in paired), default=math.inf)
        optimum = (optima or {}).get(pair[0])
        if math.isfinite(lowest):
            found[pair] = Yardstick(
                begun[pair], lowest if optimum is None else min(lowest, optimum)
            )
    return found


def contenders(runs: Sequence[Run]) -> list[str]:
    """Labels of the methods that were tried on every problem, with one seed at least: only they can be ranked over all.

    A refusal counts as a try, and as the last rank. Who refused everything is no contender.
    """
    problems = {run.problem for run in runs}
    tried: dict[str, set[str]] = {}
    for run in runs:
        tried.setdefault(run.label, set()).add(run.problem)
    able = {run.label for run in runs if run.status is not Status.REFUSED}
    return [label for label, where in tried.items() if where == problems and label in able]


def thorough(runs: Sequence[Run]) -> list[str]:
    """The contenders with more than half as many pairs as the one with most.

    Slow methods have a few seeds. The others should not be judged on those few alone.
    """
    counts = {label: sum(run.label == label for run in runs) for label in contenders(runs)}
    return [label for label, count in counts.items() if 2 * count > max(counts.values())]


def common_pairs(runs: Sequence[Run], labels: Iterable[str]) -> list[Pair]:
    """Pairs that each of these methods tried, in their order; refused runs count as well."""
    wanted = set(labels)
    return [
        pair for pair, paired in by_pair(runs).items() if wanted <= {run.label for run in paired}
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
    runs: Sequence[Run],
    labels: Sequence[str],
    calls: Sequence[int],
    yards: Mapping[Pair, Yardstick],
) -> Ranks | None:
    """Mean ranks over the pairs that all these methods tried; None when there are none.

    Ranks over other pairs than the common ones would compare a method's five problems with another's twenty. Each
    problem counts the same, however many seeds there are of it: pairs are averaged within problems first. Ties share
    their ranks, and runs without a score share the last ones, see ``score_at``.
    """
    pairs = [pair for pair in common_pairs(runs, labels) if pair in yards]
    if len(labels) < 2 or not pairs:
        return None
    table = by_label(runs)
    means = []
    for number in calls:
        by_problem: dict[str, list[list[float]]] = {}
        for pair in pairs:
            scores = [score_at(table[label, *pair], number, yards[pair]) for label in labels]
            by_problem.setdefault(pair[0], []).append(scores)
        means.append(
            np.mean([block_ranks(blocks).mean(axis=0) for blocks in by_problem.values()], axis=0)
        )
    return Ranks(tuple(labels), tuple(calls), np.array(means).T, len(pairs))


def calls_to_hit(
    runs: Sequence[Run],
    label: str,
    pairs: Iterable[Pair],
    yards: Mapping[Pair, Yardstick],
    tolerance: float,
) -> Array:
    """Calls until each of the pairs was solved, shape ``(pairs,)``; infinite where it was not."""
    table = by_label(runs)
    return np.array(
        [table[label, *pair].calls_to(yards[pair].level(tolerance)) for pair in pairs], dtype=float
    )


def score_at(run: Run, calls: int, yard: Yardstick) -> float:
    """The loss by then; losses next to the lowest known are ties, because nobody cares who is nearer.

    Infinite for a refused run, and for one that had broken down by then: a method must not gain by giving up.
    """
    if run.status is Status.ERROR and (not len(run.calls) or calls > run.calls[-1]):
        return math.inf
    return max(float(run.loss_at(calls)), yard.level(TIE))


def by_label(runs: Sequence[Run]) -> dict[tuple[str, str, int], Run]:
    """Runs by label, problem and seed."""
    return {(run.label, run.problem, run.seed): run for run in runs}


def by_pair(runs: Sequence[Run]) -> dict[Pair, list[Run]]:
    """Runs by problem and seed: those that are paired."""
    pairs: dict[Pair, list[Run]] = {}
    for run in runs:
        pairs.setdefault((run.problem, run.seed), []).append(run)
    return pairs
