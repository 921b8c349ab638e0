"""Rows of a table that the log holds already."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from bo_invert.types import Array, Outcome, State, Trial

_DECIMALS = 8
"""Digits of coordinates by which equal designs are found. Engineering choice: rounding errors of
tables are below 1e-12 of a range."""


class RecordedRows:
    """Trials of a log by design, each of which stands for one row.

    Args:
        trials: Trials of the log.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._at: dict[bytes, list[Trial]] = defaultdict(list)
        self._count = Counter(_key(trial.point) for trial in trials)
        self._rows = Counter[tuple[object, ...]]()
        for trial in trials:
            if trial.state is not State.CANCELLED:
                self._at[_key(trial.point)].append(trial)

    def recorded(self, point: Array, outcome: Outcome) -> Trial | None:
        """Return a trial with this outcome, now or before an amendment."""
        for trial in self._at[_key(point)]:
            versions = [trial.outcome, *(one.before for one in trial.amendments)]
            agrees = all(trial.extra.get(k, v) == v for k, v in outcome.extra.items())
            if agrees and any(_equal(one, outcome) for one in versions):
                return self._use(trial, point)
        return None

    def waiting(self, point: Array) -> Trial | None:
        """Return an open trial that no named worker evaluates."""
        for trial in self._at[_key(point)]:
            if trial.state.open and not (trial.attempts and trial.attempts[-1].worker):
                return self._use(trial, point)
        return None

    def number(self, point: Array, outcome: Outcome | None) -> int:
        """Count the rows of this content so far, or the trials of a design without outputs.

        Equal rows of one table have different numbers, and so does a row after its former trial
        was cancelled.
        """
        y = None if outcome is None or outcome.y is None else outcome.y.tobytes()
        content = (_key(point), outcome is not None and outcome.state, y)
        self._rows[content] += 1
        return self._rows[content] + (self._count[_key(point)] if outcome is None else 0)

    def any(self, point: Array) -> Trial | None:
        """Return a trial in any state, an open one first."""
        found = sorted(self._at[_key(point)], key=lambda trial: not trial.state.open)
        return self._use(found[0], point) if found else None

    def _use(self, trial: Trial, point: Array) -> Trial:
        self._at[_key(point)].remove(trial)
        return trial


def _key(point: Array) -> bytes:
    """Return a name that points have in common if they differ by rounding only."""
    return (np.round(point, _DECIMALS) + 0.0).tobytes()


def _equal(known: Outcome | None, other: Outcome) -> bool:
    if known is None or known.state is not other.state:
        return False
    if known.y is None or other.y is None:
        return known.y is other.y
    return np.array_equal(known.y, other.y)
