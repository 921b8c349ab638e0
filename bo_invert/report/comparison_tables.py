"""Comparison tables: methods side by side on each problem, ranks over all problems, every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bo_invert.report.objective_view import Goal
from bo_invert.report.ranking import (
    LEAST_PLAUSIBLE,
    MethodResult,
    ProblemRanking,
    breaks_constraints,
    rank_methods,
)
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistical_tests import Spread, block_ranks, rank, rounded_median, spread
from bo_invert.report.table import IMPLAUSIBLE, UNCONFIRMED, Cell, Table, applicable, counted

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
    finds = [find for run in problem.runs for find in run.finds]
    doubtful = any(f.plausibility is not None and f.plausibility < 1.0 for f in finds)
    rated = any(m.hits is not None for m in problem.methods)
    columns: list[tuple[bool, str, Callable[[MethodResult], Cell]]] = [
        (True, "method", lambda m: m.label),
        (True, "values", lambda m: _calls([run.bill.values for run in m.ran])),
        (True, "gradients", lambda m: _calls([run.bill.gradients for run in m.ran])),
        (True, _claim(goal), lambda m: "refused" if m.refused else _signed(goal, m.claimed)),
        (problem.has_judge, "judged", lambda m: _signed(goal, m.judged)),
        (doubtful, "plausibility", lambda m: _rounded(m.plausibility)),
        (rated, "hits", lambda m: None if m.hits is None else f"{m.hits}/{len(m.ran)}"),
        (True, "seconds", lambda m: rounded_median(round(r.bill.total_seconds, 2) for r in m.ran)),
        (problem.seeds > 1, "s per ask",
         lambda m: rounded_median(run.bill.asking / max(1, run.bill.asks) for run in m.ran)),
        (problem.seeds > 1, "mean rank", lambda m: None if m.rank is None else round(m.rank, 2)),
        (problem.pairs >= _LEAST_PAIRS, "p (Holm)", lambda m: m.p_value),
    ]  # fmt: skip
    names = tuple(name for shown, name, _ in columns if shown)
    rows = tuple(
        tuple(read(method) for shown, _, read in columns if shown) for method in problem.methods
    )
    marks = {
        (i, names.index(column)): mark
        for i, method in enumerate(problem.methods)
        for column, mark, count in (
            ("judged", UNCONFIRMED, method.unconfirmed),
            ("plausibility", IMPLAUSIBLE, method.implausible),
        )
        if 2 * count > len(method.ran)
    }
    optional = ("s per ask", "seconds", "p (Holm)", "gradients", "values", "mean rank")
    return Table(names, rows, _caption(problem), _notes(problem, marks), marks, optional)


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
    claims = {_claim(Goal(run.goal)) for run in runs if run.goal}
    claim = claims.pop() if len(claims) == 1 else "best claimed"
    columns = ("problem", "method", "seed", "values", "gradients", claim, "judged",
               "plausibility", "seconds", "stop reason")  # fmt: skip
    return Table(columns, tuple(rows), "All runs")


def _claim(goal: Goal) -> str:
    return f"best {goal.label if goal.is_raised else 'loss'}"


def _signed(goal: Goal, losses: Spread | None) -> Spread | None:
    """Convert losses to outputs where these are maximised; the quartiles change places."""
    if losses is None or not goal.is_raised:
        return losses
    median, low, high = (goal.shown(value) for value in losses[:3])
    return Spread(median, high, low, losses.n)


def _calls(values: Sequence[int]) -> Spread | int | None:
    return values[0] if len(set(values)) == 1 else spread(values)


def _rounded(value: Spread | None) -> Spread | None:
    if value is None:
        return None
    return Spread(round(value.median, 3), round(value.low, 3), round(value.high, 3), value.n)


def _caption(problem: ProblemRanking) -> str:
    budgets = sorted({run.budget for run in problem.runs})
    calls = counted(budgets[-1], "call")
    calls = calls if len(budgets) == 1 else f"{budgets[0]} to {calls}"
    seeds = f", {problem.seeds} paired seeds: median [quartiles]" if problem.seeds > 1 else ""
    return f"{problem.problem} ({Goal(problem.goal).words()}), at most {calls}{seeds}"


def _notes(problem: ProblemRanking, marks: Mapping[tuple[int, int], str]) -> tuple[str, ...]:
    unconfirmed = UNCONFIRMED in marks.values()
    ranks = (
        "Ranks and p-values (Wilcoxon signed-rank test against the best rank, Holm-adjusted) refer "
        f"to the {'judged' if problem.has_judge else 'claimed'} loss over {problem.pairs} paired "
        "seeds."
    )
    rules: list[tuple[object, str]] = [
        (unconfirmed,
         f"{UNCONFIRMED} (!): the judge confirms less than half of the claimed improvement."),
        (unconfirmed and any(breaks_constraints(run) for run in problem.runs),
         "A design that violates constraints by the judge's outputs is unconfirmed."),
        (IMPLAUSIBLE in marks.values(),
         f"{IMPLAUSIBLE} (?): less plausible than {1.0 - LEAST_PLAUSIBLE:.0%} of real designs."),
        (problem.pairs >= _LEAST_PAIRS, ranks),
    ]  # fmt: skip
    for m in problem.methods:
        attempts = counted(m.failed_attempts, "attempt")
        rules += [
            (m.refused, f"{m.label}: refused. {m.refused}"),
            *((True, f"{m.label}, seed {run.seed}: crashed. {run.ended}") for run in m.crashed),
            (m.failed_attempts,
             f"{m.label}: {attempts} without outputs (failed, infeasible or lost), billed."),
        ]  # fmt: skip
    return applicable(*rules)


def _overall_table(problems: Sequence[ProblemRanking]) -> Table | None:
    """Return mean ranks over all problems and seeds of the methods that ran on every problem."""
    present = Counter(m.label for problem in problems for m in problem.methods)
    able = {m.label for problem in problems for m in problem.methods if m.ran}
    labels = [label for label, n in present.items() if label in able and n == len(problems)]
    if len(problems) < 2 or len(labels) < 2:
        return None
    # Losses of different problems have no common unit, ranks do.
    scores = np.concatenate([problem.paired_scores(labels) for problem in problems])
    if not len(scores):
        return None
    ranked = zip(labels, rank(block_ranks(scores)), strict=True)
    rows = tuple(
        (label, round(mean, 2), p) for label, (mean, p) in sorted(ranked, key=lambda row: row[1][0])
    )
    left_out = ", ".join(sorted(present.keys() - labels))
    notes = applicable(
        (True, "Refused and crashed runs rank last."),
        (left_out, f"Not ranked, for lack of runs on some problem: {left_out}."),
    )
    caption = f"All problems: ranks over {counted(len(scores), 'paired run')}"
    return Table(("method", "mean rank", "p (Holm)"), rows, caption, notes)
