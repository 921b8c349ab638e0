"""Trials as arrays: the view of the log that strategies and reports compute with. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bo_invert.types import Array, State, Trial


class History:
    """Told and pending trials, as arrays in the order of their numbers.

    Shapes: n completed trials, p open ones, b barren ones, d coordinates (0 in an empty log), m outputs.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)

    @cached_property
    def completed(self) -> tuple[Trial, ...]:
        return tuple(t for t in self.trials if t.state is State.COMPLETED)

    @cached_property
    def open(self) -> tuple[Trial, ...]:
        """Asked for, not told yet."""
        return tuple(t for t in self.trials if t.state.open)

    @cached_property
    def barren(self) -> tuple[Trial, ...]:
        """Failed or infeasible: points that gave no outputs."""
        return tuple(t for t in self.trials if t.state in (State.FAILED, State.INFEASIBLE))

    @cached_property
    def points(self) -> Array:
        """Where outputs were measured, shape ``(n, d)``."""
        return self._points(self.completed)

    @cached_property
    def y(self) -> Array:
        """Raw outputs, shape ``(n, m)``."""
        return np.array([t.y for t in self.completed]) if self.completed else np.empty((0, 0))

    @cached_property
    def losses(self) -> Array:
        """Shape ``(n,)``; lower is better."""
        return np.array([t.loss for t in self.completed], dtype=float)

    @cached_property
    def violations(self) -> Array:
        """By how much the constraints are missed, shape ``(n,)``; 0 where all hold."""
        return np.array(
            [t.outcome.violation if t.outcome else 0.0 for t in self.completed], dtype=float
        )

    @cached_property
    def open_points(self) -> Array:
        """Points asked for and not told, shape ``(p, d)``."""
        return self._points(self.open)

    @cached_property
    def barren_points(self) -> Array:
        """Points that gave no outputs, shape ``(b, d)``."""
        return self._points(self.barren)

    @cached_property
    def all_points(self) -> Array:
        """Points of all trials, whatever became of them."""
        return self._points(self.trials)

    @property
    def calls(self) -> int:
        """Calls that were answered, failures and retries included: what a budget is measured against.

        Attempts lost with their worker are billed too, but not counted here: what a strategy plans does not depend
        on when a worker was killed.
        """
        return sum(
            a.cost.calls for t in self.trials for a in t.attempts if a.fate is not State.LOST
        )

    @property
    def committed(self) -> int:
        """``calls`` plus the most that open trials can still cost."""
        return self.calls + sum(t.query.cost.calls for t in self.open)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """Positions of the completed trials, best first, shape ``(n,)``; see ``ranking``."""
        return np.lexsort((self.losses, np.maximum(self.violations, 0.0)))

    @cached_property
    def ranking(self) -> tuple[Trial, ...]:
        """Completed trials, best first: feasible by loss, then the others by violation."""
        return tuple(self.completed[i] for i in self.order)

    @property
    def best(self) -> Trial | None:
        """The feasible trial of lowest loss; None when there is none."""
        return self.ranking[0] if self.ranking and self.ranking[0].feasible else None

    @cached_property
    def groups(self) -> dict[bytes, list[int]]:
        """Positions of the completed trials of each point, in order; the keys are the points' bytes."""
        groups: dict[bytes, list[int]] = {}
        for position, trial in enumerate(self.completed):
            groups.setdefault(trial.point.tobytes(), []).append(position)
        return groups

    @cached_property
    def answers_differ(self) -> bool:
        """Whether a point told more than once was answered differently, beyond rounding: then the oracle is noisy.

        A network in single precision answers a batch and a single design differently in the seventh digit.
        """
        some = [self.y[group] for group in self.groups.values() if len(group) > 1]
        with np.errstate(over="ignore"):
            usual = 1e-5 * np.std(self.y, axis=0) if some else 0.0
        return any(bool((np.abs(y - y[0]) > usual + 1e-6 * np.abs(y[0])).any()) for y in some)

    def _points(self, trials: Sequence[Trial]) -> Array:
        d = len(self.trials[0].point) if self.trials else 0
        return np.array([t.point for t in trials], dtype=float).reshape(len(trials), d)


def best_so_far(trials: Sequence[Trial]) -> tuple[Array, Array]:
    """The curve of a study: calls spent, and the lowest feasible loss seen by then.

    Every attempt moves the curve along, lost and failed ones too. A descent with a trace improves call by call.

    Returns:
        calls, shape ``(k,)``, rising; losses, shape ``(k,)``, falling, infinite until something feasible is seen.
    """
    ended = [t for t in trials if t.attempts and not t.state.open]
    ended.sort(key=lambda t: (t.attempts[-1].ended or 0.0, t.number))
    calls, losses, spent, best = [0], [np.inf], 0, np.inf
    for trial in trials:
        if (
            not trial.attempts and trial.feasible and trial.loss is not None
        ):  # told by the user before any call
            best = min(best, trial.loss)
            losses[0] = best
    for trial in ended:
        assert trial.outcome is not None or trial.state is State.CANCELLED
        outcome = trial.outcome
        last = trial.attempts[-1].cost.calls
        spent += trial.cost.calls - last
        if outcome is not None and outcome.trace is not None and len(outcome.trace):
            steps = spent + np.arange(1, len(outcome.trace) + 1) * last / len(outcome.trace)
            for step, loss in zip(steps, outcome.trace, strict=True):
                if trial.feasible and np.isfinite(loss):
                    best = min(best, float(loss))
                calls.append(int(step))
                losses.append(best)
        spent += last
        if trial.feasible and trial.loss is not None:
            best = min(best, trial.loss)
        calls.append(spent)
        losses.append(best)
    return np.array(calls), np.array(losses, dtype=float)
