"""State of a trust region (TuRBO), computed from the log; numpy only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.types import Array, Mask, State, Trial

_ENDED = (State.COMPLETED, State.FAILED, State.INFEASIBLE)
INITIAL_LENGTH, MIN_LENGTH, MAX_LENGTH = 0.8, 2.0**-7, 1.6
"""Lengths of a region in units of the unit cube (Eriksson et al., NeurIPS 2019)."""
_MIN_GAIN = 1e-3
"""Least gain of a success, as a share of the gap between median and best recent loss (Eriksson et
al., NeurIPS 2019, with another scale)."""


class TrustRegionState:
    """State of the current trust region after all trials.

    The ``meta["region"]`` of a query names its region. The trials of one ask are judged together
    after they end. They succeed if they improve the best point of the region; constraint violations
    rank before losses. ``successes`` in a row double the length. As many failed calls in a row as
    parameters, at least 4, halve it (Eriksson et al., NeurIPS 2019). A query of a later region ends
    the current one.

    Args:
        history: Log.
        domain: Search domain.
        origin: Name of the strategy.
        successes: Successes in a row before the region grows.
        length: Initial length in units of the unit cube.

    Attributes:
        number: Number of the region, from 0.
        length: Length in units of the unit cube.
        best: Position of the best eligible observation; None without one.
        eligible: Mask of observations that may be the centre, shape ``(n,)``.
        abandoned: Centres of former regions, points ``(d,)``.
        with_design: The region begins with an initial design.
        design_points: Number of queries of that design.
    """

    def __init__(
        self,
        history: History,
        domain: Domain,
        origin: str,
        successes: int = 3,
        length: float = INITIAL_LENGTH,
    ) -> None:
        self._points, self._losses = history.points, history.losses
        self._violations = np.maximum(history.violations, 0.0)
        self._separation = domain.typical_distance / 2.0
        self._successes, self._patience = successes, max(4, domain.parameter_count)
        self._length = length
        self.number, self.length = 0, length
        self.best: int | None = None
        self.eligible: Mask = np.ones(len(self._losses), dtype=bool)
        self.abandoned: list[Array] = []
        self.with_design, self.design_points = False, 0
        self._wins = self._failures = self._completed = 0
        self._recent: deque[float] = deque(maxlen=20)
        self._fold(history.trials, origin)

    def restart(self, number: int, with_design: bool) -> None:
        """Abandon the region for another one.

        Args:
            number: Number of the next region.
            with_design: Begin with an initial design, away from former centres; otherwise continue
                at the best observation.
        """
        if self.best is not None:
            self.abandoned.append(self._points[self.best])
        self.number, self.length = number, self._length
        self.with_design, self.design_points = with_design, 0
        self._wins = self._failures = 0
        self._recent.clear()
        centres = self.abandoned if with_design else ()
        self.eligible = distant(self._points, centres, self._separation)
        # The best eligible observation so far becomes the centre of the next region.
        rows = np.flatnonzero(self.eligible[: self._completed])
        self.best = min(rows.tolist(), key=self._rank, default=None)

    def _fold(self, trials: Sequence[Trial], origin: str) -> None:
        """Apply all trials in order."""
        group: list[Trial] = []
        rows: list[int] = []
        before = self.best
        for trial in trials:
            meta = trial.query.meta if trial.query.origin == origin else {}
            region = meta.get("region")
            # The next ask of this strategy, or another origin, closes the group.
            if group and (region is None or "design" in meta or trial.ask != group[0].ask):
                self._judge(group, rows, before)
                group, rows = [], []
            if region is not None and region > self.number:
                self.restart(region, "design" in meta)
            own = region is not None and region == self.number
            if own and "design" in meta:
                self.design_points += trial.state is not State.CANCELLED
            elif own:
                before = before if group else self.best
                group.append(trial)
            if trial.state is State.COMPLETED:
                row, self._completed = self._completed, self._completed + 1
                # Points of the region itself may be its centre, even near a former one.
                self.eligible[row] |= own
                self._recent.append(float(self._losses[row]))
                if own and "design" not in meta:
                    rows.append(row)
                if self.eligible[row] and (
                    self.best is None or self._rank(row) < self._rank(self.best)
                ):
                    self.best = row
        if group:
            self._judge(group, rows, before)

    def _judge(self, group: Sequence[Trial], rows: Sequence[int], before: int | None) -> None:
        """Count the trials of one ask as a success or as failures, and adapt the length."""
        # Pending and cancelled trials count neither as success nor as failure.
        ended = sum(trial.state in _ENDED for trial in group)
        if not ended:
            return
        won = bool(rows) and self._improved(min(rows, key=self._rank), before)
        self._wins, self._failures = (self._wins + 1, 0) if won else (0, self._failures + ended)
        if self._wins >= self._successes:
            self.length, self._wins = min(2.0 * self.length, MAX_LENGTH), 0
        elif self._failures >= self._patience:
            self.length, self._failures = self.length / 2.0, 0

    def _improved(self, row: int, before: int | None) -> bool:
        """Return whether an observation improves on the former best one by the least gain."""
        if before is None:
            return True
        (violation, loss), (violated, lowest) = self._rank(row), self._rank(before)
        # Without a feasible point the violation must decrease, by a share of itself.
        if violated > 0.0:
            return violation < (1.0 - _MIN_GAIN) * violated
        usual = float(np.median(self._recent)) - lowest
        return violation <= 0.0 and loss < lowest - _MIN_GAIN * max(usual, 0.0)

    def _rank(self, row: int) -> tuple[float, float]:
        return float(self._violations[row]), float(self._losses[row])


def distant(points: Array, centres: Sequence[Array], radius: float) -> Mask:
    """Return a mask ``(n,)`` of points ``(n, d)`` at least ``radius`` away from all centres."""
    far = [np.linalg.norm(points - centre, axis=1) >= radius for centre in centres]
    return np.asarray(np.array(far).reshape(len(centres), len(points)).all(0))
