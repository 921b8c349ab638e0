"""Benchmark tables: many problems, many methods, several numbers of calls, also as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.report.pairwise_comparison import pairwise_tables, pairwise_tests
from bo_invert.report.performance import (
    TIE,
    Ranks,
    calls_to_solve,
    contenders,
    percent,
    ranks_at,
    run_frame,
    thorough,
)
from bo_invert.report.provenance import MIXED, provenance_table
from bo_invert.report.runs import Run, Status, grouped
from bo_invert.report.statistical_tests import Spread, rounded_median, spread
from bo_invert.report.table import Cell, Table, applicable, counted, span

if TYPE_CHECKING:
    import pandas as pd

HIT = 1e-2
"""Tolerance of the table of calls; the middle one of ``performance.TOLERANCES``."""

BEGIN, END = "<!-- tables -->", "<!-- end -->"
"""Lines of a Markdown document between which the tables are written."""


@dataclass(frozen=True, eq=False)
class BenchmarkRuns:
    """Runs of a benchmark and the parameters of its report.

    Medians are over all seeds of a method. Comparisons of methods use common seeds only.

    Args:
        runs: runs of all methods.
        calls: numbers of calls after which the runs are compared, at least one.
        against: label of the method that is tested against each other one; None for no tests.
        optima: known optimal losses by problem.
        ours: labels of this package's methods; tests against these and against the other
            methods are separate families.
    """

    runs: tuple[Run, ...]
    calls: tuple[int, ...]
    against: str | None = None
    optima: Mapping[str, float | None] = field(default_factory=dict)
    ours: frozenset[str] = frozenset()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Runs as a frame, see ``performance.run_frame``."""
        return run_frame(self.runs, self.optima)

    @cached_property
    def problems(self) -> list[str]:
        return list(dict.fromkeys(run.problem for run in self.runs))

    @cached_property
    def groups(self) -> list[Ranks]:
        """Mean ranks of all contenders and, if different, of those with more seeds alone."""
        everyone, busy = contenders(self.frame), thorough(self.frame)
        groups = [everyone, busy] if len(busy) < len(everyone) else [everyone]
        ranks = (ranks_at(self.frame, labels, self.calls) for labels in groups)
        return [found for found in ranks if found is not None]

    @cached_property
    def labels(self) -> list[str]:
        """All methods by mean rank at the last number of calls, then those without a rank."""
        everyone = list(dict.fromkeys(run.label for run in self.runs))
        if not self.groups:
            return everyone
        ranks = self.groups[0].means.iloc[:, -1]
        return sorted(everyone, key=lambda label: float(ranks.get(label, math.inf)))

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Pairwise tests by problem."""
        return pairwise_tests(self.frame, self.against, self.calls, self.ours)

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """Pairwise tests over all problems."""
        return pairwise_tests(self.frame, self.against, self.calls, self.ours, pooled=True)

    @cached_property
    def regrets(self) -> list[Run]:
        """Runs with regrets, ``max(0, loss - optimum)``, in place of losses where known."""
        known = {name: value for name, value in self.optima.items() if value is not None}
        return [
            replace(run, losses=np.maximum(0.0, run.losses - known[run.problem]), goal={})
            if run.problem in known
            else run
            for run in self.runs
        ]

    @cached_property
    def cells(self) -> dict[tuple[str, str], list[Run]]:
        """Regrets by method and problem; an empty list if all runs were refused."""
        cells = grouped(self.regrets, lambda run: (run.label, run.problem))
        return {
            key: [run for run in cell if run.status is not Status.REFUSED]
            for key, cell in cells.items()
        }


def benchmark_tables(data: BenchmarkRuns) -> list[Table]:
    """Return warnings, ranks, pairwise tests and results; tables without rows are omitted."""
    tables = [provenance_table(data.runs), *(_ranks_table(data, ranks) for ranks in data.groups)]
    if data.against is not None:
        rivals = [label for label in data.labels if label != data.against]
        tables += pairwise_tables(data.against, data.tests, data.pooled, rivals, data.ours)
    tables += [_regret_table(data, calls) for calls in data.calls]
    tables += [calls_table(data), _seconds_table(data), _failures_table(data)]
    return [table for table in tables if table.rows]


def bench_markdown(data: BenchmarkRuns) -> str:
    """Return all tables; a warning about mixed code comes first, its table last."""
    tables = sorted(benchmark_tables(data), key=lambda table: table.caption == MIXED)
    mixed = any(table.caption == MIXED for table in tables)
    first = [f"**{MIXED}.** The last table lists them."] if mixed else []
    return "\n\n".join([*first, *(table.markdown() for table in tables)]) + "\n"


def fill_page(page: str | Path, markdown: str) -> None:
    """Replace the text between the lines ``BEGIN`` and ``END`` of a Markdown document.

    Raises:
        InvalidInputError: the document does not exist, is not text, or lacks these lines.
    """
    path = Path(page)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} must be a text file: {error}") from None
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InvalidInputError(f"{path} must have the lines {BEGIN} and {END} around the tables")
    path.write_text(f"{head}{BEGIN}\n\n{markdown}\n{END}{tail}", encoding="utf-8")


def _regret_table(data: BenchmarkRuns, calls: int) -> Table:
    unknown = ", ".join(name for name in data.problems if data.optima.get(name) is None)
    notes = applicable(
        (True, "Regret (loss minus optimum): median [quartiles] over the seeds of each method."),
        (unknown, f"The optimum is not known on {unknown}; values are losses."),
    )

    def cell(runs: Sequence[Run]) -> Cell:
        return spread(float(run.loss_at(calls)) for run in runs)

    return _grid(data, f"After {calls} calls", cell, notes)


def calls_table(data: BenchmarkRuns, tolerance: float = HIT) -> Table:
    """Return median and quartiles of the calls until each problem is solved."""
    index = data.frame.set_index(["problem", "seed", "label"]).index
    solved = dict(zip(index, calls_to_solve(data.frame, tolerance), strict=True))

    def cell(runs: Sequence[Run]) -> Cell:
        return _calls(spread(solved[run.problem, run.seed, run.label] for run in runs))

    note = (
        "The improvement is the way from the median first loss of all methods to the optimum, or "
        "to the lowest loss of any method."
    )
    return _grid(data, f"Calls until {percent(tolerance)} of the improvement", cell, [note])


def _seconds_table(data: BenchmarkRuns) -> Table:
    caption = "Seconds per ask: median over asks, then over seeds"
    return _grid(data, caption, lambda runs: rounded_median((r.ask_seconds for r in runs), 2), ())


def _failures_table(data: BenchmarkRuns) -> Table:
    counts = Counter(
        (run.problem, run.label, str(run.status), run.ended)
        for run in data.runs
        if run.status in (Status.REFUSED, Status.ERROR)
    )
    rows = tuple((*key[:2], count, *key[2:]) for key, count in counts.items())
    columns = ("problem", "method", "runs", "status", "message")
    notes = ("A crashed run counts with the results it had before the crash.",)
    return Table(columns, rows, "Refused and crashed runs", notes)


def _ranks_table(data: BenchmarkRuns, ranks: Ranks) -> Table:
    order = ranks.means.sort_values(ranks.means.columns[-1], kind="stable")
    rows = tuple(
        (label, *(round(float(value), 2) for value in means))
        for label, *means in order.itertuples()
    )
    left_out = ", ".join(label for label in data.labels if label not in ranks.means.index)
    unknown = sum(not run.code.get("method") for run in data.runs)
    notes = applicable(
        (True,
         f"All problems have equal weight. Losses within {TIE:.0e} of the improvement are ties."),
        (True, "Refused and crashed runs rank last."),
        (data.against is not None and data.tests.empty,
         f"Too few common seeds to test {data.against} on single problems."),
        (left_out, f"Not ranked, for lack of seeds or problems: {left_out}."),
        (0 < unknown < len(data.runs),
         f"The code of {counted(unknown, 'run')} was not recorded."),
    )  # fmt: skip
    columns = ("method", *(f"after {calls} calls" for calls in data.calls))
    caption = f"Mean ranks over {counted(ranks.pairs, 'common pair')} of problem and seed"
    return Table(columns, rows, caption, notes)


def _grid(
    data: BenchmarkRuns, caption: str, cell: Callable[[Sequence[Run]], Cell], notes: Sequence[str]
) -> Table:
    """Build a table of methods by problems."""
    rows = []
    for label in data.labels:
        found = [data.cells.get((label, name)) for name in data.problems]
        counts = [len(runs) for runs in found if runs]
        cells = ["refused" if runs == [] else cell(runs or ()) for runs in found]
        rows.append((label, span(counts), *cells))
    return Table(("method", "seeds", *data.problems), tuple(rows), caption, tuple(notes))


def _calls(found: Spread | None) -> str | None:
    if found is None:
        return None
    median, low, high = (f"{value:.0f}" if math.isfinite(value) else "never" for value in found[:3])
    # Non-breaking spaces keep a cell on one line.
    return median if low == high else f"{median} [{low}, {high}]".replace(" ", "\u00a0")
