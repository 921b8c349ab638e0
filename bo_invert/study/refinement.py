"""Refinement of the best point of a study by further calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Request, from_spec
from bo_invert.types import JSON, Query, Trial


def refining_strategies(
    statement: ProblemStatement, history: History, noisy: bool
) -> list[tuple[JSON, str]]:
    """Return specs of strategies that refine the best point, in order, with the reasons.

    A strategy is followed by the next one when it proposes nothing more. Gradients lead to descents
    from the best points, a target to Gauss-Newton steps, a noisy oracle to a trust region with
    noise. Otherwise each query minimises the mean of a local Gaussian process.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: Repeated calls at a point differ.

    Raises:
        InvalidInputError: There is no observation, or the objective has several criteria.
    """
    if isinstance(statement.objective, Pareto):
        raise InvalidInputError(
            f"polish: problem {statement.name!r} has several criteria and no single best point. "
            "study.run(...) extends the front. To refine one compromise, create a study with a "
            "single objective, such as bi.Target or bi.Composite, and add the known trials"
        )
    if not history.completed:
        raise InvalidInputError(
            f"polish: problem {statement.name!r} has no observation to refine. Run the study first"
        )
    if noisy:
        options = {"noisy": True, "length": _REGION}
        return [({"name": "turbo", "options": options}, "trust region with noise")]
    local = {"name": "polish", "options": {"share": 0.0}}
    found: list[tuple[JSON, str]] = []
    if isinstance(statement.objective, Target) and statement.domain.continuous:
        found.append(({"name": "least_squares"}, "Gauss-Newton steps towards a target"))
    kind = "descents from the best points" if statement.differentiable else "local process"
    return [*found, (local, kind)]


def refine(
    statement: ProblemStatement, trials: Sequence[Trial], request: Request, noisy: bool
) -> tuple[Query, ...]:
    """Return queries that refine the best point.

    The strategies get no memo, so a refinement does not change that of the study's strategy.

    Args:
        statement: Problem statement.
        trials: Trials of the study.
        request: Request with the budget of the whole study.
        noisy: Repeated calls at a point differ.
    """
    for spec, why in refining_strategies(statement, History(trials), noisy):
        strategy = from_spec(spec)
        strategy.check(statement)
        proposal = strategy.ask(statement, trials, replace(request, memo=None))
        if proposal.queries:
            return tuple(
                replace(query, meta={**query.meta, "why": f"{_WHY}{why}"})
                for query in proposal.queries
            )
    return ()


def without_refinements(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no refinement proposed, so that its steps do not look like noise."""
    return [trial for trial in trials if not str(trial.query.meta.get("why", "")).startswith(_WHY)]


_WHY = "polish: "
"""Beginning of the reason of a query that refines the best point."""
_REGION = 0.2
"""Side of a trust region around the best point in units of the unit cube. Engineering choice, as in
the strategy ``auto`` after a global search."""
