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

    A table stays as it was when the study is corrected. A trial is therefore found at its present
    design and at those before its amendments.

    Args:
        trials: Trials of the log.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self._at: dict[bytes, list[Trial]] = defaultdict(list)
        self._count = Counter(_key(trial.point) for trial in trials)
        self._rows = Counter[tuple[object, ...]]()
        for trial in trials:
            if trial.state is not State.CANCELLED:
                for key in _keys(trial):
                    self._at[key].append(trial)

    def recorded(self, point: Array, outcome: Outcome) -> Trial | None:
        """Return a trial with this outcome, now or before an amendment."""
        for trial in self._free(point):
            versions = _versions(trial)
            agrees = all(
                value in (known := [one.extra[name] for one in versions if name in one.extra])
                or not known
                for name, value in outcome.extra.items()
            )
            if agrees and any(_equal(one, outcome) for one in versions):
                return self._use(trial)
        return None

    def waiting(self, point: Array) -> Trial | None:
        """Return an open trial that no named worker evaluates."""
        for trial in self._free(point):
            if trial.state.open and not (trial.attempts and trial.attempts[-1].worker):
                return self._use(trial)
        return None

    def open(self, point: Array) -> Trial | None:
        """Return an open trial of a design, which a row without outputs repeats."""
        return next((trial for trial in self._free(point) if trial.state.open), None)

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
        found = sorted(self._free(point), key=lambda trial: not trial.state.open)
        return self._use(found[0]) if found else None

    def _free(self, point: Array) -> Sequence[Trial]:
        """Return the trials at a design that stand for no row yet."""
        return self._at.get(_key(point), ())

    def _use(self, trial: Trial) -> Trial:
        for key in _keys(trial):
            self._at[key].remove(trial)
        return trial


def _versions(trial: Trial) -> list[Outcome]:
    """Return the outcome of a trial and those before its amendments."""
    known = [trial.outcome, *(one.before for one in trial.amendments)]
    return [one for one in known if one is not None]


def _keys(trial: Trial) -> set[bytes]:
    """Return the names of the designs of a trial: now, before amendments, and in its table."""
    points = [trial.point]
    points += [trial.query.point if one.point is None else one.point for one in _versions(trial)]
    points += [trial.query.point] if trial.query.origin == "data" else []
    return {_key(point) for point in points}


def _key(point: Array) -> bytes:
    """Return a name that points have in common if they differ by rounding only."""
    return (np.round(point, _DECIMALS) + 0.0).tobytes()


def _equal(known: Outcome, other: Outcome) -> bool:
    if known.state is not other.state:
        return False
    if known.y is None or other.y is None:
        return known.y is other.y
    return np.array_equal(known.y, other.y)
