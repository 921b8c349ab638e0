"""Performance over calls: one tidy frame of runs, calls to solve a problem, and mean ranks.

A *pair* is one problem with one seed: all methods solve the same task there. Losses of different
pairs have no common unit. Each pair has its own scale, from the typical first loss (``start``) to
the lowest known loss (``best``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.report.runs import Run, Status, grouped
from bo_invert.report.statistical_tests import median
from bo_invert.types import Array

if TYPE_CHECKING:
    import pandas as pd

TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-5)
"""Remaining shares of the improvement from start to best at which a pair counts as solved.

1e-1, 1e-3 and 1e-5: convergence tests of Moré & Wild 2009. 1e-2: engineering choice, the accuracy
of practical interest."""

TIE = 1e-9
"""Remaining share of the improvement below which two losses tie. Engineering choice: stored
losses have ten significant digits (``benchmark.results.DIGITS``)."""


def starts(runs: Sequence[Run]) -> dict[tuple[str, int], float]:
    """Return the median over methods of the first finite loss, by pair; infinite without one."""
    pairs = grouped(runs, lambda run: (run.problem, run.seed))
    return {
        pair: median(run.start for run in same if run.start < math.inf)
        for pair, same in pairs.items()
    }


def run_frame(
    runs: Sequence[Run], optima: Mapping[str, float | None] | None = None
) -> pd.DataFrame:
    """Return one row per run, the source of all comparisons.

    Args:
        runs: runs of all methods; of equal runs (problem, seed and label) the last one counts.
        optima: known optimal losses by problem.

    Returns:
        A frame with columns ``problem``, ``seed``, ``label``, ``run``, ``refused``, ``start`` and
        ``best``. The last one is the optimum or the lowest loss of any method, if that is lower.
    """
    import pandas as pd

    begun = starts(runs)
    frame = pd.DataFrame(
        {
            "problem": [run.problem for run in runs],
            "seed": [run.seed for run in runs],
            "label": [run.label for run in runs],
            "run": pd.Series(list(runs), dtype=object),
            "refused": [run.status is Status.REFUSED for run in runs],
            "start": [begun[run.problem, run.seed] for run in runs],
            "best": [run.lowest for run in runs],
        }
    ).drop_duplicates(["problem", "seed", "label"], keep="last", ignore_index=True)
    frame["best"] = frame.groupby(["problem", "seed"])["best"].transform("min")
    known = frame["problem"].map(dict(optima or {})).astype(float)  # NaN if unknown
    frame["best"] = frame["best"].where(np.isinf(frame["best"]), np.fmin(frame["best"], known))
    return frame


def matrix(frame: pd.DataFrame, values: Array | pd.Series) -> pd.DataFrame:
    """Arrange one value per run by pair (rows) and method (columns); gaps are NaN."""
    index = ["problem", "seed"]
    order = frame[index].drop_duplicates()
    wide = frame.assign(value=values).pivot(index=index, columns="label", values="value")
    return wide.reindex(index=order.set_index(index).index, columns=list(frame["label"].unique()))


def losses_at(frame: pd.DataFrame, calls: int) -> Array:
    """Return the best loss of each run after this number of calls, shape ``(runs,)``."""
    return np.array([float(run.loss_at(calls)) for run in frame["run"]])


def scores_at(frame: pd.DataFrame, calls: int) -> Array:
    """Return the losses by which methods are compared, shape ``(runs,)``.

    Losses within ``TIE`` of the best one are equal. The score is infinite for a refused run and
    for one that has crashed by then: no method gains by giving up. It is NaN on pairs on which no
    method has a feasible loss.
    """
    crashed = [
        run.status is Status.ERROR and (not len(run.calls) or calls > run.calls[-1])
        for run in frame["run"]
    ]
    scores = np.maximum(losses_at(frame, calls), levels(frame, TIE))
    return np.where(np.isfinite(frame["best"]), np.where(crashed, math.inf, scores), math.nan)


def levels(frame: pd.DataFrame, tolerance: float) -> Array:
    """Return the loss at which a pair counts as solved, shape ``(runs,)``.

    ``best + tolerance * max(0, start - best)`` (Moré & Wild 2009, equation 2.2).
    """
    start, best = frame["start"].to_numpy(), frame["best"].to_numpy()
    with np.errstate(invalid="ignore"):  # both are infinite if no method has a feasible loss
        return np.asarray(best + tolerance * np.maximum(0.0, start - best))


def calls_to_solve(frame: pd.DataFrame, tolerance: float) -> Array:
    """Return the calls of each run until its pair is solved, shape ``(runs,)``.

    Infinite for unsolved pairs; NaN on pairs on which no method has a feasible loss.
    """
    calls = [
        run.calls_to(level)
        for run, level in zip(frame["run"], levels(frame, tolerance), strict=True)
    ]
    return np.where(np.isfinite(frame["best"]), calls, math.nan)


def percent(tolerance: float) -> str:
    """Format the share of the improvement that a tolerance requires, such as ``99 %``."""
    return f"{100 * (1 - tolerance):.5g} %"


def contenders(frame: pd.DataFrame) -> list[str]:
    """Return the methods with at least one run on every problem, refused runs included.

    Only these can be ranked over all problems. A method that refused every run is left out.
    """
    problems = frame["problem"].nunique()
    methods = frame.groupby("label", sort=False)
    ranked = (methods["problem"].nunique() == problems) & ~methods["refused"].all()
    return [str(label) for label in ranked.index[ranked]]


def thorough(frame: pd.DataFrame) -> list[str]:
    """Return the contenders with more than half as many pairs as the one with the most.

    Slow methods have few seeds, and the other methods should not be judged by those seeds alone.
    """
    counts = frame["label"].value_counts()[contenders(frame)]
    return [str(label) for label, count in counts.items() if 2 * count > counts.max()]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Mean ranks of methods over the pairs that all of them ran.

    Args:
        means: mean ranks, methods in rows, numbers of calls in columns; 1 is best.
        pairs: number of common pairs.
    """

    means: pd.DataFrame
    pairs: int


def ranks_at(frame: pd.DataFrame, labels: Sequence[str], calls: Sequence[int]) -> Ranks | None:
    """Return the mean ranks of methods; None without a common pair or a second method.

    Ranks over different pairs would compare five problems of one method with twenty of another.
    Pairs are averaged within problems first, so each problem has the same weight. Equal scores
    share their mean rank; see ``scores_at`` for refused and crashed runs.
    """
    import pandas as pd

    means, pairs = {}, 0
    for number in calls:
        scores = matrix(frame, scores_at(frame, number))[list(labels)].dropna()
        pairs = len(scores)
        if len(labels) < 2 or not pairs:
            return None
        ranks = scores.rank(axis=1).groupby(level="problem", sort=False)
        means[number] = ranks.mean().mean()
    return Ranks(pd.DataFrame(means), pairs)
