"""Global optimisers and least squares of SciPy, replayed from the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from bo_invert.domains.search_domain import Domain
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, Strategy, option
from bo_invert.strategies.replay import Evaluate, Losses, key, next_queries, penalised, projected
from bo_invert.strategies.requirements import require_residuals
from bo_invert.types import Array, Trial

# Members of the population: default of SciPy per coordinate, and the least number that its
# strategies can combine (https://docs.scipy.org/doc/scipy, differential_evolution); counts.
_MEMBERS, _LEAST = 15, 5
# Engineering choice: residuals beyond this, in units of the scale, count as failures. Squares of
# smaller residuals and of their differences remain finite.
_MAX_RESIDUAL = 1e30


@dataclass(frozen=True)
class DifferentialEvolution(Strategy):
    """``scipy.optimize.differential_evolution`` (Storn & Price 1997), replayed from the log.

    It restarts at its end. Settings are the defaults of SciPy without the final polish. The first
    generation is a scrambled Sobol sequence; the best observation of the user or another strategy
    replaces its first member. The queries of a generation are independent. Infeasible trials rank
    after feasible ones, by violation, and failed trials last. Integers and choices are rounded
    before evaluation.

    Args:
        members: size of the population; default ``15 d``, at most a fifth of the budget and at
            least 5.
    """

    name = "differential_evolution"
    members: int | None = option(None, ge=_LEAST)

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain
        # The memo holds the size, because a larger budget must not change a running population.
        members = self.members or (request.memo or {}).get("members")
        if not members:
            most = _MEMBERS * domain.dim
            members = max(_LEAST, min(most, (request.budget or 5 * most) // 5))

        def run(start: int, given: Array | None, losses: Losses) -> None:
            rng = request.stream(start)
            population = domain.sobol(rng, members)
            if given is not None:
                population[0] = given
            optimize.differential_evolution(
                lambda x: np.array(losses(list(projected(domain, np.atleast_2d(x.T))))),
                list(zip(*domain.bounds, strict=True)),
                init=population, polish=False, vectorized=True, updating="deferred", rng=rng,
            )  # fmt: skip

        queries = next_queries(self.name, trials, penalised(trials), request.count, run)
        return Proposal(queries, {"members": members})


@dataclass(frozen=True)
class DualAnnealing(Strategy):
    """``scipy.optimize.dual_annealing`` (Xiang et al. 1997), replayed from the log.

    It restarts at its end. Settings are the defaults of SciPy: local searches are L-BFGS-B, and
    each of their finite differences is a query. It begins at the best observation of the user or
    another strategy, else at a draw. Queries are sequential, so larger batches are no faster.
    Failed trials receive a large loss, infeasible ones a smaller loss that grows with the
    violation. Integers and choices are rounded before evaluation.
    """

    name = "dual_annealing"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain

        def run(start: int, given: Array | None, losses: Losses) -> None:
            # A replay needs a search that is deterministic given the losses: seeded by run.
            optimize.dual_annealing(
                lambda x: losses([projected(domain, x)])[0],
                list(zip(*domain.bounds, strict=True)),
                x0=None if given is None else given.clip(*domain.bounds),
                rng=request.stream(start),
            )

        return Proposal(next_queries(self.name, trials, penalised(trials), request.count, run))


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

    diff_step: float | None = option(None, gt=0, lt=0.5)
    name = "scipy_least_squares"

    def check(self, statement: ProblemStatement) -> None:
        require_residuals(self.name, statement, "'dual_annealing' or 'cmaes'")

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        self.check(statement)
        domain = statement.domain
        # Reversed, so that the first of repeated evaluations counts.
        answers = {
            key(trial.point): _residuals(statement, trial)
            for trial in reversed(trials)
            if not trial.state.open
        }

        def run(start: int, given: Array | None, residuals: Evaluate[Array | None]) -> None:
            first = domain.sobol(request.stream(0), 1, skip=start)[0] if given is None else given
            _descend(domain, first, self.diff_step, residuals)

        return Proposal(next_queries(self.name, trials, answers, request.count, run))


def _descend(
    domain: Domain,
    first: Array,
    diff_step: float | None,
    residuals: Evaluate[Array | None],
) -> None:
    """Run least squares to its end.

    Args:
        domain: search domain.
        first: start ``(d,)``, clipped to the bounds.
        diff_step: relative step of the differences.
        residuals: function from points to residuals ``(k,)``; None for a failed point.
    """
    here: Array | None = None  # residuals of the last step, at which SciPy takes the differences

    def step(x: Array) -> Array:
        nonlocal here
        r = residuals([projected(domain, x)])[0]
        if r is None and here is None:
            raise _FirstPointFailed
        # NaN makes SciPy reject the step and shrink its trust region.
        here = np.full_like(here, np.nan) if r is None else r
        return here

    def differences(_: Callable[[Array], Array], points: Iterable[Array]) -> list[Array | None]:
        # Equal residuals give the slope 0, so steps ignore a coordinate whose difference failed.
        return [here if r is None else r for r in residuals([projected(domain, x) for x in points])]

    lower, upper = domain.bounds
    with suppress(_FirstPointFailed):
        optimize.least_squares(
            step,
            first.clip(lower, upper),
            bounds=(lower, upper),
            diff_step=diff_step,
            workers=differences,
        )


class _FirstPointFailed(Exception):
    """Failure at the first point of a run."""


def _residuals(statement: ProblemStatement, trial: Trial) -> Array | None:
    """Compute residuals and violations ``(k,)`` of a trial; None if it failed or overflowed."""
    assert isinstance(statement.objective, Target)
    if trial.y is None:
        return None
    excesses = [max(float(constraint.excess(trial.y)), 0.0) for constraint in statement.constraints]
    r = np.append(statement.objective.residuals(trial.y), excesses)
    return r if (np.abs(r) < _MAX_RESIDUAL).all() else None
