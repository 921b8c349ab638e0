"""Replay of optimisers from the log: a program that calls a function becomes ask and tell.

Every ask runs the optimiser again. Its evaluations are answered from the log until one is
missing; the missing points are the next queries. The optimiser must be deterministic given the
answers. No state is stored between asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.types import Array, Query, Trial

Answer = TypeVar("Answer")
Optimizer = TypeVar("Optimizer")

Evaluate = Callable[[Sequence[Array]], list[Answer]]
"""Function from points that may be evaluated in parallel to their answers."""
Losses = Evaluate[float]

# Engineering choice: losses of infeasible points (violated constraints) and of failed trials, in
# units of the loss. They are fixed, because a value that depended on later trials would change
# the replay. They are finite, so that their differences and squares remain finite.
_INFEASIBLE, _FAILED = 1e30, 1e60
# Engineering choice: consecutive runs without new points after which the domain is exhausted.
_IDLE_RUNS = 3
# Engineering choice: projections that are stored for one domain, a few hundred bytes each.
_PROJECTIONS = 20_000


class _Missing(Exception):
    """Interruption of an optimiser; the arguments are the points without answers."""


def key(point: Array) -> bytes:
    """Return the bytes of a point; equal keys mean equal points."""
    return np.ascontiguousarray(point, dtype=np.float64).tobytes()


_Projections = dict[tuple[tuple[int, ...], bytes], Array]
_projections: WeakKeyDictionary[Domain, _Projections] = WeakKeyDictionary()


def projected(domain: Domain, points: Array) -> Array:
    """Return the valid points nearest to those of an optimiser, ``(d,)`` or ``(n, d)``.

    A replay projects all earlier points again, and a projection onto input constraints takes most
    of its time. Projections of a domain are therefore stored; they are functions of the points.
    """
    known = _projections.setdefault(domain, {})
    points = np.asarray(points, dtype=np.float64)
    name = points.shape, key(points)
    found = known.get(name)
    if found is None:
        if len(known) >= _PROJECTIONS:
            known.clear()
        found = known[name] = domain.project(points)
    return found.copy()


def replay(
    run: Callable[[Evaluate[Answer]], object], answers: Mapping[bytes, Answer]
) -> list[Array]:
    """Run an optimiser on known answers.

    Args:
        run: function that receives ``evaluate``, a function from points ``(d,)`` to answers.
            Points of one call (a finite-difference stencil, a generation) are independent.
        answers: known answers by ``key``.

    Returns:
        The different points of the first call with missing answers; none if the run ended.
    """

    def evaluate(points: Sequence[Array]) -> list[Answer]:
        missing = {key(point): point for point in points if key(point) not in answers}
        if missing:
            # A deterministic optimiser requests the same points when it runs again.
            raise _Missing(*missing.values())
        return [answers[key(point)] for point in points]

    try:
        run(evaluate)
    except _Missing as stop:
        return list(stop.args)
    return []


def start_trial(trials: Sequence[Trial], origin: str, run: int) -> Trial | None:
    """Return the trial at which run number ``run`` of a strategy begins; None for its own start.

    A run begins at the best trial of the log if it is of another origin and no run has begun
    there. Queries record it in their ``meta`` as ``{"start": run, "from": trial number}``, so
    later trials do not move the start of a run.
    """
    starts = {
        t.query.meta["start"]: t.query.meta["from"] for t in reversed(trials) if t.origin == origin
    }
    if run in starts:
        return next((trial for trial in trials if trial.number == starts[run]), None)
    # Own points are no starts: the run that found them has converged there.
    ranking = History(trials).ranking
    if not ranking or ranking[0].origin == origin or ranking[0].number in starts.values():
        return None
    return ranking[0]


def penalised(trials: Sequence[Trial]) -> dict[bytes, float]:
    """Return one finite loss per point that is not pending, by ``key``; the first of repeats."""
    return {key(t.point): _penalised(t) for t in reversed(trials) if not t.state.open}


def _penalised(trial: Trial) -> float:
    if trial.outcome is None or trial.loss is None or not np.isfinite(trial.loss):
        return _FAILED
    violation = max(trial.outcome.violation, 0.0)
    if violation > 0.0:
        return min(_INFEASIBLE * (1.0 + violation), _FAILED)
    return min(trial.loss, _INFEASIBLE)


def next_queries(
    origin: str,
    trials: Sequence[Trial],
    answers: Mapping[bytes, Answer],
    count: int,
    run: Callable[[int, Array | None, Evaluate[Answer]], object],
) -> tuple[Query, ...]:
    """Return the queries that the current run of a restarted optimiser waits for.

    Args:
        origin: name of the strategy.
        trials: all trials.
        answers: answers at points that are not pending, by ``key``; ``penalised`` for losses.
        count: largest number of queries.
        run: deterministic function that runs the optimiser to its end. Its arguments are the
            number of the run, the point ``(d,)`` of its start (None for its own choice, see
            ``start_trial``) and ``evaluate``.

    Returns:
        No query while all points are pending, or when no new point is left.
    """
    pending = {key(trial.query.point) for trial in trials if trial.state.open}
    begun = {trial.query.meta["start"] for trial in trials if trial.origin == origin}
    number = idle = 0
    while idle < _IDLE_RUNS:
        given = start_trial(trials, origin, number)
        start = None if given is None else given.point
        missing = replay(partial(run, number, start), answers)
        if missing:
            meta = {"start": number, "from": None if given is None else given.number}
            fresh = [point for point in missing if key(point) not in pending]
            return tuple(Query(point, origin=origin, meta=meta) for point in fresh[:count])
        # A run without queries in the log ended on known answers, so it found no new point.
        idle = 0 if number in begun else idle + 1
        number += 1
    return ()


class ReplayCache(Generic[Optimizer]):
    """Bounded cache of replayed optimisers, which saves the replay of the whole log at each ask.

    An entry is removed while it is in use, so threads never share an optimiser.

    Args:
        size: largest number of studies in the cache.
    """

    def __init__(self, size: int = 8) -> None:
        self._entries: dict[object, Optimizer] = {}
        self._lock = threading.Lock()
        self._size = size

    def take(self, study: object) -> Optimizer | None:
        """Remove and return the optimiser of a study; None if there is none."""
        with self._lock:
            return self._entries.pop(study, None)

    def put(self, study: object, optimizer: Optimizer) -> None:
        """Store the optimiser of a study; the least recently stored ones are dropped."""
        with self._lock:
            self._entries[study] = optimizer
            while len(self._entries) > self._size:
                self._entries.pop(next(iter(self._entries)))
