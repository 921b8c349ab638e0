"""What is said of a query before it is answered, in intervals that learn from their misses.

A model may be right about points drawn at random and still be wrong about those a search chooses: they are chosen
because the model thinks well of them, which is where it errs on the good side (the winner's curse). Nothing that is
computed from the told values alone can see that. So the intervals of queried points are stretched, each end by itself,
by how often the intervals given before were missed: the logarithm of a stretch tracks the quantile online (conformal
control: Angelopoulos, Candes & Tibshirani, NeurIPS 2023). In the long run each end is missed by one outcome in twenty,
whatever the model. The search itself uses the model as it is.

The intervals lie in the log, in every query's ``meta``: ``{"foretold": {output: [low, median, high]}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import JSON, Array, State, Trial

if TYPE_CHECKING:
    from bo_invert.models.gp.surrogate import Surrogate
    from bo_invert.models.output_transforms import ModelledOutputs

_TAIL = 0.05
"""Share of the outcomes meant to lie beyond each end."""
_Z_90 = 1.6448536269514722
"""Standard deviations from the median of a normal distribution to such an end."""
_RATE = 0.7
"""A miss nearly doubles the stretch of an end, and nineteen outcomes without one take that back."""
_GOOD, _EITHER, _BAD = 1.5, 2.0, 3.0
"""First stretches: of the end that means success, of ends that may mean either, of the one that means a let-down."""
_LIMIT = 10.0
"""Of the logarithm of a stretch."""


@dataclass(frozen=True)
class IntervalCoverage:
    """How the intervals given for one output turned out: outcomes below, inside and above them."""

    below: int
    inside: int
    above: int

    @property
    def coverage(self) -> float:
        """Share of the outcomes inside; 0.9 is meant. NaN before the first one."""
        count = self.below + self.inside + self.above
        return self.inside / count if count else float("nan")


def interval_coverage(
    statement: ProblemStatement, trials: Sequence[Trial]
) -> dict[str, IntervalCoverage]:
    """How the intervals in a log turned out, by output; ``"loss"`` where the loss itself is modelled.

    Args:
        statement: ``study.statement``.
        trials: ``study.trials``.
    """
    sides: dict[str, list[int]] = {}
    for name, side in _sides(statement, trials):
        sides.setdefault(name, []).append(side)
    return {
        name: IntervalCoverage(some.count(-1), some.count(0), some.count(1))
        for name, some in sides.items()
    }


def predict_intervals(
    surrogate: Surrogate,
    outputs: ModelledOutputs,
    statement: ProblemStatement,
    trials: Sequence[Trial],
    inputs: Array,
) -> list[JSON]:
    """What to note in the ``meta`` of queries, one note each.

    Of very many outputs, a spread of them is foretold.

    Args:
        surrogate: fitted to what ``outputs`` models.
        outputs: of the told trials.
        statement: of the problem.
        trials: the log.
        inputs: unit inputs of the queries, shape ``(b, d)``.
    """
    import torch

    from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS

    names = ["loss"] * outputs.models_loss + [
        statement.outputs[column] for column in outputs.columns
    ]
    c = len(names)
    some = np.unique(np.linspace(0, c - 1, min(c, MAX_INDEPENDENT_OUTPUTS)).round().astype(int))
    below, above = _stretches(interval_coverage(statement, trials), names, outputs.warp_directions)
    with torch.no_grad():
        mean, variance = surrogate.posterior(torch.as_tensor(inputs).to(surrogate.offset))
        centre = mean @ surrogate.weights + surrogate.offset
        reach = (
            _Z_90
            * (
                (variance + surrogate.misfit_variance) @ surrogate.weights**2
                + surrogate.residual_variance
            ).sqrt()
        )
        ends = (
            centre - reach * reach.new_tensor(below),
            centre,
            centre + reach * reach.new_tensor(above),
        )
        three = torch.stack(
            [end if surrogate.warp is None else surrogate.warp.inverse(end) for end in ends], -1
        )
    rows = three.cpu().tolist()
    return [{"foretold": {names[j]: row[j] for j in some}} for row in rows]


def _stretches(
    known: dict[str, IntervalCoverage], names: Sequence[str], tails: Sequence[int]
) -> tuple[Array, Array]:
    """Factors for the lower and the upper ends, shape ``(c,)`` each."""
    first = {-1: (_BAD, _GOOD), 0: (_EITHER, _EITHER), 1: (_GOOD, _BAD)}
    logs = np.log([first[tail] for tail in tails])
    for row, name in zip(logs, names, strict=True):
        if name in known:
            seen = known[name]
            count = seen.below + seen.inside + seen.above
            row += _RATE * (np.array([seen.below, seen.above]) - _TAIL * count)
    below, above = np.exp(np.clip(logs, -_LIMIT, _LIMIT)).T
    return below, above


def _sides(statement: ProblemStatement, trials: Sequence[Trial]) -> Iterator[tuple[str, int]]:
    """For every interval whose outcome is known its output, and -1, 0 or 1: the outcome is below, inside or above."""
    place = {name: j for j, name in enumerate(statement.outputs)}
    for trial in trials:
        if trial.state is not State.COMPLETED or trial.y is None or trial.loss is None:
            continue
        for name, (low, _, high) in trial.query.meta.get("foretold", {}).items():
            came = float(trial.y[place[name]]) if name in place else trial.loss
            yield name, int(came > high) - int(came < low)
