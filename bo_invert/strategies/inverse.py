"""Search for all designs that meet a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import KERNELS
from bo_invert.models.inverse import fit as fits, search
from bo_invert.models.inverse.solution_set import COVERING
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.models.optim.initial_design import limit_to_budget
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, option
from bo_invert.strategies.phases import SurrogateStrategy, with_hits
from bo_invert.types import JSON, Trial

# Engineering choice: number of checks in a row that the model must foretell before the search ends,
# as base and per parameter. A model that is wrong in 20 % of the domain passes 12 with probability
# 0.07.
_CHECKS, _CHECKS_PER_PARAMETER = 8, 2


@dataclass(frozen=True)
class Inverse(SurrogateStrategy):
    """Search for all designs that meet a target: every branch, densely covered.

    Gaussian processes of the outputs give the probability a(x) that a point meets the target and
    the outcome constraints. Particles sample the posterior of designs

        ``pi(x) = p(x) a(x) / Z``

    with the reference measure p, by sequential Monte Carlo. Each query maximises the expected share
    of this mass that it covers or decides:

    - *cover*: a(x) times the mass within ``distance`` of x that no verified design covers,
    - *decide*: the expected reduction of the integrated variance of the indicator that a design
      meets the target (Jarvenpaa et al. 2019).

    So the first queries explore, and later ones verify branch after branch. Once the share of the
    mass that no verified design covers is below ``undiscovered``, and each branch of the particles
    has a verified design, queries check the model where it is least certain. The search ends after
    8 + 2 d checks in a row whose outcomes lie in intervals three times as wide as those with
    probability 0.9. A failed check, or what it teaches, resumes the search.

    Use it to find all solutions; ``auto`` finds one with fewer calls.

    Args:
        initial: size of the initial design; default ``2 d + 4``, at most a quarter of the budget.
        particles: number of particles.
        distance: root mean square difference of the coordinates within which a verified design
            covers others; default 0.05 in the unit box, 0.5 in a whitened latent.
        undiscovered: share of the posterior mass below which the search ends; 0 to use the whole
            budget.
        tolerance: tolerance of a target without one, in the units of the outputs; default 1 % of
            the least standard deviation of the observed outputs.
        noisy: the oracle is noisy.
        kernel: kernel, as for ``gp``.
        device: torch device of the surrogate.
    """

    name = "inverse"
    finds_all = True
    initial: int | None = option(None, ge=2)
    particles: int = option(512, ge=50)
    distance: float | None = option(None, gt=0)
    undiscovered: float = option(0.05, ge=0, lt=1)
    tolerance: float | None = option(None, gt=0)
    noisy: bool = False
    kernel: str = option("auto", among=KERNELS)
    device: str = "cpu"

    def check(self, statement: ProblemStatement) -> None:
        if not isinstance(statement.objective, Target):
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs a target, and the objective of problem "
                f"{statement.name!r} is {statement.objective}. Use Target(value, tolerance=...), "
                "or 'auto'"
            )

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        return self.initial or limit_to_budget(2 * domain.parameter_count + 4, budget)

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        domain, rng = statement.domain, request.rng()
        options = fits.TargetOptions(
            self.tolerance, noisy=self.noisy, noise_model=True, kernel=self.kernel,
            device=self.device,
        )  # fmt: skip
        fit = fits.fit_target_model(statement, history, options, request.memo)
        distance = self.distance or COVERING * domain.separation
        verified = history.points[fit.hits]
        state = search.TargetSearch.start(fit, verified, self.particles, distance, rng)
        found = state.complete(self.undiscovered)
        if found and _passed_checks(statement, history.trials) >= self._needed_checks(domain):
            return Proposal((), fit.memo)
        duplicates = duplicate_filter(statement, history, fit.subset)
        choose = state.least_certain if found else state.most_informative
        points = np.empty((0, domain.dim))
        for _ in range(request.count):
            pending = np.concatenate([history.pending_points, points])
            ranked = choose(pending, rng)
            known = np.concatenate([history.all_points, points])
            points = np.concatenate([points, duplicates.select_new(ranked, known, 1)])
        share = round(state.coverage.uncovered_share, 4)
        meta: dict[str, JSON] = {"uncovered": share, **({"check": True} if found else {})}
        queries = self._queries(statement, history, fit.fitted, points, **meta)
        return Proposal(with_hits(queries, state.hits(points)), fit.memo)

    def _needed_checks(self, domain: Domain) -> int:
        return _CHECKS + _CHECKS_PER_PARAMETER * domain.parameter_count


def _passed_checks(statement: ProblemStatement, trials: Sequence[Trial]) -> int:
    """Count the latest checks in a row whose outcomes lie in three times the expected intervals."""
    passed = 0
    for trial in reversed(trials):
        if "check" not in trial.query.meta or trial.y is None:
            continue
        for name, (low, _, high) in trial.expected.items():
            y, width = float(trial.y[statement.outputs.index(name)]), high - low
            if not low - width <= y <= high + width:
                return passed
        passed += 1
    return passed
