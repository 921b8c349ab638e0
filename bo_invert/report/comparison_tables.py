"""Runs as tables: methods side by side, ranks over all problems, every single run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.report.objective_view import Goal
from bo_invert.report.ranking import Field, Standing, breaks, fields, placing
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import Spread, block_ranks, rank, spread
from bo_invert.report.table import FOOLED, IMPLAUSIBLE, Table, counted


def comparison_tables(runs: Sequence[Run]) -> list[Table]:
    """One table per problem, best method first, and one over all problems if there are several."""
    contests = fields(runs)
    tables = [method_table(contest) for contest in contests]
    overall = _overall(contests)
    return [*tables, overall] if overall is not None else tables


def method_table(contest: Field) -> Table:
    """Methods on one problem: method, values, gradients, best loss claimed, judge says, plausibility, seconds.

    Of an output that is maximised it is the best output, and what the judge says of that.

    With several seeds each is a median with quartiles, and mean rank and paired tests are added.
    """
    goal = Goal(contest.goal)
    several = contest.seeds > 1
    peculiar = any(
        find.plausibility is not None and find.plausibility < 1.0
        for run in contest.runs
        for find in run.finds
    )
    columns: list[tuple[str, Callable[[Standing], Any]]] = [
        ("method", lambda s: s.label),
        ("values", lambda s: _bill(s, lambda run: run.bill.values)),
        ("gradients", lambda s: _bill(s, lambda run: run.bill.gradients)),
        (_claim(goal), lambda s: "refused" if s.refused else _told(goal, s.claimed)),
    ]
    if contest.has_judge:
        columns.append(("judge says", lambda s: _told(goal, s.judged)))
    if peculiar:
        columns.append(("plausibility", lambda s: _rounded(s.plausibility)))
    if any(s.hits is not None for s in contest.standings):
        columns.append(("hits", lambda s: None if s.hits is None else f"{s.hits}/{len(s.ran)}"))
    columns.append(
        ("seconds", lambda s: _middle([round(run.bill.total_seconds, 2) for run in s.ran]))
    )
    if several:
        columns.append(
            (
                "s per ask",
                lambda s: _middle([run.bill.asking / max(1, run.bill.asks) for run in s.ran]),
            )
        )
        columns.append(("mean rank", lambda s: None if s.rank is None else round(s.rank, 2)))
    if contest.pairs >= 3:
        columns.append(("p (Holm)", lambda s: s.p_value))
    standings = contest.standings
    names = [name for name, _ in columns]
    marks = {}
    for i, standing in enumerate(standings):
        if 2 * standing.fooled > len(standing.ran):
            marks[i, names.index("judge says")] = FOOLED
        if 2 * standing.implausible > len(standing.ran):
            marks[i, names.index("plausibility")] = IMPLAUSIBLE
    rows = tuple(tuple(read(standing) for _, read in columns) for standing in standings)
    return Table(tuple(names), rows, _caption(contest), tuple(_notes(contest, marks)), marks)


def _claim(goal: Goal) -> str:
    return f"best {goal.label if goal.is_raised else 'loss'} claimed"


def _told(goal: Goal, losses: Spread | None) -> Spread | None:
    """The quartiles change places where the sign changes."""
    if losses is None or not goal.is_raised:
        return losses
    return Spread(goal.told(losses.median), goal.told(losses.high), goal.told(losses.low), losses.n)


def _bill(standing: Standing, read: Callable[[Run], float]) -> Spread | float | None:
    values = [read(run) for run in standing.ran]
    if not values:
        return None
    return values[0] if len(set(values)) == 1 else spread(values)


def _middle(values: Sequence[float]) -> float | None:
    """Seconds vary with the machine's other work: a median says enough."""
    known = spread(values)
    return None if known is None else float(f"{known.median:.3g}")


def _rounded(value: Spread | None) -> Spread | None:
    return (
        None
        if value is None
        else Spread(round(value.median, 3), round(value.low, 3), round(value.high, 3), value.n)
    )


def _caption(contest: Field) -> str:
    budgets = sorted({run.budget for run in contest.runs})
    last = counted(budgets[-1], "call")
    calls = last if len(budgets) == 1 else f"{budgets[0]} to {last}"
    seeds = f", {contest.seeds} paired seeds: median [quartiles]" if contest.seeds > 1 else ""
    return f"{contest.problem} ({Goal(contest.goal).words()}), at most {calls}{seeds}"


def _notes(contest: Field, marks: Mapping[tuple[int, int], str]) -> list[str]:
    notes = []
    if FOOLED in marks.values():
        notes.append(
            "fooled (!): the judge confirms less than half of the improvement that was claimed."
        )
        if any(breaks(run) for run in contest.runs):
            notes.append(
                "A design that breaks constraints by the judge's outputs confirms nothing."
            )
    if IMPLAUSIBLE in marks.values():
        notes.append(
            "implausible (?): the design is more peculiar than 95 % of the reference measure."
        )
    if any(s.p_value is not None for s in contest.standings) and contest.pairs >= 3:
        what = "judged" if contest.has_judge else "claimed"
        notes.append(
            f"Ranks and p-values (Wilcoxon signed-rank against the best ranked, Holm) are of the {what} loss over "
            f"{contest.pairs} paired seeds."
        )
    for standing in contest.standings:
        if standing.refused:
            notes.append(f"{standing.label}: refused. {standing.refused}")
        for run in standing.broken:
            notes.append(f"{standing.label}, seed {run.seed}: broke down. {run.ended}")
        lost = sum(run.bill.failed + run.bill.infeasible + run.bill.lost for run in standing.ran)
        if lost:
            attempts = counted(lost, "attempt")
            notes.append(
                f"{standing.label}: {attempts} gave no outputs (failed, infeasible or lost); billed."
            )
    return notes


def _overall(contests: Sequence[Field]) -> Table | None:
    """Mean ranks over all problems and seeds, of the methods that ran on every one of them."""
    if len(contests) < 2:
        return None
    labels = [
        label
        for label in dict.fromkeys(s.label for contest in contests for s in contest.standings)
        if all(any(s.label == label for s in contest.standings) for contest in contests)
        and any(s.label == label and s.ran for contest in contests for s in contest.standings)
    ]
    if len(labels) < 2:
        return None
    blocks = []
    for contest in contests:
        of = {
            s.label: {run.seed: placing(run, contest.has_judge) for run in s.runs}
            for s in contest.standings
        }
        for seed in sorted(set.intersection(*(set(of[label]) for label in labels))):
            blocks.append([of[label][seed] for label in labels])
    if not blocks:
        return None
    places = block_ranks(
        np.array(blocks)
    )  # losses of different problems have no common unit, ranks do
    means, tests = places.mean(axis=0), rank(places).p_values
    rows = tuple(
        (labels[i], round(float(means[i]), 2), tests[i]) for i in np.argsort(means, kind="stable")
    )
    caption = f"All problems: ranks over {counted(len(blocks), 'paired run')}"
    left_out = {s.label for contest in contests for s in contest.standings} - set(labels)
    notes = ["Who refused a run or broke down is last in it."]
    if left_out:
        notes.append(
            "Left out, because they did not run on every problem: "
            + ", ".join(sorted(left_out))
            + "."
        )
    return Table(("method", "mean rank", "p (Holm)"), rows, caption, tuple(notes))


def runs_table(runs: Sequence[Run]) -> Table:
    """Every single run: losses, or outputs where they are maximised."""
    rows = tuple(
        (
            run.problem, run.label, run.seed, run.bill.values, run.bill.gradients,
            None if run.status is Status.REFUSED else Goal(run.goal).told(run.loss),
            None if run.best is None or run.best.judged is None else Goal(run.goal).told(run.best.judged),
            None if run.best is None else run.best.plausibility,
            round(run.bill.total_seconds, 2), run.ended,
        )
        for run in runs
    )  # fmt: skip
    goals = [Goal(run.goal) for run in runs if run.goal]
    claim = _claim(goals[0]) if len({_claim(goal) for goal in goals}) == 1 else "best claimed"
    columns = ("problem", "method", "seed", "values", "gradients", claim, "judge says", "plausibility", "seconds",
               "ended because")  # fmt: skip
    return Table(columns, rows, "Every run")
