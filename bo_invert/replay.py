"""An optimiser that calls a function, as ask and tell: it is run anew on every ask, and answered from the log.

The optimiser must be deterministic given its answers. It is run until it wants an answer that the log does not hold;
what it wants then is what to evaluate next. Nothing has to be kept between asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from bo_invert.history import History
from bo_invert.types import Array, Trial

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
    run: Callable[[Callable[[Sequence[Array]], list[Answer]]], object], answers: Mapping[bytes, Answer]
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
    begun = {t.query.meta["start"]: t.query.meta["from"] for t in reversed(trials) if t.origin == origin}
    if start in begun:
        return next((trial for trial in trials if trial.number == begun[start]), None)
    ranking = History(trials).ranking
    if not ranking or ranking[0].origin == origin or ranking[0].number in begun.values():
        return None
    return ranking[0]
