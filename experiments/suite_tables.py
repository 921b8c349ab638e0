"""Tables of suites.py beside those of the benchmark: gaps to baselines, judges, wrong choices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from bo_invert.report.runs import Run, Status, grouped
from bo_invert.report.statistical_tests import median, spread
from bo_invert.report.table import Table

#: Peers that no median may be behind.
BASELINES = ("random", "prior", "cmaes")
#: Relative difference below which two medians are equal; stored losses have ten digits.
EQUAL = 1e-9


def gap(ours: Iterable[float], theirs: Iterable[float]) -> float:
    """Return the difference of medians in units of the peer's interquartile range.

    Positive values: the peer is better. Infinite if the peer's losses do not vary, or if one side
    has no feasible median.
    """
    mine, peer = spread(ours), spread(theirs)
    if mine is None or peer is None:
        return math.nan
    if mine.median == peer.median:
        return 0.0
    difference = mine.median - peer.median
    if not math.isfinite(difference):
        return difference
    if abs(difference) <= EQUAL * max(abs(mine.median), abs(peer.median)):
        return 0.0
    width = peer.high - peer.low
    return difference / width if width > 0.0 else math.copysign(math.inf, difference)


def curves(runs: Sequence[Run], label: str, problem: str, calls: int) -> list[float]:
    """Return the best losses of a method after this number of calls, refused runs excluded."""
    return [
        float(run.loss_at(calls))
        for run in runs
        if (run.label, run.problem) == (label, problem) and run.status is not Status.REFUSED
    ]


def medians_table(runs: Sequence[Run], calls: Sequence[int]) -> Table:
    """Return the median loss of every method on every problem; the seeds are in brackets."""
    labels = list(dict.fromkeys(run.label for run in runs))
    rows = []
    for problem in dict.fromkeys(run.problem for run in runs):
        for number in calls:
            found = {label: curves(runs, label, problem, number) for label in labels}
            cells = [f"{median(v):.4g} ({len(v)})" if v else "" for v in found.values()]
            rows.append((problem, number, *cells))
    return Table(("problem", "calls", *labels), tuple(rows), "Median loss (number of seeds)")


def margins_table(
    runs: Sequence[Run], calls: Sequence[int], against: str, peers: Sequence[str]
) -> Table:
    """Return the distance of medians from each peer's on every problem, in the peer's ranges."""
    rows = []
    for problem in dict.fromkeys(run.problem for run in runs):
        for number in calls:
            ours = curves(runs, against, problem, number)
            found = [gap(ours, curves(runs, peer, problem, number)) for peer in peers]
            rows.append((problem, number, *map(_ranges, found)))
    caption = f"Median of {against} minus a peer's, in interquartile ranges of the peer"
    note = "Negative values: the median is better than the peer's."
    return Table(("problem", "calls", *peers), tuple(rows), caption, (note,))


def _ranges(found: float) -> str:
    if math.isnan(found):
        return ""
    if math.isfinite(found):
        return f"{found:+.2f}"
    return "worse, no range" if found > 0.0 else "better, no range"


def gaps_table(
    runs: Sequence[Run], calls: Sequence[int], against: str, peers: Sequence[str], limit: float
) -> Table:
    """Return the problems on which the median is behind a peer's by more than ``limit`` ranges."""
    rows = []
    for problem in dict.fromkeys(run.problem for run in runs):
        for number in calls:
            ours = curves(runs, against, problem, number)
            for peer in peers:
                theirs = curves(runs, peer, problem, number)
                found = gap(ours, theirs)
                if found > limit:
                    row = (problem, number, peer, median(ours), median(theirs), _ranges(found))
                    rows.append(row)
    columns = ("problem", "calls", "peer", against, "peer's median", "gap in its ranges")
    caption = f"Medians of {against} behind a peer's by more than {limit:g} interquartile ranges"
    note = "The unit is the interquartile range of the peer's losses over seeds."
    return Table(columns, tuple(rows), caption, (note,))


def judged_table(runs: Sequence[Run], data: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    """Return the median claimed and judged losses of the last designs, beside best of data.

    Args:
        runs: runs of all methods.
        data: claimed and judged losses of the best of N real designs, by problem.
    """
    labels = list(dict.fromkeys(run.label for run in runs))
    rows = []
    for problem, own in grouped(runs, lambda run: run.problem).items():
        if problem not in data:
            continue
        cells = [_pair(*map(median, zip(*data[problem], strict=True)))]
        for label in labels:
            best = [run.best for run in own if run.label == label and run.best is not None]
            judged = [find.judged for find in best if find.judged is not None]
            cells.append(_pair(median(find.loss for find in best), median(judged)) if best else "")
        rows.append((problem, *cells))
    note = "Best of data: the best of as many real designs as calls, by the oracle, then judged."
    columns = ("problem", "best of data", *labels)
    return Table(columns, tuple(rows), "Median loss: claimed / judged", (note,))


def _pair(claimed: float, judged: float) -> str:
    return f"{claimed:.4g} / {judged:.4g}"


def choices_table(
    runs: Sequence[Run], best: Mapping[str, Mapping[int, Mapping[str, str]]]
) -> Table:
    """Return the share of runs whose best design has another category than the optimum.

    Args:
        runs: runs of all methods.
        best: by problem and seed, the categories of the optimum as texts.
    """
    labels = list(dict.fromkeys(run.label for run in runs))
    rows = []
    for problem, own in grouped(runs, lambda run: run.problem).items():
        if problem not in best:
            continue
        cells = []
        for label in labels:
            wrong = [
                run.best is None or chosen(run.best.text, right) != right
                for run in own
                if run.label == label and (right := best[problem][run.seed])
            ]
            cells.append(f"{sum(wrong)} of {len(wrong)}" if wrong else "")
        rows.append((problem, *cells))
    caption = "Runs whose best design has a wrong category"
    return Table(("problem", *labels), tuple(rows), caption)


def chosen(text: str, names: Iterable[str]) -> dict[str, str]:
    """Read the values of parameters from the text of a design, ``x = 0.5, kind = b``."""
    values = dict(re.findall(r"(\w+) = ([^,]*)", text))
    return {name: values.get(name, "") for name in names}
