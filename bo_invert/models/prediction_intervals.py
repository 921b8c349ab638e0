"""Prediction intervals of queries, calibrated online by the intervals of earlier queries.

A search queries points for which the model predicts low losses, and there its errors are optimistic
(the winner's curse). The observations alone do not show this. So each end of an interval is scaled
by a factor whose logarithm tracks the quantile online (conformal control: Angelopoulos, Candes &
Tibshirani, NeurIPS 2023). In the long run 5 % of the outcomes lie beyond each end, with any model.
The search itself uses the uncalibrated model.

The log stores intervals in each query's ``meta``: ``{"foretold": {output: [low, median, high]}}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import deprecated_names
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS, Z_90
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import INTERVALS, JSON, Array, State, Trial
from bo_invert.user_code import own_settings

if TYPE_CHECKING:
    from bo_invert.models.gp.surrogate import Surrogate
    from bo_invert.models.output_transforms import ModelledOutputs

_TAIL = 0.05
"""Nominal share of outcomes beyond each end, by definition of a 90 % interval."""
_RATE = 0.7
"""Step of the log factor per miss, in nats. Engineering choice: a miss doubles a factor, and 19
outcomes without a miss restore it."""
_INITIAL = {-1: (3.0, 1.5), 0: (2.0, 2.0), 1: (1.5, 3.0)}
"""Initial factors of the lower and upper end, dimensionless ratios, by warp direction.
Engineering choice: wide towards bad values, because errors are optimistic."""
_MAX_LOG = 10.0
"""Bound of the log factor in nats. Engineering choice: avoids overflow."""


@dataclass(frozen=True)
class IntervalCoverage:
    """Numbers of outcomes below, inside and above the prediction intervals of an output."""

    below: int
    inside: int
    above: int

    @property
    def total(self) -> int:
        """Number of outcomes."""
        return self.below + self.inside + self.above

    @property
    def coverage(self) -> float:
        """Share of outcomes inside, nominally 0.9; NaN without outcomes."""
        return self.inside / self.total if self.total else float("nan")


@own_settings()
def interval_coverage(
    statement: ProblemStatement, trials: Sequence[Trial]
) -> dict[str, IntervalCoverage]:
    """Count the outcomes in the prediction intervals of a log.

    Args:
        statement: ``study.statement``.
        trials: ``study.trials``.

    Returns:
        Coverage by output; ``"loss"`` if the loss itself is modelled.
    """
    # -1, 0 and 1 stand for outcomes below, inside and above the interval.
    counts = Counter(_sides(statement, trials))
    return {
        name: IntervalCoverage(*(counts[name, side] for side in (-1, 0, 1))) for name, _ in counts
    }


def predict_intervals(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    statement: ProblemStatement,
    trials: Sequence[Trial],
    inputs: Array,
) -> list[JSON]:
    """Return 90 % prediction intervals for the ``meta`` of queries, one dictionary each.

    With many outputs, an evenly spaced selection of them is predicted.

    Args:
        surrogate: Surrogate of the modelled outputs.
        outputs: Modelled outputs.
        statement: Problem statement.
        trials: All trials.
        inputs: Unit inputs of the queries, shape ``(b, d)``.
    """
    import torch

    names, c = outputs.names, len(outputs.names)
    some = np.unique(np.linspace(0, c - 1, min(c, MAX_INDEPENDENT_OUTPUTS)).round().astype(int))
    below, above = _factors(interval_coverage(statement, trials), names, outputs.warp_directions)
    # The median is exact under a monotone warp; a mean would not be.
    with torch.no_grad():
        # Variance of an outcome: posterior, noise or misfit, and discarded components.
        predicted = surrogate.predict(torch.as_tensor(inputs).to(surrogate.offset))
        centre, std = surrogate.warped_moments(*predicted)
        reach = Z_90 * std
        low, high = centre - reach * std.new_tensor(below), centre + reach * std.new_tensor(above)
        # A monotone warp maps quantiles to quantiles.
        triples = surrogate.unwarp(torch.stack([low, centre, high])).permute(1, 2, 0)
    return [{INTERVALS: {names[j]: row[j] for j in some}} for row in triples.cpu().tolist()]


def _factors(
    known: dict[str, IntervalCoverage], names: Sequence[str], warp_directions: Sequence[int]
) -> tuple[Array, Array]:
    """Return factors of the lower and the upper ends, shape ``(c,)`` each.

    log factor = log initial + rate (misses - 0.05 outcomes).
    """
    # A miss adds rate 0.95, a hit subtracts rate 0.05: balanced at 5 % misses.
    logs = np.log([_INITIAL[direction] for direction in warp_directions])
    for row, name in zip(logs, names, strict=True):
        if name in known:
            misses = np.array([known[name].below, known[name].above])
            row += _RATE * (misses - _TAIL * known[name].total)
    below, above = np.exp(np.clip(logs, -_MAX_LOG, _MAX_LOG)).T
    return below, above


def _sides(statement: ProblemStatement, trials: Sequence[Trial]) -> Iterator[tuple[str, int]]:
    """Yield (output, -1, 0 or 1) for each outcome below, inside or above its interval."""
    place = {name: j for j, name in enumerate(statement.outputs)}
    for trial in trials:
        if trial.state is not State.COMPLETED or trial.y is None or trial.loss is None:
            continue
        for name, (low, _, high) in trial.query.meta.get(INTERVALS, {}).items():
            value = float(trial.y[place[name]]) if name in place else trial.loss
            yield name, int(value > high) - int(value < low)


__getattr__ = deprecated_names(
    globals(), {"record": "interval_coverage", "Record": "IntervalCoverage"}
)
