"""How far a trust region reaches and when it is given up, read off the log. numpy only."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bo_invert.history import History
from bo_invert.search_domain import Domain
from bo_invert.types import Array, State, Trial

_ENDED = (State.COMPLETED, State.FAILED, State.INFEASIBLE)
INITIAL_LENGTH, MIN_LENGTH, MAX_LENGTH = 0.8, 2.0**-7, 1.6
_MIN_GAIN = 1e-3
"""An improvement must be this share of what lies between the best loss and the median of the latest."""


class TrustRegionState:
    """The state of the current region after all trials.

    A trial belongs to the region that its query's ``meta["region"]`` names; the trials of one ask are judged together
    once they have ended. They succeed when they improve on the best point of the region, and a violated constraint
    counts before any loss. After ``successes`` in a row the region doubles; after as many failed calls in a row as
    there are dimensions, at least 4, it halves (Eriksson et al., NeurIPS 2019). A mark of a later region ends the one
    before, whatever its length: marks are facts, lengths are conclusions.

    Attributes:
        number: of the region, from 0.
        length: in units of the unit cube.
        best: position among the completed trials of the best eligible one; None where none is.
        eligible: which completed trials may be its centre, shape ``(n,)``: none near a centre that was left.
        left: centres that were left, points of shape ``(d,)``.
        afresh: whether the region begins with a design of its own.
        designed: how many points of that design were asked for.
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
        self._far = domain.typical_distance / 2.0
        self._successes, self._patience = successes, max(4, domain.dim)
        self._length = length
        self.number, self.length = 0, length
        self.best: int | None = None
        self.eligible: NDArray[np.bool_] = np.ones(len(self._losses), dtype=bool)
        self.abandoned: list[Array] = []
        self.with_design, self.design_points = False, 0
        self._wins = self._failures = self._completed = 0
        self._recent: deque[float] = deque(maxlen=20)
        self._fold(history.trials, origin)

    def restart(self, number: int, with_design: bool) -> None:
        """Give up the region for the one of that number, around the best of what is known elsewhere.

        Args:
            number: of the next region.
            afresh: it begins with a design of its own; otherwise it lies around the best point known.
        """
        if self.best is not None:
            self.abandoned.append(self._points[self.best])
        self.number, self.length, self.with_design, self.design_points = (
            number,
            self._length,
            with_design,
            0,
        )
        self._wins = self._failures = 0
        self._recent.clear()
        self.eligible = distant(self._points, self.abandoned if with_design else (), self._far)
        rows = np.flatnonzero(self.eligible[: self._completed])
        order = np.lexsort((self._losses[rows], self._violations[rows]))
        self.best = int(rows[order[0]]) if len(rows) else None

    def _fold(self, trials: Sequence[Trial], origin: str) -> None:
        group: list[Trial] = []
        rows: list[int] = []
        before = self.best
        for trial in trials:
            meta = trial.query.meta if trial.query.origin == origin else {}
            mark = meta.get("region")
            if group and (mark is None or "design" in meta or trial.ask != group[0].ask):
                self._judge(group, rows, before)
                group, rows = [], []
            if mark is not None and mark > self.number:
                self.restart(mark, "design" in meta)
            own = mark is not None and mark == self.number
            if own and "design" in meta:
                self.design_points += trial.state is not State.CANCELLED
            elif own:
                before = before if group else self.best
                group.append(trial)
            if trial.state is State.COMPLETED:
                row, self._completed = self._completed, self._completed + 1
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
        ended = sum(trial.state in _ENDED for trial in group)
        if not ended:
            return
        if rows and self._improved(min(rows, key=self._rank), before):
            self._wins, self._failures = self._wins + 1, 0
        else:
            self._wins, self._failures = 0, self._failures + ended
        if self._wins >= self._successes:
            self.length, self._wins = min(2.0 * self.length, MAX_LENGTH), 0
        elif self._failures >= self._patience:
            self.length, self._failures = self.length / 2.0, 0

    def _improved(self, row: int, before: int | None) -> bool:
        if before is None:
            return True
        (violation, loss), (violated, lowest) = self._rank(row), self._rank(before)
        if violated > 0.0:
            return violation < (1.0 - _MIN_GAIN) * violated
        usual = float(np.median(self._recent)) - lowest
        return violation <= 0.0 and loss < lowest - _MIN_GAIN * max(usual, 0.0)

    def _rank(self, row: int) -> tuple[float, float]:
        return float(self._violations[row]), float(self._losses[row])


def distant(points: Array, centres: Sequence[Array], far: float) -> NDArray[np.bool_]:
    """Which points ``(n, d)`` keep that distance from all centres, shape ``(n,)``."""
    mask = np.ones(len(points), dtype=bool)
    for centre in centres:
        mask &= np.linalg.norm(points - centre, axis=1) >= far
    return mask
