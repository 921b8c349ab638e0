"""Asks of a run with the rule ``verdict``: estimates that a target can be reached, best hopes.

An estimate is made after some observations, and then whenever their number has grown. Its ask is
spent on the best hope: the untried design that most probably meets the target. So hits that
the model predicts are tried, also far from the points of the strategy. The log holds the
estimate, ``query.meta["reach"]``, and the probability that the best hope meets the target,
``query.meta["hope"]``. Estimate and schedule are functions of the log. A target is unreachable
after several estimates in a row of at most alpha, each with a best hope that missed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal
from bo_invert.types import JSON, Query, State, Trial

if TYPE_CHECKING:
    from bo_invert.models.inverse.attainability import Attainability

ORIGIN = "verdict"
"""Origin of best hopes."""
_FIRST, _FIRST_PER_PARAMETER = 8, 4
"""Observations before the first estimate, as base and per parameter. Engineering choice: few more
than the coefficients of a quadratic without interactions do not judge a model."""
_GROWTH, _BETWEEN = 1.02, 2
"""Factor of the number of observations to the next estimate, and their least number.
Engineering choice: an estimate takes about as long as an ask of ``gp``."""
_LEAST = 16
"""Least number of observations of an estimate. Engineering choice."""
_MISSES = 3
"""Best hopes in a row that must miss an unreachable target. Engineering choice: a surprise by one
of them refutes the model."""
_REACH, _HOPE = "reach", "hope"


def enough_observations(statement: ProblemStatement, history: History) -> bool:
    """Return True if there are enough observations for an estimate."""
    return len(history.completed) >= least_observations(statement)


def too_few(statement: ProblemStatement, history: History) -> str:
    """Return that an estimate needs more observations; empty if there are enough."""
    if enough_observations(statement, history):
        return ""
    least = least_observations(statement)
    return f"{len(history.completed)} observations, at least {least} are needed"


def least_observations(statement: ProblemStatement) -> int:
    """Return the number of observations before the first estimate."""
    return max(_LEAST, _FIRST + _FIRST_PER_PARAMETER * statement.domain.parameter_count)


def misses(trials: Sequence[Trial], alpha: float) -> int:
    """Return the number of latest estimates in a row of at most alpha, each with a missed hope.

    A hope without an outcome does not count, and does not end the row.
    """
    count = 0
    for trial in _estimates(trials):
        if trial.query.meta[_REACH] > alpha:
            break
        count += not trial.state.open
    return count


def undecided_hope(trials: Sequence[Trial], alpha: float) -> Trial | None:
    """Return the latest best hope of a row that is too short for a verdict; None without a row."""
    latest = next(_estimates(trials), None)
    if latest is None or latest.query.meta[_REACH] > alpha or hopeless(trials, alpha):
        return None
    return latest


def shortage(trials: Sequence[Trial], alpha: float) -> str:
    """Return why an improbable target is not unreachable yet; empty if enough hopes have missed."""
    if next(_estimates(trials), None) is None:
        return "no best hope was tried: use run(stop='verdict')"
    count = misses(trials, alpha)
    if count >= _MISSES:
        return ""
    return f"{count} of {_MISSES} best hopes in a row have missed it, further calls are needed"


def hopeless(trials: Sequence[Trial], alpha: float) -> bool:
    """Return True if enough best hopes have missed; the present estimate then decides."""
    return misses(trials, alpha) >= _MISSES


def due(statement: ProblemStatement, history: History, alpha: float) -> bool:
    """Return True if the next ask makes an estimate."""
    if not isinstance(statement.objective, Target) or not enough_observations(statement, history):
        return False
    latest = next(_estimates(history.trials), None)
    if latest is None:
        return True
    if latest.state.open and latest.query.meta[_REACH] <= alpha:
        return False  # the row of misses waits for its outcome
    if misses(history.trials, alpha):
        return True
    known = sum(trial.number < latest.number for trial in history.completed)
    return len(history.completed) >= max(_GROWTH * known, known + _BETWEEN)


@dataclass(frozen=True)
class Hope:
    """Estimates and best hopes of a run.

    Args:
        alpha: Largest probability of a hit of an unreachable target.
        estimate: Function from a problem statement and a log to the estimate.
    """

    alpha: float
    estimate: Callable[[ProblemStatement, History], Attainability]

    def ask(
        self,
        statement: ProblemStatement,
        history: History,
        ask: Callable[[], Proposal],
        memo: JSON,
    ) -> Proposal:
        """Return the best hope if an estimate is due, else a proposal.

        Args:
            statement: Problem statement.
            history: Log.
            ask: Ask of the strategy.
            memo: Memo of the strategy.
        """
        if not due(statement, history, self.alpha):
            return ask()
        estimate = self.estimate(statement, history)
        with one_thread():
            probability, (point, hit) = trusted_probability(estimate), estimate.best_hope()
        meta = {_REACH: round(probability, 4), _HOPE: round(hit, 6)}
        return Proposal((Query(point, origin=ORIGIN, meta=meta),), memo)


def trusted_probability(estimate: Attainability) -> float:
    """Return the probability of a hit; 1 if the model says little about untried designs."""
    return 1.0 if estimate.distrust else estimate.probability


def _estimates(trials: Sequence[Trial]) -> Iterator[Trial]:
    """Yield the trials of estimates, latest first."""
    return (
        trial
        for trial in reversed(trials)
        if trial.state is not State.CANCELLED and _REACH in trial.query.meta
    )
