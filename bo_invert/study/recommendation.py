"""Which told point to act on: of a noisy oracle the best value seen is partly luck, and a model sees through it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.problem_statement import ProblemStatement
from bo_invert.report.objective_view import Goal
from bo_invert.types import JSON, Trial

NOISE_NOTE = "answers are noisy, so the best value is partly luck; study.recommend() says what a model expects"
_SHOWN = 8
"""So many outputs are shown."""


class Interval(NamedTuple):
    """What is expected, between the ends of a central 90 % interval."""

    low: float
    expected: float
    high: float

    def __str__(self) -> str:
        return f"{self.expected:.4g}" + (
            f" ({self.low:.4g} to {self.high:.4g})" if self.low < self.high else ""
        )


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """A told point to act on, and what to expect of it.

    With a noisy oracle, that is what it would answer there on average; a single answer spreads more. The intervals are
    the model's belief. They hold a little less often than they say, as the point is chosen for what is believed of it.

    Args:
        trial: the first one told at that point.
        told: how many completed trials are of that point.
        loss: of the objective, lower is better.
        outputs: by name.
        probability: that the outcome constraints hold.
        noisy: whether a model spoke; otherwise everything is as it was told.
        best: the feasible trial of the lowest loss seen; None when no answer was feasible.
        goal: what is looked for, in words.
    """

    trial: Trial
    told: int
    loss: Interval
    outputs: Mapping[str, Interval]
    probability: float
    noisy: bool
    best: Trial | None
    goal: Goal

    @property
    def luck(self) -> str:
        """A sentence on the best value seen; empty where it is what can be expected."""
        if not self.noisy:
            return ""
        low, high = sorted(map(self.goal.value, (self.loss.low, self.loss.high)))
        expected = f"{self.goal.text(self.loss.expected)} ({low:.4g} to {high:.4g}) at trial {self.trial.number}"
        if self.best is None or self.best.loss is None:
            return f"answers are noisy; a model of all of them recommends {expected}"
        seen = f"{self.goal.text(self.best.loss)} in trial {self.best.number}"
        return f"answers are noisy, so the best seen, {seen}, is partly luck; a model of all expects {expected}"

    def __repr__(self) -> str:
        times = "once" if self.told == 1 else f"{self.told} times"
        lines = [f"Recommendation: {self.trial}, told {times}", f"  expected loss  {self.loss}"]
        lines += [
            f"  expected {name}  {interval}"
            for name, interval in list(self.outputs.items())[:_SHOWN]
        ]
        if len(self.outputs) > _SHOWN:
            lines.append(f"  and {len(self.outputs) - _SHOWN} more outputs")
        if self.probability < 1.0:
            lines.append(f"  the constraints hold with probability {self.probability:.2g}")
        return "\n".join([*lines, f"  {self.luck}"] if self.luck else lines)


def known_noisy(strategy: JSON, history: History) -> bool:
    """Whether the oracle is known to be noisy: the strategy was told so, or a point was answered in different ways.

    Args:
        strategy: its spec; strategies inside it count too.
        history: of the trials.
    """
    return declared_noisy(strategy) or history.noise_observed


def recommend(statement: ProblemStatement, history: History, noisy: bool) -> Recommendation:
    """The told point to act on.

    Of an exact oracle it is the feasible trial of the lowest loss. Of a noisy one it is, among the points where a model
    of all told outputs believes that the constraints hold, the one of the lowest expected loss.

    Args:
        statement: of the problem.
        history: of its trials.
        noisy: whether the same point is answered differently each time.

    Raises:
        InvalidInputError: nothing is completed, or nothing that is told satisfies the constraints.
    """
    if not history.completed:
        raise InvalidInputError(
            f"recommend: no trial of {statement.name!r} is completed ({len(history.failed)} gave no outputs, "
            f"{len(history.pending)} are open), so there is nothing to choose from; run the study, or tell it outcomes, "
            "first"
        )
    return _believed(statement, history) if noisy else _seen(statement, history)


def _seen(statement: ProblemStatement, history: History) -> Recommendation:
    best = history.best
    if best is None or best.y is None or best.loss is None:
        nearest = history.ranking[0].number
        raise _nothing(
            statement, f"none of the {len(history.completed)} completed trials satisfies", nearest
        )
    outputs = {
        name: Interval(y, y, y) for name, y in zip(statement.outputs, best.y.tolist(), strict=True)
    }
    loss, told = (
        Interval(best.loss, best.loss, best.loss),
        len(history.groups[best.point.tobytes()]),
    )
    return Recommendation(best, told, loss, outputs, 1.0, False, best, _goal(statement))


def _believed(statement: ProblemStatement, history: History) -> Recommendation:
    from bo_invert.models.noisy_expectation import posterior_expectation

    found = posterior_expectation(statement, history)
    trials = [history.completed[position] for position in found.positions]
    hopeful = found.probability >= 0.5
    if not hopeful.any():
        likely = int(found.probability.argmax())
        odds = f"at no told point a model believes (at best with probability {found.probability[likely]:.2g}) in"
        raise _nothing(statement, odds, trials[likely].number)
    at = int(np.where(hopeful, found.losses[1], np.inf).argmin())
    alike = history.groups[trials[at].point.tobytes()]
    outputs = {
        name: Interval(*found.outputs[:, at, j].tolist())
        for j, name in enumerate(statement.outputs)
    }
    return Recommendation(
        history.completed[alike[0]], len(alike), Interval(*found.losses[:, at].tolist()), outputs,
        float(found.probability[at]), True, history.best, _goal(statement),
    )  # fmt: skip


def _goal(statement: ProblemStatement) -> Goal:
    return Goal(statement.objective.to_json(), statement.outputs)


def _nothing(statement: ProblemStatement, why: str, nearest: int) -> InvalidInputError:
    wanted = ", ".join(map(str, statement.constraints))
    return InvalidInputError(
        f"recommend: of problem {statement.name!r} {why} {wanted}; trial {nearest} comes nearest. Go on with the "
        "study, or relax the constraints"
    )


def declared_noisy(spec: JSON) -> bool:
    """Whether a strategy, or one inside it, was told that the oracle is noisy."""
    options = spec.get("options", {}) if isinstance(spec, Mapping) else {}
    return options.get("noisy") is True or any(declared_noisy(child) for child in options.values())
