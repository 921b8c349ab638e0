"""A study: one problem, one strategy, one seed, one log. The only object with state, and all of that is the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import cached_property, partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert import registry
from bo_invert.errors import (
    EvaluationError,
    InvalidInputError,
    ProblemChangedError,
    StudyExistsError,
    whole_number,
)
from bo_invert.history import History
from bo_invert.problem_statement import ProblemStatement
from bo_invert.problems.declaration import declaration_of
from bo_invert.problems.json_diff import differences
from bo_invert.problems.problem import Problem
from bo_invert.problems.provenance import warn_of_changes
from bo_invert.search_domain import stored_domain
from bo_invert.storage.base import Store
from bo_invert.storage.journal import Journal
from bo_invert.storage.journal_base import JournalBase, LoggedProposal
from bo_invert.storage.open import open_store
from bo_invert.storage.reader import JournalView
from bo_invert.storage.transitions import Assignment
from bo_invert.strategies.base import Request, Strategy, from_spec
from bo_invert.study.header import new_header
from bo_invert.study.input_validation import check_outputs, output_rows, validated_points
from bo_invert.study.recommendation import (
    NOISE_NOTE,
    Recommendation,
    declared_noisy,
    known_noisy,
    recommend,
)
from bo_invert.study.repeated_designs import RepeatedDesigns
from bo_invert.study.solutions import Solutions, solutions
from bo_invert.types import Cost, Ledger, Query, Trial

if TYPE_CHECKING:
    import pandas as pd
    from ax.api.client import Client


class Study:
    """A search for the inputs of one problem. Made by ``create`` or ``open``.

    Several processes may hold the same study: each reads what the others appended before it decides.
    """

    def __init__(
        self, name: str, store: Store, problem: Problem | None, strategy: Strategy | None = None
    ) -> None:
        self.name = name
        self.problem = problem
        self.journal = _journal(store, name)
        self.seed: int = self.journal.header["seed"]
        if strategy is not None:
            self.strategy = strategy
        if problem is not None:
            self.strategy.check(problem.statement)

    @staticmethod
    def create(
        name: str,
        problem: Problem,
        strategy: str | Mapping[str, Any] | Strategy = "auto",
        seed: int = 0,
        storage: str | Store | None = None,
        *,
        exist_ok: bool = False,
        token: str | None = None,
        **options: Any,
    ) -> Study:
        """A new study.

        Args:
            name: non-empty; one per storage.
            problem: what to invert.
            strategy: a name, a spec ``{"name": ..., "options": {...}}`` or a ``Strategy``.
            seed: every random choice of the study follows from it.
            storage: ``"sqlite:///runs.db"``, ``"https://host:8765"``, a store, or None for this process's memory.
            exist_ok: open the study if it is already there, so that one script starts and resumes. Problem, strategy
                and seed must be the same. Where the oracle's source or parameters changed there is a warning, as what
                it computes is for you to keep the same.
            token: for a server.
            options: of the strategy, when it is given by name.

        Raises:
            StudyExistsError: the name is taken.
            UnsuitableStrategyError: the strategy cannot work on this problem.
            InvalidInputError: something cannot be what was meant.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidInputError(f"Study: the name must be a non-empty string, got {name!r}")
        whole_number("Study", "seed", seed, least=0)
        chosen = from_spec(strategy, **options)
        chosen.check(problem.statement)
        store = open_store(storage, token)
        header = new_header(problem, chosen, int(seed))
        if getattr(store, "declares", False):
            header["declared"] = declaration_of(problem)
        try:
            store.create(name, header)
        except StudyExistsError:
            if not exist_ok:
                raise
            study = Study.open(name, store, problem=problem, strategy=chosen)
            _refuse_change(name, "seed", study.seed, int(seed))
            return study
        return Study(name, store, problem, chosen)

    @staticmethod
    def open(
        name: str,
        storage: str | Store,
        problem: Problem | None = None,
        strategy: Strategy | None = None,
        token: str | None = None,
    ) -> Study:
        """A study that is already there, exactly where it stopped.

        Warns where the oracle, the decoder, or a package whose numbers count, is not what the study was begun with.

        Args:
            name: of the study.
            storage: where it lives.
            problem: the same problem as before; without it the study can be read, not continued.
            strategy: the same strategy as before; needed only for one that has no name in the registry.
            token: for a server.

        Raises:
            StudyNotFoundError: there is no such study.
            InvalidInputError: the strategy is not the one the study was begun with, or nothing has its name.
            ProblemChangedError: the problem is not the one the study was about; the message lists the differences.
        """
        store = open_store(storage, token)
        header = store.header(name)
        if problem is not None:
            changes = differences(header["problem"], problem.to_json())
            if changes:
                raise ProblemChangedError(
                    f"study {name!r} was about another problem:\n  " + "\n  ".join(changes) + "\n"
                    "Create a new study for the new problem; study.add() can carry known outcomes over."
                )
            warn_of_changes(name, header.get("provenance"), problem.oracle, problem.space)
        if strategy is not None:
            begun = header["strategy"]
            if begun["name"] in registry.names(
                "strategies"
            ):  # options that came later have their defaults
                begun = from_spec(begun).spec()
            _refuse_change(name, "strategy", begun, strategy.spec())
        return Study(name, store, problem, strategy)

    @cached_property
    def strategy(self) -> Strategy:
        """What proposes the points."""
        return from_spec(self.journal.header["strategy"])

    @property
    def statement(self) -> ProblemStatement:
        """What the strategy knows of the problem."""
        return self._require_problem().statement

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The whole log as trials, in order; each can show its ``design``."""
        return self._shown(self.journal.trials)

    @property
    def history(self) -> History:
        """The trials as arrays."""
        return History(self.trials)

    @property
    def best(self) -> Trial | None:
        """The feasible trial of lowest loss; None when there is none yet. See ``recommend`` where answers are noisy."""
        best = self.journal.best
        return None if best is None else self._shown([best])[0]

    def recommend(self, *, noisy: bool | None = None) -> Recommendation:
        """The told point to act on, with what to expect of it; no call is made.

        The best value of a noisy oracle is partly luck. Then this is the point that a model of all told outputs
        believes in, with 90 % intervals of its outputs and its loss. Of an exact oracle it is ``best``.

        Args:
            noisy: whether the same point is answered differently each time; default: if the strategy was told so, or
                the log shows it.

        Raises:
            InvalidInputError: nothing is completed, or nothing told satisfies the constraints.
        """
        return recommend(self.statement, self.history, self._noisy if noisy is None else noisy)

    def solutions(self, count: int = 1) -> Solutions:
        """The best ``count`` different designs: what is claimed, what the judge says of it, how plausible each is.

        The problem's judge is asked once for each; such calls are counted in the result and are in no ledger, because
        no strategy sees their answers. Where answers are noisy, what ``recommend`` recommends comes first.

        Raises:
            InvalidInputError: the study was opened without its problem, or ``count`` is less than 1.
        """
        if count < 1:
            raise InvalidInputError(f"solutions: count must be at least 1, got {count}")
        return solutions(self._require_problem(), self.history, count, self._noisy)

    @property
    def spent(self) -> Ledger:
        """What was spent so far, every attempt included."""
        return self.journal.ledger

    @property
    def problem_name(self) -> str:
        """Name of the problem the study was created for."""
        return str(self.journal.header["problem_name"])

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of the oracle's outputs."""
        return tuple(self.journal.header["problem"]["outputs"])

    def to_dataframe(self) -> pd.DataFrame:
        """One row per trial: state, origin, parameters (or coordinates), outputs, loss, cost, reason."""
        from bo_invert.report.dataframe import trials_frame

        space = None if self.problem is None else self.problem.space.domain
        domain = space or stored_domain(self.journal.header["problem"])
        return trials_frame(self.trials, self.outputs, domain)

    def to_ax(self) -> Client:
        """An Ax ``Client`` with every trial attached, for Ax's analyses and storage."""
        from bo_invert.strategies.ax.conversion import to_ax

        return to_ax(self.statement, self.trials, self.seed)

    def ask(self, count: int = 1, *, budget: int | None = None) -> list[Trial]:
        """Trials to evaluate next: points the user enqueued first, then what the strategy proposes.

        They are in the log before they are returned, and stay open until they are told.

        Args:
            count: how many, at least 1.
            budget: calls the whole study may spend; strategies that plan ahead want to know.

        Returns:
            At most ``count`` trials; fewer or none when the strategy first waits for open trials, or is done.
        """
        return self.take(count, budget)

    def tell(
        self,
        trial: Trial | int,
        answer: Any,
        *,
        cost: Cost | None = None,
        attempt: int | None = None,
    ) -> Trial:
        """What came of a trial.

        Args:
            trial: from ``ask``, or its number.
            answer: outputs (a number, a vector ``(m,)``, a dict of names to numbers), ``FailedError("why")`` or
                ``InfeasibleError("why")``. A value that is not finite is recorded as a failure.
            cost: what it took; default: what the query asked for.
            attempt: which attempt at the trial it is the outcome of, from 0; default: the latest.

        Returns:
            The trial as it stands now; the one you passed stays as it was. The same tell again changes nothing.

        Raises:
            TellConflictError: it was already told something else, or was cancelled.
            InvalidInputError: no such trial, or outputs of the wrong shape; nothing is recorded.
        """
        problem = self._require_problem()
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, self.outputs)
        known = self.journal.trial(_number(trial))
        told = self.journal.finish(
            known.number, problem.outcome(answer, cost or known.query.cost), attempt
        )
        return self._shown([told])[0]

    def add(
        self,
        X: Any = None,
        Y: Any = None,
        *,
        points: Any = None,
        costs: Sequence[Cost] | None = None,
    ) -> list[Trial]:
        """Observations made elsewhere: known to the strategy, and free of charge unless ``costs`` say otherwise.

        Args:
            X: designs, n of them; or one dict of parameters.
            Y: outputs, n rows as in ``tell``; verdicts are allowed. For one design its answer alone will do.
            points: points ``(n, d)`` instead of designs.
            costs: what each of the n took, to be billed like calls of this study: they count in ``spent`` and use up
                the budget of ``run``.

        Raises:
            InvalidInputError: shapes do not match, a design is outside the space, or the space has no way back to points.
        """
        problem = self._require_problem()
        alone = isinstance(X, Mapping)
        coordinates = validated_points(problem.space, [X] if alone else X, points)
        answers = output_rows(Y, alone)
        if len(answers) != len(coordinates):
            raise InvalidInputError(
                f"add: designs and rows of outputs do not match: {len(coordinates)} and {len(answers)}"
            )
        if costs is not None and len(costs) != len(answers):
            raise InvalidInputError(
                f"add: costs has one entry for each design: {len(answers)}, not {len(costs)}"
            )
        for answer in answers:
            if not isinstance(answer, EvaluationError):
                check_outputs(answer, self.outputs)
        bills = [Cost()] * len(answers) if costs is None else costs
        outcomes = [
            problem.outcome(answer, bill) for answer, bill in zip(answers, bills, strict=True)
        ]
        queries = [Query(point, origin="data") for point in coordinates]
        return list(self._shown(self.journal.add(queries, outcomes)))

    def enqueue(self, x: Any = None, *, point: Any = None) -> Trial:
        """A design (or a point ``(d,)``) to be evaluated before anything the strategy proposes.

        Raises:
            InvalidInputError: several are given, it is outside the space, or the space has no way back to points.
        """
        if np.ndim(point) > 1 or (
            isinstance(x, (list, tuple)) and any(isinstance(one, Mapping) for one in x)
        ):
            raise InvalidInputError("enqueue takes one design or one point; call it once for each")
        space = self._require_problem().space
        coordinates = validated_points(
            space, None if x is None else [x], None if point is None else [point]
        )
        query = Query(space.domain.project(coordinates[0]), origin="user")
        return self._shown([self.journal.enqueue(query)])[0]

    def cancel(self, trial: Trial | int, reason: str = "cancelled by the user") -> Trial:
        """Give up an open trial. A running attempt of it is billed as lost.

        Raises:
            TellConflictError: it already has an outcome.
        """
        return self._shown([self.journal.cancel(_number(trial), reason)])[0]

    def run(
        self,
        budget: int,
        *,
        batch: int = 1,
        executor: Executor | str | None = None,
        progress: bool = False,
        retries: int = 0,
        stop_when_hit: bool = True,
        stop: Callable[[], bool] | None = None,
        timeout: float | None = None,
    ) -> Study:
        """Ask, evaluate and tell until ``budget`` calls are answered; the same line resumes after a crash.

        Args:
            budget: calls of the whole study, those already answered included: oracle values plus gradients,
                failures included. Attempts lost in a crash are billed in ``spent``, but do not use up the budget.
            batch: trials under way at once.
            executor: where oracle calls run: anything with ``submit(fn, *args) -> Future``, a Dask client, or a name:
                ``"processes"`` (for oracles that compute), ``"threads"`` (for those that wait), ``"dask"``,
                ``"slurm"``, or ``"auto"``, which chooses by the oracle: processes, threads, or here. Default: here, one
                after another, the whole batch at once where the oracle is batched.
            progress: show a bar with calls, what was found and failures.
            retries: how often a failed trial is tried again; each try is billed and uses budget.
            stop_when_hit: end early once a feasible trial is within the tolerance of a ``Target``.
            stop: asked before each ask; once it is true nothing new is begun, what is under way is awaited, and the
                study can be resumed later.
            timeout: seconds for one attempt, from when its call begins; then it is told as failed, billed, and the run
                goes on. Needs an executor that can let go of a call: ``"processes"`` kills the process, ``"dask"`` and
                ``"slurm"`` likewise; ``"threads"`` leaves the thread behind. See ``Isolated`` too.

        Returns:
            This study.

        Raises:
            InvalidInputError: something cannot be what was meant, or the executor cannot keep a time limit.
            MissingExtraError: what the executor needs is not installed.
        """
        from bo_invert.study.runner import run

        problem = self._require_problem()
        label = self.name if progress else ""
        run(
            problem,
            self.journal,
            self.take,
            budget,
            batch,
            executor,
            retries,
            stop_when_hit,
            label,
            stop,
            timeout,
        )
        return self

    def take(
        self,
        count: int,
        budget: int | None,
        retries: int = 0,
        assignment: Assignment = Assignment(),  # noqa: B008  (frozen)
    ) -> list[Trial]:
        """Start up to ``count`` trials for somebody; see ``JournalBase.take``."""
        if count < 1:
            raise InvalidInputError(f"ask: count must be at least 1, got {count}")
        self._require_problem()

        def begin(wanted: int) -> list[Trial]:
            return self.journal.take(
                partial(self.propose, budget), wanted, budget, retries, assignment
            )

        repeats = None if assignment.key is not None else self._repeats
        return list(self._shown(begin(count) if repeats is None else repeats.fresh(begin, count)))

    def propose(self, budget: int | None, view: JournalView, wanted: int) -> LoggedProposal:
        """What the strategy wants to know next, as the log stood at one moment; nothing is noted.

        Args:
            budget: calls the whole study may spend.
            view: of the log.
            wanted: how many queries.
        """
        request = Request(view.asks, wanted, self.seed, budget, view.memo)
        began = time.perf_counter()
        proposal = self.strategy.ask(self.statement, view.trials, request)
        seconds = time.perf_counter() - began
        return LoggedProposal(proposal.queries, proposal.memo, view.asks, view.seq, seconds)

    def _shown(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        return (
            tuple(trials)
            if self.problem is None
            else tuple(t.with_decode(self.problem.decode) for t in trials)
        )

    def _require_problem(self) -> Problem:
        if self.problem is None:
            raise InvalidInputError(
                f"study {self.name!r} was opened without its problem; pass problem= to continue it"
            )
        return self.problem

    @cached_property
    def _repeats(self) -> RepeatedDesigns | None:
        """What answers designs that are known; None where each proposal is worth a call."""
        problem = self._require_problem()
        if (
            not problem.reuse
            or problem.space.identify is None
            or declared_noisy(self.journal.header["strategy"])
        ):
            return None
        return RepeatedDesigns(self.journal, problem.space.identify, problem.domain.size)

    @property
    def _noisy(self) -> bool:
        return known_noisy(self.journal.header["strategy"], self.history)

    @property
    def _strategy_name(self) -> str:
        """From the log, so that a study can be shown where its strategy is not installed."""
        return str(self.journal.header["strategy"]["name"])

    def __repr__(self) -> str:
        from bo_invert.report.text import study_text

        text = study_text(
            self.name, self.problem_name, self._strategy_name, self.trials, self.spent
        )
        return f"{text}\n  note    {NOISE_NOTE}" if self._noisy and self.best is not None else text

    def _repr_html_(self) -> str:
        from bo_invert.report.notebook import study_html

        best = self.best
        draw = None if self.problem is None else self.problem.draw
        picture = draw(best.design) if draw is not None and best is not None else None
        html = study_html(
            self.name, self.problem_name, self._strategy_name, self.trials, self.spent, picture
        )
        return f"{html}<p>{escape(NOISE_NOTE)}</p>" if self._noisy and best is not None else html


def _journal(store: Store, name: str) -> JournalBase:
    """Of a store that lists events, or of a server that has verbs of its own."""
    made = getattr(store, "journal", None)
    return Journal(store, name) if made is None else made(name)


def _number(trial: Trial | int) -> int:
    return trial.number if isinstance(trial, Trial) else trial


def _refuse_change(name: str, what: str, begun: Any, given: Any) -> None:
    """A study goes on as it was begun, or not at all."""
    if begun != given:
        raise InvalidInputError(
            f"study {name!r} was begun with {what} {begun!r}, not {given!r}; give the same, choose another name, or "
            "continue it as it is with Study.open"
        )
