"""Trials as arrays, and the ledger: number and cost of the calls of a study. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from bo_invert.types import Array, Attempt, Cost as Cost, Indices, State, Trial


@dataclass(frozen=True, slots=True)
class Ledger:
    """Costs of a study over all ended attempts: failed, lost, retried and descending ones too.

    Args:
        values: oracle values.
        gradients: oracle gradients.
        attempts: ended attempts.
        failed: failed attempts.
        infeasible: attempts at designs that cannot be evaluated.
        lost: attempts whose worker ended; billed at the largest cost of their query.
        running: attempts without an end, not included in the other numbers.
        seconds: wall-clock time in the oracle and the decoder.
        asking: wall-clock time in the strategy.
        asks: number of asks.
        reused: attempts without a call, answered from the log or a cache.
    """

    values: int = 0
    gradients: int = 0
    attempts: int = 0
    failed: int = 0
    infeasible: int = 0
    lost: int = 0
    running: int = 0
    seconds: float = 0.0
    asking: float = 0.0
    asks: int = 0
    reused: int = 0

    @property
    def calls(self) -> int:
        """Values plus gradients."""
        return self.values + self.gradients

    @property
    def total_seconds(self) -> float:
        """Wall-clock time in the oracle, the decoder and the strategy."""
        return self.seconds + self.asking

    def to_json(self) -> dict[str, int | float]:
        """Return the fields and the calls."""
        return {"calls": self.calls, **asdict(self)}

    @classmethod
    def fields(cls) -> tuple[str, ...]:
        """Return the names of ``to_json``, in order."""
        return tuple(cls().to_json())

    @classmethod
    def counted(cls) -> list[str]:
        """Return the names of the fields that events count; ``running`` is a state."""
        return [name for name in cls.__slots__ if name != "running"]

    def __str__(self) -> str:
        kinds = ("gradients", "failed", "infeasible", "lost", "running", "reused")
        others = [f"{n} {kind}" for kind in kinds if (n := getattr(self, kind))]
        return ", ".join([f"{self.values} values", *others])


class History:
    """Immutable view of the trials of a log, in the order of their numbers.

    Shapes: n completed trials, p pending ones, f failed ones, d coordinates (0 in an empty log),
    m outputs.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = tuple(trials)

    @cached_property
    def completed(self) -> tuple[Trial, ...]:
        """Trials with outputs: the observations."""
        return tuple(t for t in self.trials if t.state is State.COMPLETED)

    @cached_property
    def pending(self) -> tuple[Trial, ...]:
        """Trials without an outcome yet: queued, running or lost."""
        return tuple(t for t in self.trials if t.state.open)

    @cached_property
    def failed(self) -> tuple[Trial, ...]:
        """Trials without outputs: failed or infeasible."""
        return tuple(t for t in self.trials if t.state in (State.FAILED, State.INFEASIBLE))

    @cached_property
    def points(self) -> Array:
        """Observed points, shape ``(n, d)``; the end of a descent, not its start."""
        return self._points(self.completed)

    @cached_property
    def y(self) -> Array:
        """Raw outputs, shape ``(n, m)``."""
        return np.array([t.y for t in self.completed]) if self.completed else np.empty((0, 0))

    @cached_property
    def losses(self) -> Array:
        """Losses, shape ``(n,)``; lower is better."""
        return np.array([t.loss for t in self.completed], dtype=float)

    @cached_property
    def violations(self) -> Array:
        """Violations of the outcome constraints, shape ``(n,)``; 0 if all hold.

        Observations outside the search domain have an infinite one: models use them, and no
        incumbent is among them.
        """
        return np.array(
            [
                np.inf if t.outside else t.outcome.violation if t.outcome else 0.0
                for t in self.completed
            ],
            dtype=float,
        )

    @cached_property
    def pending_points(self) -> Array:
        """Points of pending trials, shape ``(p, d)``."""
        return self._points(self.pending)

    @cached_property
    def failed_points(self) -> Array:
        """Points of failed trials, shape ``(f, d)``."""
        return self._points(self.failed)

    @cached_property
    def all_points(self) -> Array:
        """Points of all trials in any state, shape ``(trials, d)``."""
        return self._points(self.trials)

    @property
    def calls(self) -> int:
        """Calls of all attempts with an outcome, failures and retries included.

        A budget is compared with this number. Lost attempts are billed but not counted here:
        proposals must not depend on the moment at which a worker was killed.
        """
        return sum(
            a.cost.calls for t in self.trials for a in t.attempts if a.fate is not State.LOST
        )

    @property
    def committed(self) -> int:
        """Sum of ``calls`` and the largest possible cost of the pending trials."""
        return self.calls + sum(t.query.cost.calls for t in self.pending)

    @cached_property
    def order(self) -> Indices:
        """Positions of the completed trials, best first, shape ``(n,)``; see ``ranking``."""
        return np.lexsort((self.losses, np.maximum(self.violations, 0.0)))

    @cached_property
    def ranking(self) -> tuple[Trial, ...]:
        """Completed trials inside the domain: feasible ones by loss, others by violation."""
        return tuple(self.completed[i] for i in self.order if not self.completed[i].outside)

    @cached_property
    def ranked_points(self) -> Array:
        """Points of the ``ranking``, shape ``(r, d)``: starts of a search, inside the domain."""
        return self._points(self.ranking)

    @property
    def best(self) -> Trial | None:
        """Incumbent: the feasible trial with the lowest loss, None if there is none."""
        return self.ranking[0] if self.ranking and self.ranking[0].feasible else None

    @cached_property
    def groups(self) -> dict[bytes, list[int]]:
        """Positions of the completed trials of each point, by the bytes of the point."""
        groups: dict[bytes, list[int]] = {}
        for position, trial in enumerate(self.completed):
            groups.setdefault(trial.point.tobytes(), []).append(position)
        return groups

    @cached_property
    def noise_observed(self) -> bool:
        """True if repeated evaluations of one point differ beyond rounding.

        A network in single precision returns outputs that differ in the seventh digit between a
        batch and a single design. Differences below 1e-6 of an output are therefore no noise.
        """
        some = [self.y[group] for group in self.groups.values() if len(group) > 1]
        with np.errstate(over="ignore"):
            usual = 1e-5 * np.std(self.y, axis=0) if some else 0.0
        return any(bool((np.abs(y - y[0]) > usual + 1e-6 * np.abs(y[0])).any()) for y in some)

    def _points(self, trials: Sequence[Trial]) -> Array:
        d = len(self.trials[0].point) if self.trials else 0
        return np.array([t.point for t in trials], dtype=float).reshape(len(trials), d)


def best_so_far(trials: Sequence[Trial]) -> tuple[Array, Array]:
    """Compute the lowest feasible loss after each number of calls.

    Results follow the order of the log, because clocks of workers differ. Every attempt moves the
    curve along, lost and failed ones included. A descent with a trace improves call by call. An
    observation of the user counts from the moment at which it was added.

    Returns:
        calls, shape ``(k,)``, rising; losses, shape ``(k,)``, falling, infinite before the first
        feasible observation.
    """
    calls, losses = [0], [np.inf]
    for trial in sorted((t for t in trials if not t.state.open), key=result_order):
        if not trial.attempts:
            losses[-1] = min(losses[-1], _feasible_loss(trial))
            continue
        last = trial.attempts[-1].cost.calls
        spent = calls[-1] + trial.cost.calls - last
        trace = None if trial.outcome is None else trial.outcome.trace
        if trace is not None:
            # The calls of a descent (values and gradients) are spread evenly over its trace.
            calls += [spent + int((i + 1) * last / len(trace)) for i in range(len(trace))]
            losses += np.where(np.isfinite(trace) & trial.feasible, trace, np.inf).tolist()
        calls.append(spent + last)
        losses.append(_feasible_loss(trial))
    return np.array(calls), np.minimum.accumulate(losses)


def without_lost_attempts(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials without the attempts that were lost, such as those that Ctrl-C interrupted.

    Their calls are billed, but a run without the interruption has none of them.
    """
    return [
        trial.evolved(attempts=tuple(one for one in trial.attempts if one.fate is not State.LOST))
        if any(one.fate is State.LOST for one in trial.attempts)
        else trial
        for trial in trials
    ]


def result_order(result: Trial | Attempt) -> tuple[float, float, int]:
    """Return a key that sorts results by the log; those without a log by time and number."""
    if isinstance(result, Attempt):
        return result.position or 0, result.ended or 0.0, 0
    ended = result.attempts[-1].ended if result.attempts else None
    return result.position or 0, ended or 0.0, result.number


def _feasible_loss(trial: Trial) -> float:
    return trial.loss if trial.feasible and trial.loss is not None else np.inf
