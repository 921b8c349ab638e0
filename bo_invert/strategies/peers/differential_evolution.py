"""Differential evolution, from SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.objectives import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Losses, next_queries, penalised
from bo_invert.types import Array, Trial

# Members of the population: default of SciPy per coordinate, and the least number that its
# strategies can combine (https://docs.scipy.org/doc/scipy, differential_evolution); counts.
_MEMBERS, _LEAST = 15, 5


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
    members: int | None = None

    def __post_init__(self) -> None:
        if self.members is not None and self.members < _LEAST:
            raise InvalidInputError(
                f"differential_evolution: members must be at least {_LEAST}, got {self.members}"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain
        # The memo holds the size, because a larger budget must not change a running population.
        members = (
            self.members
            or (request.memo or {}).get("members")
            or _members(domain.dim, request.budget)
        )

        def run(start: int, given: Array | None, losses: Losses) -> None:
            evolve(domain, members, request.stream(start), given, losses)

        return Proposal(
            next_queries(self.name, trials, penalised(trials), request.count, run),
            {"members": members},
        )


def evolve(
    domain: Domain, members: int, rng: np.random.Generator, given: Array | None, losses: Losses
) -> None:
    """Run differential evolution to its end.

    Args:
        domain: search domain.
        members: size of the population.
        rng: random generator.
        given: point ``(d,)`` of the first generation, or None.
        losses: function that is called once per generation.
    """
    from scipy.optimize import differential_evolution

    population = domain.sobol(rng, members)
    if given is not None:
        population[0] = given
    differential_evolution(
        lambda x: np.array(losses(list(domain.project(np.atleast_2d(x.T))))),
        list(zip(*domain.bounds, strict=True)),
        init=population, polish=False, vectorized=True, updating="deferred", rng=rng,
    )  # fmt: skip


def _members(d: int, budget: int | None) -> int:
    size = _MEMBERS * d
    return size if budget is None else max(_LEAST, min(size, budget // 5))
