"""SciPy's least squares from many starts: the floor under every method for targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.objectives import Target
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Evaluate, key, next_queries
from bo_invert.strategies.requirements import require_residuals
from bo_invert.types import Array, Trial

Residuals = Evaluate[Array | None]

#: A residual beyond this is a penalty and no measurement. Squares of those below, and of their slopes, stay finite.
_PENALTY = 1e30


@dataclass(frozen=True)
class SciPyLeastSquares(Strategy):
    """``scipy.optimize.least_squares`` as it comes (Branch et al. 1999), replayed from the log, restarted when it ends.

    Settings are SciPy's: method ``"trf"``, its own two-point differences, its tolerances, bounds. Every difference is a
    query and is billed; those of one Jacobian are asked for together. There is no model. Run k begins at point k of a
    scrambled Sobol sequence, or at the best trial that a user or another method gave. Broken outcome constraints count
    as residuals. A step without an answer is a bad step to SciPy, which tries a shorter one; a difference without an
    answer has slope 0; where the first point of a run has none, the next run begins.

    Args:
        diff_step: SciPy's relative step of the differences; default SciPy's, about 1.5e-8, too small for an oracle that
            computes in single precision.
    """

    diff_step: float | None = None
    name = "scipy_least_squares"

    def __post_init__(self) -> None:
        if self.diff_step is not None and not 0 < self.diff_step < 0.5:
            raise InvalidInputError(
                f"scipy_least_squares: diff_step lies in (0, 0.5), got {self.diff_step}"
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
    """One run to its end.

    Args:
        domain: where.
        first: the point it begins at, shape ``(d,)``; moved between the bounds if it lies outside.
        diff_step: SciPy's.
        residuals: of one point, or of all points of a Jacobian; None where there are none.
    """
    from scipy.optimize import least_squares

    lower, upper = domain.bounds
    here: Array | None = None  # of the last step, which is where SciPy takes the differences

    def step(x: Array) -> Array:
        nonlocal here
        r = residuals([domain.project(x)])[0]
        if r is None and here is None:
            raise _Barren
        here = np.full_like(here, np.nan) if r is None else r
        return here

    def differences(_: Callable[[Array], Array], points: Iterable[Array]) -> list[Array | None]:
        return [here if r is None else r for r in residuals([domain.project(x) for x in points])]

    try:
        least_squares(
            step,
            first.clip(lower, upper),
            bounds=(lower, upper),
            diff_step=diff_step,
            workers=differences,
        )
    except _Barren:
        return


class _Barren(Exception):
    """The first point of a run gave no residuals."""


def _answers(statement: ProblemStatement, trials: Sequence[Trial]) -> dict[bytes, Array | None]:
    """Residuals of every point that is not open, by ``key``; where a point was told twice, the first."""
    objective = statement.objective
    assert isinstance(objective, Target)
    answers: dict[bytes, Array | None] = {}
    for trial in trials:
        if trial.state.open:
            continue
        r = None
        if trial.y is not None:
            broken = [
                max(float(constraint.excess(trial.y)), 0.0) for constraint in statement.constraints
            ]
            r = np.append(objective.residuals(trial.y), broken)
        answers.setdefault(
            key(trial.point), r if r is not None and (np.abs(r) < _PENALTY).all() else None
        )
    return answers
