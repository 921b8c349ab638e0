"""Differential evolution: the textbook method for continuous black boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.strategies.replay import Losses, next_queries, penalised
from bo_invert.types import Array, Trial

#: Members per coordinate in SciPy, and the fewest its strategies can combine.
_MEMBERS, _FEWEST = 15, 5


@dataclass(frozen=True)
class DifferentialEvolution(Strategy):
    """``scipy.optimize.differential_evolution`` (Storn & Price 1997), replayed from the log, begun again when it ends.

    Settings are SciPy's, without its final polish. The first generation is a scrambled Sobol sequence; the best trial
    that a user or another method gave takes the place of its first member. A generation is asked for together. Failed
    trials rank last; before them those that break constraints, by how much. Whole numbers and choices are rounded on
    the way to the oracle.

    Args:
        members: of the population; default SciPy's ``15 d``, but at most a fifth of the budget, and at least 5.
    """

    name = "differential_evolution"
    members: int | None = None

    def __post_init__(self) -> None:
        if self.members is not None and self.members < _FEWEST:
            raise InvalidInputError(
                f"differential_evolution: members must be at least {_FEWEST}, got {self.members}"
            )

    def ask(
        self, statement: ProblemStatement, trials: Sequence[Trial], request: Request
    ) -> Proposal:
        domain = statement.domain
        # Noted at the first ask: a budget that grows later must not change the population of a run in progress.
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
    """One run to its end.

    Args:
        domain: where.
        members: size of the population.
        rng: of the first generation and of everything after.
        given: a point for the first generation, shape ``(d,)``, or None.
        losses: called once per generation.
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
    return size if budget is None else max(_FEWEST, min(size, budget // 5))
