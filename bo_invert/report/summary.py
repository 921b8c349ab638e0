"""Summary of a comparison: the best methods in a table, result, judge and cost in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from bo_invert.report.objective_view import Goal
from bo_invert.report.ranking import (
    MethodResult,
    ProblemRanking,
    breaks_constraints,
    rank_methods,
)
from bo_invert.report.runs import Run
from bo_invert.report.table import Cell, Table, applicable, counted

PLAIN = {
    "random": "random search",
    "sobol": "Sobol sequence",
    "prior": "best of N from the reference measure",
    "cmaes": "CMA-ES",
    "gradient": "gradient descent",
    "least_squares": "least squares",
}
"""Strategies without a surrogate model."""

_ALIKE = 0.05
"""Share of the winner's improvement over the start by which an equivalent loss may be worse.
Engineering choice: less than the spread over seeds of any method of the benchmark."""

_ALIKE_FACTOR, _SOLVED = 2.0, 1e-6
"""The same for targets, whose losses span decades: factor to the winner's loss, and share of the
start at which the target counts as reached. Engineering choice."""


def summary_text(runs: Sequence[Run]) -> str:
    """State the best method, the best plain method, the judge's verdict and the cost.

    Args:
        runs: runs of any number of problems, methods and seeds, refused and crashed ones included.
    """
    problems = rank_methods(runs)
    if not problems:
        return "There are no runs."
    if len(problems) == 1:
        parts = [_result(problems[0]), _best_claim(problems[0]), _plain(problems[0])]
    else:
        parts = [_results(problems)]
    return " ".join(part for part in [*parts, _judge(problems), _cost(problems)] if part)


def summary_table(runs: Sequence[Run]) -> Table:
    """Return the best method and the best plain method on each problem."""
    rows = []
    for problem in rank_methods(runs):
        shown = Goal(problem.goal).shown
        cells: list[Cell] = [problem.problem]
        for methods in (_winners(problem), _plain_methods(problem)[:1]):
            spreads = (methods[0].claimed, methods[0].judged) if methods else (None, None)
            cells.append(_names(methods) or None)
            cells += [None if found is None else shown(found.median) for found in spreads]
        rows.append(tuple(cells))
    columns = ("problem", "best method", "value", "judged", "best plain method", "value", "judged")
    note = "Medians over seeds. Plain methods use no surrogate model."
    return Table(columns, tuple(rows), "Best methods", (note,))


def _found(problem: ProblemRanking) -> list[MethodResult]:
    """Return the methods with a finite median score, best first."""
    return [method for method in problem.methods if math.isfinite(method.score)]


def _plain_methods(problem: ProblemRanking) -> list[MethodResult]:
    return [method for method in _found(problem) if method.strategy in PLAIN]


def _winners(problem: ProblemRanking) -> list[MethodResult]:
    found = _found(problem)
    return [m for m in found if math.isclose(m.score, found[0].score, rel_tol=1e-9, abs_tol=1e-12)]


def _result(problem: ProblemRanking) -> str:
    winners = _winners(problem)
    if not winners:
        claims = [m.claimed for m in problem.methods if m.claimed]
        claimed = problem.has_judge and any(math.isfinite(claim.median) for claim in claims)
        return applicable(
            (not claims, "No method could run."),
            (not claimed, "No method found a feasible design in most of its runs."),
            (any(breaks_constraints(run) for run in problem.runs),
             "The judge confirms no design: its outputs violate the constraints."),
            (True, "The judge confirms no design: it failed on the designs found."),
        )[0]  # fmt: skip
    claim = winners[0].claimed
    goal = Goal(problem.goal)
    noun = "loss" if not goal.is_raised else "output" if goal.is_output else goal.label
    article = "a median" if problem.seeds > 1 else "an" if noun == "output" else "a"
    text = (
        f"{_names(winners)} {'is' if len(winners) == 1 else 'are'} best with "
        f"{article} {noun} of {_number(problem, winners[0].score)}"
    )
    if problem.has_judge and claim is not None:
        text = f"By the judge, {text} (claimed: {_number(problem, claim.median)})"
    return f"{text}."


def _best_claim(problem: ProblemRanking) -> str:
    """Name the method with the lowest claimed loss if the judge prefers another one."""
    winners = _winners(problem)
    claims = [(m.claimed, m) for m in problem.methods if m.claimed]
    if not problem.has_judge or not winners:
        return ""
    claim, best = min(claims, key=lambda pair: pair[0])
    if best in winners or claim == winners[0].claimed:
        return ""
    judged = "no value"
    if best.judged is not None and math.isfinite(best.score):
        judged = _number(problem, best.judged.median)
    claimed = _number(problem, claim.median)
    return f"The best claim is that of “{best.label}”: {claimed}, judged: {judged}."


def _results(problems: Sequence[ProblemRanking]) -> str:
    """Count the problems on which each method is best."""
    counts = Counter(method.label for problem in problems for method in _winners(problem))
    if not counts:
        return "No method found a feasible design on any problem."
    best = _list(f"“{label}” on {count}" for label, count in counts.most_common())
    return f"Best methods over {len(problems)} problems, ties included: {best}."


def _plain(problem: ProblemRanking) -> str:
    """Compare the best plain method with the best method."""
    winners, plain = _winners(problem), _plain_methods(problem)
    if len(plain) in (0, len(_found(problem))):
        return ""
    if all(method in plain for method in winners):
        return f"A plain method is enough: {_kinds(winners)}."
    if alike := [m for m in plain if m not in winners and _alike(problem, m, winners[0])]:
        return f"Plain methods are about as good: {_kinds(alike)}."
    best = plain[0]
    if best in winners:
        return ""
    tested = best.p_value is not None and winners[0].p_value is None and problem.pairs >= 6
    test = f" (p = {best.p_value:.2g} over {problem.pairs} paired seeds)" if tested else ""
    return f"The best plain method is {_kinds([best])} with {_number(problem, best.score)}{test}."


def _judge(problems: Sequence[ProblemRanking]) -> str:
    """State which improvements the judge does not confirm and which designs are implausible."""
    methods = [method for problem in problems for method in problem.methods]
    found = [method for problem in problems for method in _found(problem)]
    if not found:
        return ""
    doubted = _shares(methods, lambda method: method.unconfirmed)
    odd = _shares(methods, lambda method: method.implausible)
    verdict, *_ = applicable(
        (not any(problem.has_judge for problem in problems),
         "Without a judge, all values are those of the oracle."),
        (doubted, f"The judge confirms less than half of the improvement claimed by {doubted}."),
        (True, "The judge confirms at least half of every claimed improvement."),
    )  # fmt: skip
    plausible = [method for method in found if 2 * method.implausible <= len(method.ran)]
    second = plausible[0].label if plausible and found[0] not in plausible else ""
    return " ".join(applicable(
        (True, verdict),
        (odd, f"Implausible designs: {odd}."),
        (second and len(problems) == 1, f"Best method with plausible designs: “{second}”."),
    ))  # fmt: skip


def _cost(problems: Sequence[ProblemRanking]) -> str:
    """State calls and seconds, then refused runs, crashes and attempts without outputs."""
    methods = [method for problem in problems for method in problem.methods]
    bills = [run.bill for method in methods for run in method.ran]
    values, gradients = sum(bill.values for bill in bills), sum(bill.gradients for bill in bills)
    seconds, asking = sum(bill.total_seconds for bill in bills), sum(bill.asking for bill in bills)
    calls = f"{counted(values, 'oracle value')}, {counted(gradients, 'gradient')}"
    share = f" ({100 * asking / seconds:.0f} % in the strategies)" if seconds > 0 else ""
    failed = sum(method.failed_attempts for method in methods)
    refused = [method for method in methods if method.refused]
    crashed = _shares(methods, lambda method: len(method.crashed))
    return " ".join(applicable(
        (bills, f"Cost of {counted(len(bills), 'run')}: {calls}, {seconds:.3g} s{share}."),
        (failed, f"{counted(failed, 'attempt')} without outputs, billed."),
        (refused, f"Refused to run: {_names(refused)}."),
        (crashed, f"Crashed: {crashed}."),
    ))  # fmt: skip


def _alike(problem: ProblemRanking, rival: MethodResult, winner: MethodResult) -> bool:
    """Return True if the rival's score is practically equal to the winner's."""
    score, best, start = rival.score, winner.score, problem.start
    if problem.goal.get("type") == "target":
        if rival.hits is not None and winner.hits is not None and not problem.has_judge:
            return rival.hits >= winner.hits
        return score <= _ALIKE_FACTOR * best or score <= _SOLVED * start
    return math.isfinite(start) and score - best <= _ALIKE * (start - best)


def _shares(methods: Sequence[MethodResult], count: Callable[[MethodResult], int]) -> str:
    """Name each method with its number of affected runs; empty if there is none."""
    affected, runs = Counter[str](), Counter[str]()
    for method in methods:
        affected[method.label] += count(method)
        runs[method.label] += len(method.ran)
    return _list(
        f"“{label}”" + (f" ({number} of {runs[label]} runs)" if runs[label] > 1 else "")
        for label, number in affected.items()
        if number
    )


def _number(problem: ProblemRanking, loss: float) -> str:
    return f"{Goal(problem.goal).shown(loss):.4g}"


def _kinds(methods: Iterable[MethodResult]) -> str:
    return _list(f"“{method.label}” ({PLAIN[method.strategy]})" for method in methods)


def _names(methods: Iterable[MethodResult]) -> str:
    return _list(dict.fromkeys(f"“{method.label}”" for method in methods))


def _list(words: Iterable[str]) -> str:
    *first, last = [*words] or [""]
    return f"{', '.join(first)} and {last}" if first else last
