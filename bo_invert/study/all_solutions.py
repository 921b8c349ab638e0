"""Search for all solutions of a target, after the first one that a strategy finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Proposal, Request, Strategy, from_spec
from bo_invert.types import JSON, Trial

_MEMO = "all_solutions"
"""Key of the memo of the search for all solutions, beside the memo of the study's strategy."""


def require_searchable(statement: ProblemStatement) -> None:
    """Check that a problem has solutions that can be distinguished from other designs.

    Raises:
        InvalidInputError: The objective is no target.
    """
    if not isinstance(statement.objective, Target):
        raise InvalidInputError(
            f"run: find='all' needs a target, and the objective of problem {statement.name!r} is "
            f"{statement.objective}. Use Target(value, tolerance=...), or leave find out"
        )


def search_all(
    strategy: Strategy,
    statement: ProblemStatement,
    trials: Sequence[Trial],
    request: Request,
    noisy: bool,
) -> Proposal:
    """Propose queries towards all solutions of a target.

    The strategy of the study proposes until a trial meets the target, because it finds a first
    solution in fewer calls. The strategy ``inverse`` then proposes.

    Args:
        strategy: Strategy of the study.
        statement: Problem statement.
        trials: Trials of the study.
        request: Request; its memo is that of the last ask for any purpose.
        noisy: Repeated calls at a point differ.

    Raises:
        InvalidInputError: The objective is no target.
    """
    require_searchable(statement)
    if strategy.finds_all:
        return strategy.ask(statement, trials, request)
    memo = dict(request.memo or {})
    known: JSON = memo.pop(_MEMO, None)
    best = History(trials).best
    if best is None or not statement.objective.satisfied(best.y):
        proposal = strategy.ask(statement, trials, replace(request, memo=memo))
        if proposal.queries or any(trial.state.open for trial in trials):
            return proposal
    every = from_spec({"name": "inverse", "options": {"noisy": noisy}})
    proposal = every.ask(statement, trials, replace(request, memo=known))
    return replace(proposal, memo={**memo, _MEMO: proposal.memo})
