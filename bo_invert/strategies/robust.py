"""Search for designs that remain good under noise of their inputs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import UnsuitableStrategyError
from bo_invert.history import History
from bo_invert.models.base import KERNELS
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.models.optim.initial_design import limit_to_budget
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, draw_seed, option
from bo_invert.strategies.phases import SurrogateStrategy

# Engineering choice: number of asks of which the last one evaluates the design of highest yield.
# Others inform about manufactured designs around it.
_TURN = 4
# Engineering choice: number of last calls that evaluate the design of highest yield.
_LAST = 2


@dataclass(frozen=True)
class Robust(SurrogateStrategy):
    """Search for the design of highest yield under noise of its inputs.

    The problem states the distribution of the deviations e of manufactured designs
    (``Problem(input_noise=...)``). For a target, the search maximises the yield

        ``Y(x) = P(outputs of x + e meet the target and the constraints)``,

    for other objectives minus the expected loss. Gaussian processes of the outputs give the
    acceptance of each manufactured design; Y is its mean over quasi-random deviations, the same
    ones for all designs. Gradient ascents from the best candidates maximise it.

    Designs that have the highest Y under some posterior path are rivals. Each query evaluates the
    point at which an observation is expected to decide most about the manufactured designs of all
    rivals (expected reduction of the integrated variance of the indicator, Jarvenpaa et al. 2019).
    Every fourth query, and the last two, evaluate the design of highest Y itself, so that
    ``study.recommend`` can return it.

    ``auto`` uses it for problems with ``input_noise``. Other strategies ignore the noise and search
    the nominal optimum.

    Args:
        initial: size of the initial design; default ``2 d + 4``, at most a quarter of the budget.
        draws: number of deviations.
        tolerance: tolerance of a target without one, in the units of the outputs; default 1 % of
            the least standard deviation of the observed outputs.
        noisy: the oracle is noisy.
        kernel: kernel, as for ``gp``.
        device: torch device of the surrogate.
    """

    name = "robust"
    initial: int | None = option(None, ge=2)
    draws: int = option(64, ge=8)
    tolerance: float | None = option(None, gt=0)
    noisy: bool = False
    kernel: str = option("auto", among=KERNELS)
    device: str = "cpu"

    def check(self, statement: ProblemStatement) -> None:
        if isinstance(statement.objective, Pareto):
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs one objective, and problem {statement.name!r} has "
                f"{statement.objective}. Use one objective with constraints on the other outputs"
            )
        if not statement.input_noise:
            raise UnsuitableStrategyError(
                f"strategy {self.name!r} needs noise of the inputs, and problem "
                f"{statement.name!r} has none. Use Problem(input_noise={{...}}), or 'auto'"
            )

    def _design_size(self, domain: Domain, budget: int | None) -> int:
        return self.initial or limit_to_budget(2 * domain.parameter_count + 4, budget)

    def _propose(self, statement: ProblemStatement, history: History, request: Request) -> Proposal:
        from bo_invert.models.inverse import robust_fit, robust_search

        options = robust_fit.RobustOptions(
            self.draws, self.tolerance, self.noisy, self.kernel, self.device
        )
        rng = request.rng()
        quality, subset, memo = robust_fit.fit_input_yield(
            statement, history, options, draw_seed(request.stream(2)), request.memo
        )
        search = robust_search.RobustSearch(quality, history.ranked_points, rng)
        duplicates = duplicate_filter(statement, history, subset)
        points = np.empty((0, statement.domain.dim))
        left = np.inf if request.budget is None else request.budget - history.committed
        for k in range(request.count):
            number = len(history.trials) + k
            known = np.concatenate([history.all_points, points])
            pending = np.concatenate([history.pending_points, points])
            best = number % _TURN == _TURN - 1 or left - k <= _LAST
            ranked = search.informative(pending)
            ranked = np.concatenate([search.best[None], ranked]) if best else ranked
            points = np.concatenate([points, duplicates.select_new(ranked, known, 1)])
        expected = quality.quality(points)
        queries = self._queries(statement, history, quality.fitted, points)
        name = "yield" if quality.target is not None else "robust loss"
        sign = 1.0 if quality.target is not None else -1.0
        return Proposal(
            tuple(
                replace(query, meta={**query.meta, name: round(sign * float(one), 4)})
                for query, one in zip(queries, expected, strict=True)
            ),
            memo,
        )
