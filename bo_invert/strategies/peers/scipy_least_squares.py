"""Multi-start least squares of SciPy, the baseline for targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.objectives import ProblemStatement, Target
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Evaluate, key, next_queries
from bo_invert.strategies.requirements import require_residuals
from bo_invert.types import Array, Trial

Residuals = Evaluate[Array | None]

# Engineering choice: residuals beyond this, in units of the scale, count as failures. Squares of
# smaller residuals and of their differences remain finite.
_MAX_RESIDUAL = 1e30


@dataclass(frozen=True)
class SciPyLeastSquares(Strategy):
    """``scipy.optimize.least_squares`` (Branch et al. 1999), replayed from the log.

    It restarts at its end. Settings are the defaults of SciPy: method ``"trf"``, two-point
    differences, bounds. Each difference is a query, and those of one Jacobian are independent.
    Run k begins at point k of a scrambled Sobol sequence, or at the best observation of the user
    or another strategy. Violations of outcome constraints are additional residuals.

    After a failed step, SciPy tries a shorter one. A failed difference counts as slope 0. If the
    first point of a run fails, the next run begins.

    Args:
        diff_step: relative step of the differences; default of SciPy, about 1.5e-8, which is too
            small for an oracle in single precision.
    """

    diff_step: float | None = None
    name = "scipy_least_squares"

    def __post_init__(self) -> None:
        if self.diff_step is not None and not 0 < self.diff_step < 0.5:
            raise InvalidInputError(
                f"scipy_least_squares: diff_step must be in (0, 0.5), got {self.diff_step}"
            )

    def check(self, statement: ProblemStatement) -> None:
        require_residuals(self.name, statement, "'dual_annealing' or 'cmaes'")

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        self.check(statement)
        domain = statement.domain

        def run(start: int, given: Array | None, residuals: Residuals) -> None:
            first = domain.sobol(request.stream(0), 1, skip=start)[0] if given is None else given
            descend(domain, first, self.diff_step, residuals)

        return Proposal(
            next_queries(self.name, trials, _answers(statement, trials), request.count, run)
        )


def descend(domain: Domain, first: Array, diff_step: float | None, residuals: Residuals) -> None:
    """Run least squares to its end.

    Args:
        domain: search domain.
        first: start ``(d,)``, clipped to the bounds.
        diff_step: relative step of the differences.
        residuals: function from points to residuals ``(k,)``; None for a failed point.
    """
    from scipy.optimize import least_squares

    lower, upper = domain.bounds
    here: Array | None = None  # residuals of the last step, at which SciPy takes the differences

    def step(x: Array) -> Array:
        nonlocal here
        r = residuals([domain.project(x)])[0]
        if r is None and here is None:
            raise _FirstPointFailed
        # NaN makes SciPy reject the step and shrink its trust region.
        here = np.full_like(here, np.nan) if r is None else r
        return here

    def differences(_: Callable[[Array], Array], points: Iterable[Array]) -> list[Array | None]:
        # Equal residuals give the slope 0, so steps ignore a coordinate whose difference failed.
        return [here if r is None else r for r in residuals([domain.project(x) for x in points])]

    try:
        least_squares(
            step,
            first.clip(lower, upper),
            bounds=(lower, upper),
            diff_step=diff_step,
            workers=differences,
        )
    except _FirstPointFailed:
        return


class _FirstPointFailed(Exception):
    """Failure at the first point of a run."""


def _answers(statement: ProblemStatement, trials: Sequence[Trial]) -> dict[bytes, Array | None]:
    """Return residuals of each point that is not pending, by ``key``; the first of repeats."""
    objective = statement.objective
    assert isinstance(objective, Target)
    answers: dict[bytes, Array | None] = {}
    for trial in trials:
        if trial.state.open:
            continue
        r = None
        if trial.y is not None:
            excesses = [
                max(float(constraint.excess(trial.y)), 0.0) for constraint in statement.constraints
            ]
            r = np.append(objective.residuals(trial.y), excesses)
        answers.setdefault(
            key(trial.point), r if r is not None and (np.abs(r) < _MAX_RESIDUAL).all() else None
        )
    return answers
