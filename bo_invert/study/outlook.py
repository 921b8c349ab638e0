"""Outlook of a study: gain that further calls can bring, in the loss or in the hypervolume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.errors import printable
from bo_invert.history import History
from bo_invert.report.objective_view import Goal
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    from bo_invert.models.prediction.predictor import Predictor
    from bo_invert.models.prediction.remaining_gain import RemainingGain

MIN_OBSERVATIONS = 12
"""Least number of observations of an outlook. Engineering choice: fewer do not judge a model."""
_MIN_EXPLAINED = 0.2
"""Least share of the variance that left-out forecasts explain. Engineering choice: below, the model
predicts little more than a constant."""
_RECENT, _MIN_RECENT = 0.5, 25
"""Share of the calls whose gain bounds the further one, and their least number, dimensionless.
Engineering choice: experiments/stopping.py measured the share of wrong bounds."""


@dataclass(frozen=True)
class Outlook:
    """Gain that further calls can bring, in units of the loss, or hypervolume for ``Pareto``.

    The bound is the larger one of two: the 95 % quantile of the gain under the model, and the gain
    of the second half of the calls, at least 25. A model alone misses optima that it cannot
    resolve.

    Args:
        decided: False if no model predicts the outputs or there are too few calls; then expectation
            and bound are infinite.
        why: Reason if it is not decided.
        calls: Calls so far.
        best: Lowest loss so far, or hypervolume; None without a feasible observation.
        expected: Expected remaining gain.
        bound: Upper bound of the remaining gain with a probability of 95 %.
        chance: Probability under the model that some design is better than the best one.
        rate: Share of the recent calls that improved the best value.
        scale: Difference of the median of the first observations and the best loss, or hypervolume.
        goal: Goal of the objective.
    """

    decided: bool
    why: str
    calls: int
    best: float | None
    expected: float
    bound: float
    chance: float
    rate: float
    scale: float
    goal: Goal

    def improves(self, calls: int) -> float:
        """Return the probability that some of the next calls improves the best value.

        It is the smaller one of 1 - (1 - r)^n with the share r of recent calls that improved it,
        and of the probability under the model that a better design exists.

        Args:
            calls: Number n of calls.
        """
        return min(self.chance, 1.0 - (1.0 - self.rate) ** calls)

    def to_json(self) -> JSON:
        """Return the numbers as JSON; null for infinite ones."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        finite = {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in numbers.items()
        }
        return {"decided": self.decided, "why": self.why, "calls": self.calls, **finite}

    def __str__(self) -> str:
        if not self.decided:
            return f"undecided after {self.calls} calls: {self.why}"
        best = "" if self.best is None else f"best {self.goal.text(self.best)}; "
        if self.goal.kind == "pareto":
            best = f"hypervolume {self.best:.4g}; "
        return (
            f"after {self.calls} calls: {best}expected further gain {self.expected:.3g}, "
            f"at most {self.bound:.3g} with a probability of 95 %; the next 10 calls improve with "
            f"a probability of {self.improves(10):.0%}"
        )

    def __repr__(self) -> str:
        return printable(f"Outlook({self})")


_NUMBERS = ("best", "expected", "bound", "chance", "rate", "scale")


def outlook(
    predictor: Predictor | None,
    history: History,
    noisy: bool,
    goal: Goal,
    improvements: tuple[Array, Array],
) -> Outlook:
    """Estimate the remaining gain.

    Args:
        predictor: Fitted models; None with fewer observations than they need.
        history: Trials.
        noisy: Repeated calls at a point differ.
        goal: Goal of the objective.
        improvements: Rising numbers of calls ``(k,)`` and the best loss after each ``(k,)``, minus
            the hypervolume for ``Pareto``; infinite before the first feasible observation.
    """
    calls, losses = improvements
    leading, spent = history.best, int(calls[-1])
    rate, recent = _trend(calls, losses)
    count, pareto = len(history.completed), goal.kind == "pareto"
    known = None if leading is None else leading.loss
    scale = 0.0 if known is None else max(float(np.median(history.losses[:20])) - known, 0.0)
    if pareto and known is not None:
        known = scale = float(-losses[-1]) if math.isfinite(losses[-1]) else 0.0
    why = ""
    if known is None:
        why = "no observation is feasible"
    elif pareto and not known:
        why = "no feasible observation is better than the reference point in all criteria"
    elif predictor is None or count < MIN_OBSERVATIONS:
        why = f"{count} observations, at least {MIN_OBSERVATIONS} are needed"
    elif predictor.explained < _MIN_EXPLAINED:
        why = f"left-out predictions explain {max(predictor.explained, 0.0):.0%} of the variance"
    elif not math.isfinite(recent):
        why = f"{spent} calls, more than {_MIN_RECENT} are needed to see a trend"
    if why or predictor is None:
        return Outlook(False, why, spent, known, math.inf, math.inf, 1.0, rate, scale, goal)
    gain = _remaining(predictor, history, noisy, pareto)
    expected = max(gain.expected, 0.5 * recent)
    # Rare large gains can raise the mean above the quantile.
    bound = max(gain.bound, recent, expected)
    return Outlook(True, "", spent, known, expected, bound, gain.probability, rate, scale, goal)


def _remaining(predictor: Predictor, history: History, noisy: bool, several: bool) -> RemainingGain:
    """Return the remaining gain of the loss, or of the hypervolume of several criteria."""
    from bo_invert.models.prediction import remaining_gain as one, remaining_hypervolume as volume

    if several:
        return volume.remaining_hypervolume(predictor, history, noisy)
    return one.remaining_gain(predictor, history, noisy)


def _trend(calls: Array, losses: Array) -> tuple[float, float]:
    """Return the share of recent calls that improved the best loss, and their gain.

    Args:
        calls: Rising numbers of calls.
        losses: Lowest loss after each.
    """
    last = int(calls[-1])
    window = max(math.ceil(_RECENT * last), _MIN_RECENT)
    before = int(np.searchsorted(calls, last - window, side="right")) - 1
    start = math.inf if before < 0 else losses[before]
    tail = losses[max(before, 0) :]
    improved = int((tail[1:] < tail[:-1]).sum())
    gain = float(start - losses[-1]) if math.isfinite(start) else math.inf
    return (improved + 0.5) / (window + 1.0), gain
