"""Few calls to a target, from observations made for other targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import KERNELS
from bo_invert.models.inverse import fit as fits, likely_points as likely
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, option
from bo_invert.strategies.phases import SurrogateStrategy, with_hits
from bo_invert.types import Array


@dataclass(frozen=True)
class Retarget(SurrogateStrategy):
    """Search for a target with as few calls as possible, from a log that covers the outputs.

    Gaussian processes of the outputs are fitted to all observations. Each query is the point with
    the highest probability to meet the target and the outcome constraints,

        ``a(x) = prod_j P(l_j <= y_j(x) <= u_j)``.

    Levenberg-Marquardt steps on the posterior means lead from many starts to roots, among which
    those with certain outputs are preferred. The means pass through the observations of earlier
    queries. So each next query aims at y* + (predicted - observed), and the Jacobian of the model
    receives secant updates (Broyden 1965). No finite differences are evaluated. In a batch, the
    errors of the points are little correlated.

    ``auto`` uses it in studies that begin with observations, such as those of ``study.retarget``,
    while its predictions hold.

    Args:
        initial: size of the initial design; default ``d / 2 + 2``, between 4 and 8.
        tolerance: tolerance of a target without one, in the units of the outputs; default 1 % of
            the least standard deviation of the observed outputs.
        kernel: kernel, as for ``gp``.
        device: torch device of the surrogate.
    """

    name = "retarget"
    models_outside = True
    initial: int | None = option(None, ge=2)
    tolerance: float | None = option(None, gt=0)
    kernel: str = option("auto", among=KERNELS)
    device: str = "cpu"

    def check(self, statement: ProblemStatement) -> None:
        if not isinstance(statement.objective, Target):
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs a target, and the objective of problem "
                f"{statement.name!r} is {statement.objective}. Use Target(value, tolerance=...), "
                "or 'auto'"
            )

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        options = fits.TargetOptions(
            self.tolerance, kernel=self.kernel, device=self.device, averaged=True
        )
        fit = fits.fit_target_model(statement, history, options, request.memo)
        duplicates = duplicate_filter(statement, history, fit.subset)
        search = likely.likely_points(fit, self._queried(history), history, duplicates)
        points = search.choose(request.count, request.rng())
        hits = search.probabilities(points)
        queries = self._queries(statement, history, fit.fitted, points)
        return Proposal(with_hits(queries, hits), fit.memo)

    def _queried(self, history: History) -> Array:
        """Return the observed points ``(p, d)`` of earlier queries of this strategy."""
        own = [trial.origin == self.name for trial in history.completed]
        return np.asarray(history.points[np.array(own, dtype=bool)])
