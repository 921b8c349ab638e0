"""A study as its log holds it: trials, best trial, open trials, domain and costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from bo_invert.domains.constrained_box import stored_domain
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.history import History, Ledger
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problems.problem import Problem
from bo_invert.storage.journal_base import JournalBase
from bo_invert.study.input_validation import study_key
from bo_invert.study.pending import PendingTrials
from bo_invert.study.recommendation import known_noisy, suspected_noisy
from bo_invert.types import Trial


class LoggedStudy:
    """Contents of the log of a study.

    Args:
        name: Name of the study.
        journal: Its log.
        problem: Its problem; None for a study that was opened without it.
    """

    def __init__(self, name: str, journal: JournalBase, problem: Problem | None) -> None:
        self.name = name
        self.journal = journal
        self.problem = problem
        self.seed: int = journal.header["seed"]

    @property
    def statement(self) -> ProblemStatement:
        """Problem statement for the strategy."""
        return self._require_problem().statement

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials in order; each can decode its ``design``."""
        return self._with_designs(self.journal.trials)

    @property
    def history(self) -> History:
        """The trials as arrays."""
        return History(self.trials)

    @property
    def best(self) -> Trial | None:
        """Feasible trial of lowest loss; None without one. Use ``recommend`` for noisy oracles."""
        best = self.journal.best
        return None if best is None else self._with_designs([best])[0]

    @property
    def ended(self) -> str:
        """Why the last run ended early: a stop rule or a reached target; empty after new trials."""
        return self.journal.ended

    @property
    def pending(self) -> PendingTrials:
        """Open trials: queued, running or lost; ``to_csv`` and ``to_dataframe`` to complete."""
        waiting = [trial for trial in self.journal.trials if trial.state.open]
        return PendingTrials(self._with_designs(waiting), self.outputs, self.domain)

    @property
    def domain(self) -> Domain | None:
        """Search domain; that of a latent is known with the problem only."""
        known = None if self.problem is None else self.problem.space.domain
        return known or stored_domain(self.journal.header["problem"])

    @property
    def spent(self) -> Ledger:
        """Costs so far, all attempts included."""
        return self.journal.ledger

    @property
    def problem_name(self) -> str:
        """Name of the problem."""
        return str(self.journal.header["problem_name"])

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the oracle's outputs."""
        return tuple(self.journal.header["problem"]["outputs"])

    @property
    def noisy(self) -> bool:
        """True if the oracle is noisy: as declared to the strategy, or as seen at one point."""
        return known_noisy(self.journal.header["strategy"], self.history)

    def _model_noise(self, statement: ProblemStatement, history: History) -> bool:
        """Return True if models assume noise: it is known, or close points suggest it."""
        known = known_noisy(self.journal.header["strategy"], history)
        return known or suspected_noisy(statement, history)

    def _with_designs(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        decode = None if self.problem is None else self.problem.decode
        study = study_key(self.journal.header)
        return tuple(trial.evolved(decode=decode, study=study) for trial in trials)

    def _require_problem(self) -> Problem:
        if self.problem is None:
            raise InvalidInputError(
                f"study {self.name!r} was opened without its problem; pass problem= to continue it"
            )
        return self.problem

    @property
    def _strategy_name(self) -> str:
        # From the log: reports need no installed strategy.
        return str(self.journal.header["strategy"]["name"])
