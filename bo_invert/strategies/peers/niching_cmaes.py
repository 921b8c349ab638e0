"""CMA-ES with niching: restarts away from the solutions found before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, option
from bo_invert.strategies.peers.cma_run import CMARun, RunPlan
from bo_invert.strategies.replay import Evaluate, key, next_queries, penalised
from bo_invert.types import Array, Mask, Trial

# Engineering choices: candidates for the start of a run; generations of a run without a better
# loss; share of the default initial step, because a run starts in the basin that it is to descend.
_STARTS, _PATIENCE, _STEP = 64, 4, 0.3

Evaluated = tuple[float, bool]
"""Loss of a point, and True if it meets the objective."""


@dataclass(frozen=True)
class NichingCMAES(Strategy):
    """Sequential niching (Beasley, Bull & Martin 1993) with runs of CMA-ES (Hansen 2016).

    A run of pycma ends when a trial meets the target, after four generations without a better
    loss, or by the rules of pycma. Its best point is then a niche. The next run starts at the Sobol
    point farthest from all niches. Points within ``radius`` of a niche are not evaluated and rank
    last; a run whose whole generation lies there ends.

    A generation ends when none of its trials is pending. Infeasible trials rank after feasible
    ones, and failed trials last. Integers and choices are rounded before evaluation.

    Args:
        radius: radius of a niche, root mean square difference of the coordinates; default: the
            distance from which points of the domain are different solutions.
        popsize: population of each run; default ``4 + 3 ln d``.
    """

    radius: float | None = option(None, gt=0, lt=math.inf)
    popsize: int | None = option(None, ge=3)
    name = "niching_cmaes"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain, objective = statement.domain, statement.objective
        hits = {
            key(trial.point): bool(trial.feasible and objective.satisfied(trial.y))
            for trial in reversed(trials)
            if trial.y is not None
        }
        answers = {
            place: (loss, hits.get(place, False)) for place, loss in penalised(trials).items()
        }
        # The memo holds the niches of ended runs, which are not replayed again.
        ended = [np.array(niche) for niche in (request.memo or {}).get("niches", ())]
        niches = list[Array]()

        def run(number: int, given: Array | None, evaluate: Evaluate[Evaluated]) -> None:
            if number < len(ended):
                niches.append(ended[number])
                return
            first = self._start(domain, niches, request) if given is None else given
            size = self.popsize or 4 + int(3 * math.log(domain.dim))
            plan = RunPlan(tuple(first), _STEP * domain.step, size, None)
            search = CMARun(number, plan, domain, Request(seed=request.seed))
            niches.append(self._descend(search, domain, niches, first, evaluate))

        queries = next_queries(self.name, trials, answers, request.count, run)
        return Proposal(queries, {"niches": [niche.tolist() for niche in niches]})

    def _start(self, domain: Domain, niches: Sequence[Array], request: Request) -> Array:
        """Return the Sobol point ``(d,)`` farthest from all niches."""
        starts = domain.project(domain.sobol(request.stream(0), _STARTS))
        if not niches:
            return np.asarray(starts[0])
        return np.asarray(starts[_distances(starts, niches).argmax()])

    def _descend(
        self,
        search: CMARun,
        domain: Domain,
        niches: Sequence[Array],
        first: Array,
        evaluate: Evaluate[Evaluated],
    ) -> Array:
        """Continue a run to its end, and return its best point ``(d,)``."""
        best, where, idle = math.inf, first, 0
        while (points := search.points) is not None and idle < _PATIENCE:
            free = self._outside(domain, points, niches)
            if not free.any():
                break
            answers = evaluate(list(points[free]))
            losses = np.array([loss for loss, _ in answers])
            order = losses.argmin()
            if losses[order] < best:
                best, where, idle = float(losses[order]), points[free][order], 0
            else:
                idle += 1
            if any(hit for _, hit in answers):
                break
            # CMA-ES uses ranks only.
            scores = np.full(len(points), 2.0 * abs(losses.max()) + 1.0)
            scores[free] = losses
            search.tell(scores)
        return where

    def _outside(self, domain: Domain, points: Array, niches: Sequence[Array]) -> Mask:
        """Return whether points ``(n, d)`` lie outside of all niches, shape ``(n,)``."""
        if not niches:
            return np.ones(len(points), dtype=bool)
        radius = domain.separation if self.radius is None else self.radius
        return np.asarray(_distances(points, niches) > radius)


def _distances(points: Array, niches: Sequence[Array]) -> Array:
    """Return the RMS difference of points ``(n, d)`` from the nearest niche, shape ``(n,)``."""
    apart = points[:, None] - np.asarray(niches)[None]
    return np.asarray(np.sqrt((apart**2).mean(-1)).min(1))
