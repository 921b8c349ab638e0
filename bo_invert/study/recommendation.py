"""Recommendation of an observed point from a surrogate, for noisy oracles."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bo_invert.errors import InvalidInputError, printable, require
from bo_invert.history import History
from bo_invert.models.base import Z_90
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.report.objective_view import Goal
from bo_invert.study.yield_estimate import YieldEstimate
from bo_invert.types import JSON, Design, Trial

if TYPE_CHECKING:
    from bo_invert.models.denoised_observations import Expectation
    from bo_invert.study.input_yields import FittedYields

NOISE_NOTE = (
    "the oracle is noisy, so the best value is biased; study.recommend() returns the expected one"
)
"""Note below the best value of a noisy oracle."""
_CAUTION = 1.0
"""Standard deviations that are added to the expected loss. On 116 logs of experiments/noise.py, 0,
0.5, 1, 1.6 and 2.5 left mean regrets of 0.139, 0.125, 0.116, 0.157 and 0.174."""


class Interval(NamedTuple):
    """Expected value with a central 90 % interval."""

    low: float
    expected: float
    high: float

    def __str__(self) -> str:
        return f"{self.expected:.4g}" + (
            f" ({self.low:.4g} to {self.high:.4g})" if self.low < self.high else ""
        )


@dataclass(frozen=True, eq=False, repr=False)
class Recommendation:
    """Recommended observed point, with its expected outputs.

    For a noisy oracle, the intervals are those of the mean output; single answers spread more. They
    come from the posterior of a surrogate. Their coverage is a little lower than 90 %, because the
    point is selected by the same posterior.

    Args:
        trial: First trial at the point.
        observed: Number of completed trials at the point.
        loss: Loss of the objective, lower is better; without noise of the inputs.
        outputs: Outputs by name, without noise of the inputs.
        probability: Probability of feasibility.
        noisy: True if the values come from a surrogate; else they are the observed ones.
        best: Feasible trial of lowest observed loss; None without one.
        goal: Goal of the objective.
        robust: Quality under noise of the inputs; None without noise.
        nominal: Quality of ``best`` under noise of the inputs; None without noise.
    """

    trial: Trial
    observed: int
    loss: Interval
    outputs: Mapping[str, Interval]
    probability: float
    noisy: bool
    best: Trial | None
    goal: Goal
    robust: YieldEstimate | None = None
    nominal: YieldEstimate | None = None

    def __getattr__(self, name: str) -> int:
        """Return ``observed`` under its former name, with a deprecation warning."""
        if name != "told":
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        warnings.warn(
            f"Recommendation.{name} is deprecated, use observed", DeprecationWarning, stacklevel=2
        )
        return self.observed

    @property
    def design(self) -> Design | None:
        """Recommended design; None if the study knows points only."""
        return self.trial.design

    @property
    def luck(self) -> str:
        """Sentence on the bias of the best value; empty for an exact oracle."""
        if not self.noisy:
            return ""
        low, high = sorted(map(self.goal.value, (self.loss.low, self.loss.high)))
        expected = (
            f"{self.goal.text(self.loss.expected)} ({low:.4g} to {high:.4g}) "
            f"at trial {self.trial.number}"
        )
        if self.best is None or self.best.loss is None:
            return f"the oracle is noisy; a model of all observations recommends {expected}"
        seen = f"{self.goal.text(self.best.loss)} in trial {self.best.number}"
        return (
            f"the oracle is noisy, so the best value, {seen}, is biased; "
            f"a model of all observations expects {expected}"
        )

    def __repr__(self) -> str:
        times = "once" if self.observed == 1 else f"{self.observed} times"
        # Quality under noise of the inputs has lines of its own.
        kind = "expected" if self.robust is None else "without noise of the inputs:"
        lines = [f"Recommendation: {self.trial}, observed {times}", f"  {kind} loss  {self.loss}"]
        lines += [
            f"  {kind} {name}  {interval}" for name, interval in list(self.outputs.items())[:8]
        ]
        if len(self.outputs) > 8:
            lines.append(f"  and {len(self.outputs) - 8} more outputs")
        if self.probability < 1.0:
            lines.append(f"  the constraints hold with probability {self.probability:.2g}")
        if self.robust is not None:
            lines.append(f"  with noise of the inputs: {self.robust}")
        if self.nominal is not None and self.best is not None and self.best != self.trial:
            lines.append(f"  nominal best, trial {self.best.number}: {self.nominal}")
        return printable("\n".join([*lines, f"  {self.luck}"] if self.luck else lines))


def known_noisy(strategy: JSON, history: History) -> bool:
    """Return True if an oracle is known to be noisy.

    It is if the strategy declares it, or if a point has different answers.

    Args:
        strategy: Spec of the strategy; strategies inside it count too.
        history: Trials.
    """
    return declared_noisy(strategy) or history.noise_observed


def suspected_noisy(statement: ProblemStatement, history: History) -> bool:
    """Return True if the outputs of close points suggest noise, and no point is repeated."""
    from bo_invert.models.noise_test import log_suggests_noise

    return log_suggests_noise(statement, history)


def recommend(statement: ProblemStatement, history: History, noisy: bool) -> Recommendation:
    """Return the observed point to act on.

    For an exact oracle it is the feasible trial of lowest loss. For a noisy one a surrogate of all
    observations decides: the point of lowest expected loss plus one standard deviation, among those
    with a probability of feasibility of at least 50 %. The lowest expectation alone would favour
    uncertain points. With noise of the inputs, it is the feasible trial of the best yield, or of
    the lowest expected loss, under the surrogate.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: True if repeated calls at a point differ.

    Raises:
        InvalidInputError: There is no observation, or none satisfies the constraints.
    """
    require(
        history.ranking,
        f"recommend: no trial of {statement.name!r} is completed ({len(history.failed)} gave "
        f"no outputs, {len(history.pending)} are open). Run the study, or tell it outcomes",
    )
    if statement.input_noise:
        return _from_yields(statement, history, noisy)
    return _from_model(statement, history) if noisy else _from_observations(statement, history)


def fitted_yields(statement: ProblemStatement, history: History, noisy: bool) -> FittedYields:
    """Return the yields of designs under a model of all observations.

    Raises:
        InvalidInputError: The problem has no input noise, or there are fewer than two observations.
    """
    # Gaussian processes need torch, which takes seconds to load.
    from bo_invert.study.input_yields import FittedYields

    return FittedYields(statement, history, noisy)


def _from_yields(statement: ProblemStatement, history: History, noisy: bool) -> Recommendation:
    trial, robust, nominal = fitted_yields(statement, history, noisy).best()
    assert trial.y is not None
    assert trial.loss is not None
    named = zip(statement.outputs, trial.y.tolist(), strict=True)
    return Recommendation(
        trial, len(history.groups[trial.point.tobytes()]),
        Interval(trial.loss, trial.loss, trial.loss),
        {name: Interval(y, y, y) for name, y in named}, 1.0, False, history.best,
        _goal(statement), robust, nominal,
    )  # fmt: skip


def _from_observations(statement: ProblemStatement, history: History) -> Recommendation:
    best = history.best
    if best is None or best.y is None or best.loss is None:
        why = f"none of the {len(history.completed)} completed trials satisfies"
        raise _none_feasible(statement, why, history.ranking[0].number)
    named = zip(statement.outputs, best.y.tolist(), strict=True)
    return Recommendation(
        best, len(history.groups[best.point.tobytes()]), Interval(best.loss, best.loss, best.loss),
        {name: Interval(y, y, y) for name, y in named}, 1.0, False, best, _goal(statement),
    )  # fmt: skip


def _from_model(statement: ProblemStatement, history: History) -> Recommendation:
    found = expected_values(statement, history)
    trials = [history.completed[position] for position in found.positions]
    feasible = found.probability >= 0.5
    if not feasible.any():
        likely = int(found.probability.argmax())
        odds = (
            "a model expects no observed point to satisfy (largest probability "
            f"{found.probability[likely]:.2g})"
        )
        raise _none_feasible(statement, odds, trials[likely].number)
    _, centre, high = found.losses
    cautious = centre + _CAUTION * (high - centre) / Z_90
    at = int(np.where(feasible, cautious, np.inf).argmin())
    same_point = history.groups[trials[at].point.tobytes()]
    outputs = {
        name: Interval(*found.outputs[:, at, j].tolist())
        for j, name in enumerate(statement.outputs)
    }
    return Recommendation(
        history.completed[same_point[0]],
        len(same_point),
        Interval(*found.losses[:, at].tolist()),
        outputs,
        float(found.probability[at]),
        True,
        history.best,
        _goal(statement),
    )


def expected_values(statement: ProblemStatement, history: History) -> Expectation:
    """Return losses and outputs of the observed points under a model of all observations."""
    from bo_invert.models.denoised_observations import posterior_expectation

    return posterior_expectation(statement, history)


def _goal(statement: ProblemStatement) -> Goal:
    return Goal(statement.objective.to_json(), statement.outputs)


def _none_feasible(statement: ProblemStatement, why: str, nearest: int) -> InvalidInputError:
    return InvalidInputError(
        f"recommend: problem {statement.name!r}: {why} "
        f"{', '.join(map(str, statement.constraints))}; trial {nearest} is nearest. "
        "Continue the study, or relax the constraints"
    )


def declared_noisy(spec: JSON) -> bool:
    """Return True if the spec of a strategy, or of one inside it, declares a noisy oracle."""
    options = spec.get("options", {}) if isinstance(spec, Mapping) else {}
    return options.get("noisy") is True or any(declared_noisy(child) for child in options.values())
