"""Estimates of a log that a study makes again only after new outcomes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement

if TYPE_CHECKING:
    from bo_invert.models.inverse.attainability import Attainability


class EstimateCache:
    """Estimate of a log, made again after new outcomes. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: object = None
        self._estimate: Attainability | None = None

    def get(
        self,
        statement: ProblemStatement,
        history: History,
        seed: int,
        *,
        noisy: bool,
        tolerance: float | None = None,
    ) -> Attainability:
        """Return the estimate of all outcomes of a log.

        Args:
            statement: Problem statement with a target.
            history: Log with at least two observations.
            seed: Seed of the study.
            noisy: Repeated calls at a point differ.
            tolerance: Tolerance of a target without one.
        """
        from bo_invert.models.inverse.attainability import Attainability

        outcomes = tuple((t.number, t.outcome) for t in history.trials if not t.state.open)
        key = outcomes, statement.domain.floor, statement.objective, seed, noisy, tolerance
        with self._lock:
            if self._estimate is None or self._key != key:
                with one_thread():
                    self._estimate = Attainability.of(
                        statement, history, seed, noisy=noisy, tolerance=tolerance
                    )
                self._key = key
            return self._estimate
