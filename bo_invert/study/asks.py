"""Asks of a study: trials to evaluate next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from bo_invert.domains.constrained_box import FixedValues, fix_values
from bo_invert.history import History
from bo_invert.storage.journal_base import LoggedProposal
from bo_invert.storage.reader import JournalView
from bo_invert.storage.trial_transitions import Assignment
from bo_invert.strategies.base import Request, Strategy
from bo_invert.study.distinct_queries import distinct, exhausted, warn_if_exhausted
from bo_invert.study.header import stored_strategy
from bo_invert.study.hopes import Hope
from bo_invert.study.proposals import assignment_of, proposal_of, with_fixed_values
from bo_invert.study.recommendation import declared_noisy, known_noisy
from bo_invert.study.records import StudyRecords
from bo_invert.study.refinement import without_refinements
from bo_invert.study.repeated_designs import RepeatedDesigns
from bo_invert.types import Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number

_log = logging.getLogger(__name__)


class StudyAsks(StudyRecords):
    """Proposals of a study."""

    @cached_property
    def strategy(self) -> Strategy:
        """Strategy that proposes the points.

        Raises:
            InvalidInputError: The strategy was removed from the library, or is not installed.
        """
        return stored_strategy(self.name, self.journal.header)

    @own_settings()
    def ask(
        self,
        count: int = 1,
        *,
        budget: int | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> list[Trial]:
        """Return trials to evaluate next: enqueued points first, then proposed ones.

        The log holds them before they are returned. They stay open until ``tell``.

        Args:
            count: Number of trials, at least 1.
            budget: Calls that the whole study may spend; some strategies plan with it.
            fixed: Values of parameters of a ``Box`` that do not vary in this ask, such as
                ``{"solvent": "water"}``. Waiting trials with other values are left out.

        Returns:
            At most ``count`` trials. There are fewer if the strategy waits for open trials or is
            done, or if there are no further designs; a warning then says how many exist.

        Raises:
            InvalidInputError: Invalid argument, or no point with the fixed values satisfies the
                constraints.
        """
        count = whole_number("ask", "count", count)
        assignment = assignment_of(self._require_problem().domain, fixed)
        trials = self.take(count, budget, assignment=assignment)
        if len(trials) < count:
            warn_if_exhausted(self.statement.domain, assignment.fixed, self.journal)
        return trials

    @own_settings()
    def take(
        self,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
        reuse_limit: int | None = None,
    ) -> list[Trial]:
        """Start up to ``count`` trials for a worker; see ``JournalBase.take`` and ``run``."""
        count = whole_number("ask", "count", count)
        budget = None if budget is None else whole_number("ask", "budget", budget)
        self._require_problem()

        def start(wanted: int) -> list[Trial]:
            propose: Callable[[JournalView, int], LoggedProposal] = partial(
                self.propose, budget, assignment=assignment
            )
            if reuse_limit is None and assignment.purpose != "refine":
                propose = partial(self._unless_exhausted, propose, assignment.fixed)
            return self.journal.take(propose, wanted, budget, retries, assignment)

        repeats = None if assignment.key is not None else self._repeated_designs
        trials = start(count) if repeats is None else repeats.fresh(start, count, reuse_limit)
        return list(self._with_designs(trials))

    @own_settings()
    def propose(
        self,
        budget: int | None,
        view: JournalView,
        wanted: int,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
    ) -> LoggedProposal:
        """Ask the strategy for queries, without recording anything.

        Args:
            budget: Calls that the whole study may spend.
            view: Snapshot of the log.
            wanted: Number of queries.
            assignment: Fixed values, purpose and best hopes of the ask; the rest is not read.

        Raises:
            InvalidInputError: The problem does not support the purpose.
        """
        statement, fixed, purpose = self.statement, assignment.fixed, assignment.purpose
        if fixed:
            statement = replace(statement, domain=fix_values(statement.domain, fixed))
        request = Request(view.asks, wanted, self.seed, budget, view.memo)
        known = History(without_refinements(view.trials))
        noisy = purpose != "search" and self._model_noise(statement, known)
        # Fixed values narrow the domain, and estimates of a part say nothing about the whole.
        level = assignment.hope_level
        hope = None if level is None or fixed else Hope(level, self.estimate)
        proposal = proposal_of(self.strategy, statement, view, request, purpose, noisy, hope)
        problem = self._require_problem()
        if purpose != "refine" and (problem.reuse or not problem.space.discrete):
            proposal = distinct(proposal, self.strategy, statement.domain, view, self.seed)
        proposal = with_fixed_values(problem.space, proposal, fixed)
        _log.debug(
            "study %r: ask %d of strategy %s, %d of %d queries in %.3f s", self.name, view.asks,
            self.strategy.name, len(proposal.queries), wanted, proposal.seconds,
        )  # fmt: skip
        return proposal

    def _unless_exhausted(
        self,
        propose: Callable[[JournalView, int], LoggedProposal],
        fixed: FixedValues,
        view: JournalView,
        wanted: int,
    ) -> LoggedProposal:
        """Propose nothing if the log of an exact oracle holds all designs."""
        problem = self._require_problem()
        domain = fix_values(problem.domain, fixed) if fixed else problem.domain
        distinct_only = problem.reuse or not problem.space.discrete
        if distinct_only and exhausted(domain, view.trials):
            known = History(without_refinements(view.trials))
            if not known_noisy(self.strategy.spec(), known):
                return LoggedProposal((), view.memo, view.asks, view.seq, 0.0)
        return propose(view, wanted)

    @cached_property
    def _repeated_designs(self) -> RepeatedDesigns | None:
        """Answers to known designs from the log; None if every proposal needs a call."""
        problem = self._require_problem()
        if (
            not problem.reuse
            or problem.space.identify is None
            or declared_noisy(self.journal.header["strategy"])
        ):
            return None
        return RepeatedDesigns(self.journal, problem.space.identify, problem.domain.size)
