"""Quality-diversity search of pyribs as a strategy. Needs the extra ``niching``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import require_package
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Proposal, Request, Strategy, draw_seed, option
from bo_invert.strategies.replay import Losses, next_queries, penalised
from bo_invert.types import Array, Trial

# Engineering choice: share of the default initial step of an evolution strategy; the emitters
# begin at different places and share the domain.
_STEP = 0.5


@dataclass(frozen=True)
class Ribs(Strategy):
    """CMA-ME of pyribs (Fontaine et al. 2020; Tjanaka et al. 2023), replayed from the log.

    The archive divides the domain into ``cells`` Voronoi cells of Sobol points, and stores the
    point of the least loss in each (CVT-MAP-Elites, Vassiliades et al. 2018). Evolution strategies
    adapt to improve the archive. Infeasible trials rank after feasible ones, and failed trials
    last. Integers and choices are rounded before evaluation.

    Args:
        cells: number of cells of the archive.
        emitters: number of evolution strategies.
        popsize: points of each evolution strategy in a generation, at least 4.
    """

    cells: int = option(100, ge=2)
    emitters: int = option(2, ge=1)
    popsize: int = option(6, ge=4)
    name = "ribs"

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        with require_package("strategy 'ribs'", "ribs", "niching"):
            from ribs import archives, emitters

        domain = statement.domain

        def run(number: int, given: Array | None, losses: Losses) -> None:
            rng = request.stream(number)
            starts = domain.project(domain.sobol(rng, self.emitters))
            if given is not None:
                starts[0] = given
            archive = archives.CVTArchive(
                solution_dim=domain.dim, centroids=domain.sobol(rng, self.cells),
                ranges=list(zip(*domain.bounds, strict=True)), seed=draw_seed(rng),
            )  # fmt: skip
            searches = [
                emitters.EvolutionStrategyEmitter(
                    archive, x0=start, sigma0=_STEP * domain.step, batch_size=self.popsize,
                    seed=draw_seed(rng),
                )
                for start in starts
            ]  # fmt: skip
            while True:
                raw = [search.ask() for search in searches]
                # Bounds of an emitter would resample, without end in the worst case.
                points = domain.project(np.concatenate(raw))
                # The archive maximises.
                gains = -np.array(losses(list(points)))
                for k, search in enumerate(searches):
                    rows = slice(k * self.popsize, (k + 1) * self.popsize)
                    added = archive.add(raw[k], gains[rows], points[rows])
                    search.tell(raw[k], gains[rows], points[rows], added)

        return Proposal(next_queries(self.name, trials, penalised(trials), request.count, run))
