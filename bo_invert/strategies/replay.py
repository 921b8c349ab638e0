"""An optimiser that calls a function, as ask and tell: it is run anew on every ask, and answered from the log.

The optimiser must be deterministic given its answers. It is run until it wants an answer that the log does not hold;
what it wants then is what to evaluate next. Nothing has to be kept between asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from bo_invert.history import History
from bo_invert.types import Array, Query, Trial

Answer = TypeVar("Answer")


class _Missing(Exception):
    """Carries the points out of the optimiser's stack."""

    def __init__(self, points: list[Array]) -> None:
        super().__init__(f"{len(points)} points have no answer yet")
        self.points = points


def key(point: Array) -> bytes:
    """What makes two points the same: every bit of them."""
    return np.ascontiguousarray(point, dtype=np.float64).tobytes()


def replay(
    run: Callable[[Callable[[Sequence[Array]], list[Answer]]], object],
    answers: Mapping[bytes, Answer],
) -> list[Array]:
    """Run an optimiser on known answers.

    Args:
        run: takes a function from points, each ``(d,)``, to their answers, and calls it as often as it likes. Points
            passed together (a finite-difference stencil, a generation) can be evaluated side by side.
        answers: what is known, by ``key``.

    Returns:
        The points it asked for and cannot go on without, each once; none if it came to its end.
    """

    def evaluate(points: Sequence[Array]) -> list[Answer]:
        missing = {key(point): point for point in points if key(point) not in answers}
        if missing:
            raise _Missing(list(missing.values()))
        return [answers[key(point)] for point in points]

    try:
        run(evaluate)
    except _Missing as stop:
        return stop.points
    return []


def launch(trials: Sequence[Trial], origin: str, start: int) -> Trial | None:
    """The given trial that a restarting method begins its ``start``-th run from; None for a fresh draw.

    It is the best of the log, if another method or the user found it and no run began there yet. Queries of the
    method say so in their ``meta``, as ``{"start": number of the run, "from": number of that trial or None}``: what
    becomes known later does not change where a run began.
    """
    begun = {
        t.query.meta["start"]: t.query.meta["from"] for t in reversed(trials) if t.origin == origin
    }
    if start in begun:
        return next((trial for trial in trials if trial.number == begun[start]), None)
    ranking = History(trials).ranking
    if not ranking or ranking[0].origin == origin or ranking[0].number in begun.values():
        return None
    return ranking[0]


Evaluate = Callable[[Sequence[Array]], list[Answer]]
"""The answers at points that can be evaluated side by side."""
Losses = Evaluate[float]

#: No loss is worse than a broken constraint, and nothing is worse than no outputs. Fixed, so that what is told later
#: never changes what an optimiser saw; finite, so that differences and their squares stay numbers.
_BROKEN = 1e30
_BARREN = 1e60
#: Runs in a row that ask for nothing new, before the domain counts as exhausted.
_IDLE = 3


def penalised(trials: Sequence[Trial]) -> dict[bytes, float]:
    """One finite number for every point that is not open, by ``key``; where a point was told twice, the first."""
    known: dict[bytes, float] = {}
    for trial in trials:
        if not trial.state.open:
            known.setdefault(key(trial.point), _penalised(trial))
    return known


def _penalised(trial: Trial) -> float:
    if trial.outcome is None or trial.loss is None or not np.isfinite(trial.loss):
        return _BARREN
    violation = max(trial.outcome.violation, 0.0)
    if violation > 0.0:
        return min(_BROKEN * (1.0 + violation), _BARREN)
    return min(trial.loss, _BROKEN)


def next_queries(
    origin: str,
    trials: Sequence[Trial],
    answers: Mapping[bytes, Answer],
    count: int,
    run: Callable[[int, Array | None, Evaluate[Answer]], object],
) -> tuple[Query, ...]:
    """What the current run of an optimiser cannot go on without, at most ``count`` queries.

    Args:
        origin: name of the method.
        trials: the whole log.
        answers: what the optimiser is told of points that are not open, by ``key``; ``penalised`` for losses.
        count: how many are wanted.
        run: runs the optimiser to its end, given the number of the run, the point ``(d,)`` it should begin at (None
            for its own choice; see ``launch``), and the function from points to their answers. Deterministic.

    Returns:
        None while all of them are open, or when nothing new is left to ask.
    """
    open_points = {key(trial.query.point) for trial in trials if trial.state.open}
    begun = {trial.query.meta["start"] for trial in trials if trial.origin == origin}
    start = idle = 0
    while idle < _IDLE:
        given = launch(trials, origin, start)
        missing = replay(_run(run, start, None if given is None else given.point), answers)
        if missing:
            meta = {"start": start, "from": None if given is None else given.number}
            fresh = [point for point in missing if key(point) not in open_points]
            return tuple(Query(point, origin=origin, meta=meta) for point in fresh[:count])
        idle = 0 if start in begun else idle + 1
        start += 1
    return ()


def _run(
    run: Callable[[int, Array | None, Evaluate[Answer]], object], start: int, given: Array | None
) -> Callable[[Evaluate[Answer]], object]:
    return lambda evaluate: run(start, given, evaluate)
