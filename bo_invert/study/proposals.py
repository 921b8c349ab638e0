"""Proposals of a strategy, as a log records them."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np

from bo_invert.domains.constrained_box import ConstrainedBox, FixedValues, fixed_point_test
from bo_invert.domains.search_domain import Domain
from bo_invert.history import History
from bo_invert.objectives.base import Objective
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.spaces.base import Space
from bo_invert.storage.journal_base import LoggedProposal
from bo_invert.storage.reader import JournalView
from bo_invert.storage.trial_transitions import Assignment, Purpose
from bo_invert.strategies.base import Proposal, Request, Strategy
from bo_invert.study.all_solutions import search_all
from bo_invert.study.hopes import Hope
from bo_invert.study.refinement import refine
from bo_invert.types import Query, Trial


def assignment_of(domain: Domain, fixed: object) -> Assignment:
    """Return an assignment with the fixed values of a user, if there are any.

    Raises:
        InvalidInputError: A name or value is invalid, or no point has these values.
    """
    if not fixed:
        return Assignment()
    values, suits = fixed_point_test(domain, fixed)
    return Assignment(fixed=values, suits=suits)


def proposal_of(
    strategy: Strategy,
    statement: ProblemStatement,
    view: JournalView,
    request: Request,
    purpose: Purpose,
    noisy: bool,
    hope: Hope | None = None,
) -> LoggedProposal:
    """Propose queries for a purpose; record the time that it takes.

    Args:
        strategy: strategy of the study.
        statement: problem as the strategy sees it.
        view: snapshot of the log.
        request: number of queries, seed and budget.
        purpose: purpose of the ask.
        noisy: repeated calls at a point differ; not read by the purpose "search".
        hope: estimates that the target can be reached; None for none.
    """
    began = time.perf_counter()
    trials = with_held_incumbent(statement.domain, view.trials, statement.objective)
    if purpose == "refine":
        proposal = Proposal(refine(statement, trials, request, noisy), view.memo)
    else:
        ask = (
            partial(search_all, strategy, statement, trials, request, noisy)
            if purpose == "all"
            else partial(strategy.ask, statement, trials, request)
        )
        history = History(view.trials)
        proposal = ask() if hope is None else hope.ask(statement, history, ask, view.memo)
    seconds = time.perf_counter() - began
    require_satisfied(statement.domain, proposal.queries, strategy.name)
    queries = _with_plausibility(statement.domain, proposal.queries)
    return LoggedProposal(queries, proposal.memo, view.asks, view.seq, seconds)


def with_held_incumbent(
    domain: Domain, trials: tuple[Trial, ...], objective: Objective
) -> tuple[Trial, ...]:
    """Return trials whose incumbent has the fixed values of an ask.

    The others get an infinite violation: models use them, and no incumbent is among them. If no
    feasible trial has the fixed values, the one with the median loss of all feasible ones that do
    not reach the target takes the place of the incumbent, so that the search follows the
    predictions.

    Args:
        domain: domain of the ask, with its fixed values.
        trials: trials of the log.
        objective: objective of the study.
    """
    ended = [i for i, one in enumerate(trials) if one.y is not None and not one.outside]
    if not isinstance(domain, ConstrainedBox) or not domain.fixed or not ended:
        return trials
    suits = domain.satisfied(np.array([trials[i].point for i in ended]))
    others = [i for i, held in zip(ended, suits, strict=True) if not held]
    if not any(trials[i].feasible for i, held in zip(ended, suits, strict=True) if held):
        ranked = sorted(
            (i for i in others if trials[i].feasible and not objective.satisfied(trials[i].y)),
            key=lambda i: trials[i].loss or 0.0,
        )
        others = [i for i in others if i not in ranked[len(ranked) // 2 :][:1]]
    found = list(trials)
    for i in others:
        outcome = trials[i].outcome
        assert outcome is not None
        found[i] = trials[i].evolved(outcome=replace(outcome, violation=math.inf))
    return tuple(found)


def require_satisfied(domain: Domain, queries: tuple[Query, ...], name: str) -> None:
    """Check that proposed points satisfy the input constraints and have the fixed values.

    Args:
        domain: domain of the ask, with its fixed values.
        queries: proposals of the strategy.
        name: name of the strategy.

    Raises:
        RuntimeError: a point violates a constraint, which is a defect of the strategy.
    """
    if not isinstance(domain, ConstrainedBox) or not queries:
        return
    points = np.array([query.point for query in queries])
    wrong = np.flatnonzero(~domain.satisfied(points))
    if len(wrong):
        point = points[wrong[0]]
        reason = domain.violated(point) or f"it does not have the fixed values {domain.fixed}"
        raise RuntimeError(
            f"strategy {name!r} proposed {domain.values(point[None])[0]}, and {reason}. Nothing is "
            "recorded. A strategy must return points of domain.project(points)"
        )


def _with_plausibility(domain: Domain, queries: tuple[Query, ...]) -> tuple[Query, ...]:
    """Add the plausibility of proposals in a box with data, for tables of trials."""
    if domain.latent or domain.reference is None or not queries:
        return queries
    plausible = domain.plausibility(np.array([query.point for query in queries]))
    return tuple(
        replace(query, meta={**query.meta, "plausibility": round(float(share), 4)})
        for query, share in zip(queries, plausible, strict=True)
    )


def with_fixed_values(space: Space, proposal: LoggedProposal, fixed: FixedValues) -> LoggedProposal:
    """Return a proposal whose designs have the fixed values exactly, where decoding rounds them."""
    if not fixed or not proposal.queries:
        return proposal
    points = np.array([query.point for query in proposal.queries])
    designs = list(space.decode(points))
    if not all(isinstance(design, dict) for design in designs):
        return proposal
    exact = space.exact([{**design, **dict(fixed)} for design in designs], points)
    queries = [
        query if query.descent or query.gradient or query.design is not None
        else replace(query, design=design)
        for query, design in zip(proposal.queries, exact, strict=True)
    ]  # fmt: skip
    return replace(proposal, queries=tuple(queries))
