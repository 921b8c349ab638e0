"""Comparison tables: methods side by side on each problem, ranks over all problems, every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.report.objective_view import Goal
from bo_invert.report.ranking import (
    MethodResult,
    ProblemRanking,
    breaks_constraints,
    rank_methods,
)
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import Spread, block_ranks, rank, spread
from bo_invert.report.table import IMPLAUSIBLE, UNCONFIRMED, Cell, Table, counted

if TYPE_CHECKING:
    from bo_invert.types import JSON

_LEAST_PAIRS = 3
"""Smallest number of common seeds for a p-value. Engineering choice, as in ``pairwise_tests``."""


def comparison_tables(runs: Sequence[Run]) -> list[Table]:
    """Return a table for each problem, best method first, then one over several problems."""
    problems = rank_methods(runs)
    overall = _overall_table(problems)
    return [*map(method_table, problems), *([overall] if overall is not None else [])]


def method_table(problem: ProblemRanking) -> Table:
    """Return the methods on one problem with calls, claimed and judged loss, and seconds.

    An objective that is maximised is shown as its output. With several seeds the values are
    medians with quartiles, and mean ranks and paired tests are added.
    """
    goal = Goal(problem.goal)
    columns: list[tuple[str, Callable[[MethodResult], Cell]]] = [
        ("method", lambda m: m.label),
        ("values", lambda m: _calls([run.bill.values for run in m.ran])),
        ("gradients", lambda m: _calls([run.bill.gradients for run in m.ran])),
        (_claim(problem.goal), lambda m: "refused" if m.refused else _signed(goal, m.claimed)),
    ]
    if problem.has_judge:
        columns.append(("judged", lambda m: _signed(goal, m.judged)))
    if any((find.plausibility or 0.0) < 1.0 for run in problem.runs for find in run.finds
           if find.plausibility is not None):  # fmt: skip
        columns.append(("plausibility", lambda m: _rounded(m.plausibility)))
    if any(m.hits is not None for m in problem.methods):
        columns.append(("hits", lambda m: None if m.hits is None else f"{m.hits}/{len(m.ran)}"))
    columns.append(
        ("seconds", lambda m: _median([round(run.bill.total_seconds, 2) for run in m.ran]))
    )
    if problem.seeds > 1:
        columns += [
            (
                "s per ask",
                lambda m: _median([run.bill.asking / max(1, run.bill.asks) for run in m.ran]),
            ),
            ("mean rank", lambda m: None if m.rank is None else round(m.rank, 2)),
        ]
    if problem.pairs >= _LEAST_PAIRS:
        columns.append(("p (Holm)", lambda m: m.p_value))
    names = tuple(name for name, _ in columns)
    marks = {}
    for i, method in enumerate(problem.methods):
        if 2 * method.unconfirmed > len(method.ran):
            marks[i, names.index("judged")] = UNCONFIRMED
        if 2 * method.implausible > len(method.ran):
            marks[i, names.index("plausibility")] = IMPLAUSIBLE
    rows = tuple(tuple(read(method) for _, read in columns) for method in problem.methods)
    optional = ("s per ask", "seconds", "p (Holm)", "gradients", "values", "mean rank")
    return Table(names, rows, _caption(problem), tuple(_notes(problem, marks)), marks, optional)


def runs_table(runs: Sequence[Run]) -> Table:
    """Return every single run: its losses, or its outputs where they are maximised."""
    rows = []
    for run in runs:
        goal, best = Goal(run.goal), run.best
        rows.append((
            run.problem, run.label, run.seed, run.bill.values, run.bill.gradients,
            None if run.status is Status.REFUSED else goal.shown(run.loss),
            None if best is None or best.judged is None else goal.shown(best.judged),
            None if best is None else best.plausibility,
            round(run.bill.total_seconds, 2), run.ended,
        ))  # fmt: skip
    claims = {_claim(run.goal) for run in runs if run.goal}
    claim = claims.pop() if len(claims) == 1 else "best claimed"
    columns = ("problem", "method", "seed", "values", "gradients", claim, "judged",
               "plausibility", "seconds", "stop reason")  # fmt: skip
    return Table(columns, tuple(rows), "All runs")


def _claim(objective: JSON) -> str:
    goal = Goal(objective)
    return f"best {goal.label if goal.is_raised else 'loss'}"


def _signed(goal: Goal, losses: Spread | None) -> Spread | None:
    """Convert losses to outputs where these are maximised; the quartiles change places."""
    if losses is None or not goal.is_raised:
        return losses
    median, low, high = (goal.shown(value) for value in losses[:3])
    return Spread(median, high, low, losses.n)


def _calls(values: Sequence[int]) -> Spread | int | None:
    return values[0] if len(set(values)) == 1 else spread(values)


def _median(values: Sequence[float]) -> float | None:
    """Round the median to three digits; times depend on the load of the machine."""
    known = spread(values)
    return None if known is None else float(f"{known.median:.3g}")


def _rounded(value: Spread | None) -> Spread | None:
    return (
        None
        if value is None
        else value._replace(
            median=round(value.median, 3), low=round(value.low, 3), high=round(value.high, 3)
        )
    )


def _caption(problem: ProblemRanking) -> str:
    budgets = sorted({run.budget for run in problem.runs})
    calls = counted(budgets[-1], "call")
    calls = calls if len(budgets) == 1 else f"{budgets[0]} to {calls}"
    seeds = f", {problem.seeds} paired seeds: median [quartiles]" if problem.seeds > 1 else ""
    return f"{problem.problem} ({Goal(problem.goal).words()}), at most {calls}{seeds}"


def _notes(problem: ProblemRanking, marks: Mapping[tuple[int, int], str]) -> list[str]:
    notes = []
    if UNCONFIRMED in marks.values():
        notes.append(
            f"{UNCONFIRMED} (!): the judge confirms less than half of the claimed improvement."
        )
        if any(breaks_constraints(run) for run in problem.runs):
            notes.append(
                "A design that violates constraints by the judge's outputs is unconfirmed."
            )
    if IMPLAUSIBLE in marks.values():
        notes.append(
            f"{IMPLAUSIBLE} (?): 95 % of the reference measure are more plausible than the design."
        )
    if any(m.p_value is not None for m in problem.methods) and problem.pairs >= _LEAST_PAIRS:
        notes.append(
            "Ranks and p-values (Wilcoxon signed-rank test against the best rank, Holm-adjusted) "
            f"refer to the {'judged' if problem.has_judge else 'claimed'} loss over "
            f"{problem.pairs} paired seeds."
        )
    for method in problem.methods:
        if method.refused:
            notes.append(f"{method.label}: refused. {method.refused}")
        notes += [
            f"{method.label}, seed {run.seed}: crashed. {run.ended}" for run in method.crashed
        ]
        if method.failed_attempts:
            attempts = counted(method.failed_attempts, "attempt")
            notes.append(
                f"{method.label}: {attempts} without outputs (failed, infeasible or lost), billed."
            )
    return notes


def _overall_table(problems: Sequence[ProblemRanking]) -> Table | None:
    """Return mean ranks over all problems and seeds of the methods that ran on every problem."""
    present = [{m.label for m in problem.methods} for problem in problems]
    able = {m.label for problem in problems for m in problem.methods if m.ran}
    everyone = dict.fromkeys(m.label for problem in problems for m in problem.methods)
    labels = [label for label in everyone if label in able and all(label in p for p in present)]
    if len(problems) < 2 or len(labels) < 2:
        return None
    # Losses of different problems have no common unit, ranks do.
    scores = np.concatenate([problem.paired_scores(labels) for problem in problems])
    if not len(scores):
        return None
    places = block_ranks(scores)
    means, tests = places.mean(axis=0), rank(places).p_values
    rows = tuple(
        (labels[i], round(float(means[i]), 2), tests[i]) for i in np.argsort(means, kind="stable")
    )
    notes = ["Refused and crashed runs rank last."]
    left_out = sorted(set(everyone) - set(labels))
    if left_out:
        notes.append(f"Not ranked, for lack of runs on some problem: {', '.join(left_out)}.")
    caption = f"All problems: ranks over {counted(len(places), 'paired run')}"
    return Table(("method", "mean rank", "p (Holm)"), rows, caption, tuple(notes))
