"""Ranking of methods on each problem: the results behind tables and summaries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.report.performance import starts
from bo_invert.report.runs import Run, Status, grouped
from bo_invert.report.statistical_tests import Spread, median, rank, spread
from bo_invert.types import JSON, Array

LEAST_PLAUSIBLE = 0.05
"""Plausibility below which a design counts as implausible: the reference measure has less
plausible designs with probability 5 %. The conventional level of a test (Fisher 1925)."""

CONFIRMED = 0.5
"""Smallest confirmed share of a claimed improvement. Engineering choice: a result that keeps less
than half of its improvement is mainly an error of the regressor."""


@dataclass(frozen=True, eq=False)
class MethodResult:
    """Results of one method over all seeds of one problem.

    Args:
        label: label of the method.
        strategy: name of its strategy.
        runs: all runs, refused and crashed ones included.
        claimed: lowest loss by the oracle of the search; infinite for a run without a feasible
            design.
        judged: loss of the same designs by the judge; None without a judge.
        score: median of ``judged`` if there is a judge, otherwise of ``claimed``; a design that
            the judge refutes counts as infinite. Infinite if all runs were refused.
        plausibility: plausibility of the same designs; None if it is not measured.
        unconfirmed: number of runs whose improvement the judge does not confirm.
        implausible: number of runs with an implausible best design.
        hits: number of runs within the target's tolerance; None without a tolerance.
        rank: mean rank of the score over common seeds, 1 is best; None without a rank.
        p_value: Holm-adjusted p-value against the best rank; None for the best one.
    """

    label: str
    strategy: str
    runs: tuple[Run, ...]
    claimed: Spread | None
    judged: Spread | None
    score: float
    plausibility: Spread | None
    unconfirmed: int
    implausible: int
    hits: int | None
    rank: float | None
    p_value: float | None

    @property
    def ran(self) -> tuple[Run, ...]:
        """Runs that were not refused."""
        return tuple(run for run in self.runs if run.status is not Status.REFUSED)

    @property
    def refused(self) -> str:
        """Reason of a refusal; empty if any run was not refused."""
        return self.runs[0].ended if not self.ran else ""

    @property
    def crashed(self) -> tuple[Run, ...]:
        """Runs that ended with an error."""
        return tuple(run for run in self.runs if run.status is Status.ERROR)

    @property
    def failed_attempts(self) -> int:
        """Number of attempts without outputs: failed, infeasible or lost."""
        return sum(run.bill.failed + run.bill.infeasible + run.bill.lost for run in self.ran)


@dataclass(frozen=True, eq=False)
class ProblemRanking:
    """All methods on one problem, best score first, refused ones last.

    Args:
        problem: name of the problem.
        goal: objective as JSON.
        has_judge: True if any design has a judged loss.
        start: median over seeds and methods of the first finite loss.
        pairs: number of common seeds of ranks and tests.
        methods: results of the methods.
    """

    problem: str
    goal: JSON
    has_judge: bool
    start: float
    pairs: int
    methods: tuple[MethodResult, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for method in self.methods for run in method.runs)

    @property
    def seeds(self) -> int:
        """Number of distinct seeds."""
        return len({run.seed for run in self.runs})

    def paired_scores(self, labels: Sequence[str]) -> Array:
        """Return the scores of methods over their common seeds, shape ``(seeds, methods)``."""
        runs = {method.label: method.runs for method in self.methods}
        return _paired({label: runs[label] for label in labels}, self.has_judge)


def rank_methods(runs: Sequence[Run]) -> list[ProblemRanking]:
    """Rank the methods on each problem, in the order of first runs."""
    problems = grouped(runs, lambda run: run.problem)
    return [_rank_problem(name, own) for name, own in problems.items()]


def breaks_constraints(run: Run) -> bool:
    """Return True if the best design violates outcome constraints by the judge's outputs."""
    return run.best is not None and run.best.upheld is False


def unconfirmed(run: Run, start: float) -> bool:
    """Return True if the judge confirms less than ``CONFIRMED`` of the claimed improvement.

    The improvement is relative to ``start``. For a target it is measured in distances, the square
    roots of losses. A design that violates constraints by the judge's outputs confirms nothing.
    """
    best = run.best
    if best is None or best.judged is None or not math.isfinite(start):
        return False
    claimed, judged = best.loss, best.judged
    if run.goal.get("type") == "target":
        claimed, judged, start = math.sqrt(claimed), math.sqrt(judged), math.sqrt(start)
    confirmed = judged <= claimed or start - judged >= CONFIRMED * (start - claimed)
    return best.upheld is False or not confirmed


def implausible(run: Run) -> bool:
    """Return True if the plausibility of the best design is below ``LEAST_PLAUSIBLE``."""
    best = run.best
    return (
        best is not None and best.plausibility is not None and best.plausibility < LEAST_PLAUSIBLE
    )


def score(run: Run, has_judge: bool) -> float:
    """Return the judged loss of a run if there is a judge, otherwise the claimed one.

    Infinite without a feasible design, or if the judge failed or finds constraints violated.
    """
    best = run.best
    if best is None or (has_judge and (best.judged is None or best.upheld is False)):
        return math.inf
    return best.judged if has_judge and best.judged is not None else best.loss


def _paired(methods: Mapping[str, Sequence[Run]], has_judge: bool) -> Array:
    """Arrange scores by common seed and method; refused and crashed runs have infinite scores."""
    failed = (Status.REFUSED, Status.ERROR)
    tables = [
        {run.seed: math.inf if run.status in failed else score(run, has_judge) for run in runs}
        for runs in methods.values()
    ]
    common = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    scores = [[table[seed] for table in tables] for seed in common]
    return np.array(scores, dtype=float).reshape(len(common), len(tables))


def _rank_problem(problem: str, runs: Sequence[Run]) -> ProblemRanking:
    has_judge = any(find.judged is not None for run in runs for find in run.finds)
    begun = starts(runs)
    methods = grouped(runs, lambda run: run.label)
    ranked = {
        label: own
        for label, own in methods.items()
        if any(run.status is not Status.REFUSED for run in own)
    }
    scores = _paired(ranked if len(ranked) > 1 else {}, has_judge)
    places = dict(zip(ranked, rank(scores), strict=True)) if len(scores) else {}
    results = [
        _method_result(label, own, has_judge, begun, *places.get(label, (None, None)))
        for label, own in methods.items()
    ]
    return ProblemRanking(
        problem,
        next((run.goal for run in runs if run.goal), {}),
        has_judge,
        median(value for value in begun.values() if math.isfinite(value)),
        len(scores),
        tuple(sorted(results, key=lambda m: (m.score, not m.ran, m.rank or 0.0))),
    )


def _method_result(
    label: str,
    runs: Sequence[Run],
    has_judge: bool,
    begun: Mapping[tuple[str, int], float],
    place: float | None,
    p_value: float | None,
) -> MethodResult:
    ran = [run for run in runs if run.status is not Status.REFUSED]
    best = [run.best for run in ran if run.best is not None]
    hits = [find.hit for find in best if find.hit is not None]
    return MethodResult(
        label=label,
        strategy=str(runs[0].strategy.get("name", "")),
        runs=tuple(runs),
        claimed=spread(run.loss for run in ran),
        judged=spread(find.judged for find in best),
        score=median(score(run, has_judge) for run in ran),
        plausibility=spread(find.plausibility for find in best),
        unconfirmed=sum(unconfirmed(run, begun[run.problem, run.seed]) for run in ran),
        implausible=sum(implausible(run) for run in ran),
        hits=sum(hits) if hits else None,
        rank=place,
        p_value=p_value,
    )
