"""Many problems, many methods, several budgets: the tables of a benchmark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from bo_invert.report.pairwise_tables import verdict_tables
from bo_invert.report.pairwise_tests import Duel, Verdict, duels, overall
from bo_invert.report.performance import (
    TIE,
    Pair,
    Ranks,
    Yardstick,
    calls_to_hit,
    contenders,
    ranks_at,
    thorough,
    yardsticks,
)
from bo_invert.report.provenance import provenance_table
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import Spread, spread
from bo_invert.report.table import Table, counted, span

#: The tolerance of the table of calls to hit.
HIT = 1e-2


@dataclass(frozen=True, eq=False)
class Contests:
    """Runs, and how they are to be looked at.

    Medians are over the seeds a method has, as said. Whatever compares methods uses seeds that all the compared ones
    have.

    Args:
        runs: of all methods.
        calls: where they are read off, at least one.
        against: label of the method that is compared with each other one; None for no such comparison.
        optima: lowest losses there are, by problem, where they are known.
        ours: labels of our own methods; the others are peers. Tests against the two are families of their own.
    """

    runs: tuple[Run, ...]
    calls: tuple[int, ...]
    against: str | None = None
    optima: Mapping[str, float | None] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()

    @cached_property
    def yards(self) -> dict[Pair, Yardstick]:
        return yardsticks(self.runs, self.optima)

    @cached_property
    def problems(self) -> list[str]:
        return list(dict.fromkeys(run.problem for run in self.runs))

    @cached_property
    def groups(self) -> list[Ranks]:
        """Mean ranks of all methods that can be ranked, and of those with more seeds alone, if that is another set."""
        everyone, busy = contenders(self.runs), thorough(self.runs)
        found = [ranks_at(self.runs, everyone, self.calls, self.yards)]
        if len(busy) < len(everyone):
            found.append(ranks_at(self.runs, busy, self.calls, self.yards))
        return [ranks for ranks in found if ranks is not None]

    @cached_property
    def labels(self) -> list[str]:
        """All methods, best mean rank at the last budget first, then those that are not ranked."""
        everyone = list(dict.fromkeys(run.label for run in self.runs))
        if not self.groups:
            return everyone
        ranks = dict(zip(self.groups[0].labels, self.groups[0].means[:, -1], strict=True))
        return sorted(everyone, key=lambda label: ranks.get(label, math.inf))

    @cached_property
    def duels(self) -> list[Duel]:
        return (
            []
            if self.against is None
            else duels(self.runs, self.against, self.calls, self.yards, self.ours)
        )

    @cached_property
    def overall(self) -> list[Verdict]:
        return (
            []
            if self.against is None
            else overall(self.runs, self.against, self.calls, self.yards, self.ours)
        )

    @cached_property
    def regrets(self) -> list[Run]:
        """The runs with what is missing to the optimum instead of the loss, where it is known."""
        changed = []
        for run in self.runs:
            optimum = self.optima.get(run.problem)
            if optimum is not None:  # what is missing is no output any more
                run = replace(run, losses=np.maximum(0.0, run.losses - optimum), goal={})
            changed.append(run)
        return changed

    @cached_property
    def _cells(self) -> dict[tuple[str, str], list[Run]]:
        cells: dict[tuple[str, str], list[Run]] = {}
        for run in self.regrets:
            cells.setdefault((run.label, run.problem), []).append(run)
        return cells

    def of(self, label: str, problem: str) -> list[Run]:
        """The runs of a method on a problem, in regrets, refused ones not among them."""
        return [
            run for run in self._cells.get((label, problem), ()) if run.status is not Status.REFUSED
        ]

    def refused(self, label: str, problem: str) -> bool:
        """Whether the method cannot work on the problem."""
        return (label, problem) in self._cells and not self.of(label, problem)


def contest_tables(contests: Contests) -> list[Table]:
    """What spoils the comparison, ranks, then who lost and won, then the figures themselves; no table without rows."""
    tables = [
        provenance_table(contests.runs),
        *(_ranks_table(contests, ranks) for ranks in contests.groups),
    ]
    if contests.against is not None:
        order = [label for label in contests.labels if label != contests.against]
        peers, ours = (
            [label for label in order if (label in contests.ours) == own] for own in (False, True)
        )
        tables += verdict_tables(contests.against, contests.duels, contests.overall, peers, ours)
    tables += [budget_table(contests, calls) for calls in contests.calls]
    tables += [hits_table(contests), seconds_table(contests), troubles_table(contests)]
    return [table for table in tables if table.rows]


def budget_table(contests: Contests, calls: int) -> Table:
    """Median and quartiles of the regret after so many calls, problems by methods."""

    def cell(label: str, problem: str) -> Any:
        return spread(float(run.loss_at(calls)) for run in contests.of(label, problem))

    unknown = [name for name in contests.problems if contests.optima.get(name) is None]
    notes = ["What is missing to the optimum: median [quartiles] over the seeds of each method."]
    if unknown:
        notes.append(f"Of {', '.join(unknown)} the optimum is unknown: the loss itself.")
    return _grid(contests, f"After {calls} calls", cell, notes)


def hits_table(contests: Contests, tolerance: float = HIT) -> Table:
    """Median and quartiles of the calls until a problem was solved to a tolerance."""

    def cell(label: str, problem: str) -> str | None:
        pairs = [
            (problem, run.seed)
            for run in contests.of(label, problem)
            if (problem, run.seed) in contests.yards
        ]
        found = spread(
            calls_to_hit(contests.runs, label, pairs, contests.yards, tolerance).tolist()
        )
        return None if found is None else _calls(found)

    return _grid(
        contests,
        f"Calls until all but {tolerance:.3g} of the way was done",
        cell,
        [
            "From the median first loss of all methods to the optimum, or to the lowest loss that any method reached."
        ],
    )


def seconds_table(contests: Contests) -> Table:
    """Median seconds of an ask."""

    def cell(label: str, problem: str) -> float | None:
        found = spread(run.ask_seconds for run in contests.of(label, problem))
        return None if found is None else float(f"{found.median:.2g}")

    return _grid(contests, "Seconds of one ask: median over asks, then over seeds", cell, ())


def troubles_table(contests: Contests) -> Table:
    """Refusals and breakdowns, in their own words; no rows if there were none."""
    said: Counter[tuple[str, str, str, str]] = Counter(
        (run.problem, run.label, str(run.status), run.ended)
        for run in contests.runs
        if run.status in (Status.REFUSED, Status.ERROR)
    )
    rows = tuple(
        (problem, label, count, status, words)
        for (problem, label, status, words), count in said.items()
    )
    note = "A run that broke down counts with what it had found by then."
    return Table(
        ("problem", "method", "runs", "status", "words"), rows, "Refused or broken down", (note,)
    )


def _ranks_table(contests: Contests, ranks: Ranks) -> Table:
    order = np.argsort(ranks.means[:, -1], kind="stable")
    rows = tuple(
        (ranks.labels[i], *(round(float(value), 2) for value in ranks.means[i])) for i in order
    )
    columns = ("method", *(f"after {calls} calls" for calls in ranks.calls))
    notes = [
        f"Each problem counts the same. Losses that did all but {TIE:.0e} of the way are ties; ties share their ranks.",
        "Who refused a run, or had broken down by then, is last in it.",
    ]
    if contests.against is not None and not contests.duels:
        notes.append(
            f"Too few seeds in common to test {contests.against} against any other on one problem."
        )
    left_out = [label for label in contests.labels if label not in ranks.labels]
    if left_out:
        notes.append(
            "Not among them, with fewer seeds or not on every problem: " + ", ".join(left_out) + "."
        )
    unknown = sum(not run.code.get("method") for run in contests.runs)
    if 0 < unknown < len(contests.runs):
        notes.append(f"Of {counted(unknown, 'run')} nobody noted which code made them.")
    pairs = "one pair" if ranks.pairs == 1 else f"{ranks.pairs} pairs"
    return Table(
        columns,
        rows,
        f"Mean ranks over the {pairs} of problem and seed that all have",
        tuple(notes),
    )


def _grid(contests: Contests, caption: str, cell: Any, notes: Sequence[str]) -> Table:
    rows = []
    for label in contests.labels:
        cells = [
            "refused" if contests.refused(label, name) else cell(label, name)
            for name in contests.problems
        ]
        counts = [len(contests.of(label, name)) for name in contests.problems]
        rows.append((label, span([count for count in counts if count]), *cells))
    return Table(("method", "seeds", *contests.problems), tuple(rows), caption, tuple(notes))


def _calls(found: Spread) -> str:
    median, low, high = (f"{value:.0f}" if math.isfinite(value) else "never" for value in found[:3])
    return (
        median if low == high else f"{median} [{low}, {high}]".replace(" ", "\u00a0")
    )  # not to be broken over lines
