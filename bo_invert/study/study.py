"""The study: one problem, one strategy, one seed, one log.

A study is the only object with state, and all of its state is the log.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Literal

from bo_invert.errors import StudyExistsError, blank, require
from bo_invert.problems.json_declaration import declaration_of
from bo_invert.problems.problem import Problem
from bo_invert.problems.recorded_versions import warn_of_changes
from bo_invert.storage.base import Store
from bo_invert.storage.open import open_store
from bo_invert.storage.optimistic_journal import Journal
from bo_invert.storage.trial_transitions import Assignment, Purpose
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.strategies.requirements import require_support
from bo_invert.study.all_solutions import require_searchable
from bo_invert.study.asks import StudyAsks
from bo_invert.study.copying import CopiedByReopening
from bo_invert.study.distinct_queries import warn_if_exhausted
from bo_invert.study.header import (
    buildable_strategy,
    check_problem,
    check_strategy,
    check_unchanged,
    new_header,
)
from bo_invert.study.posterior import require_target
from bo_invert.study.proposals import assignment_of
from bo_invert.study.refinement import refining_strategies
from bo_invert.study.run_options import RunOptions
from bo_invert.study.runner import run
from bo_invert.study.stop import Stopping, StopRule
from bo_invert.types import Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number

_log = logging.getLogger(__name__)


class Study(CopiedByReopening, StudyAsks):
    """Search for the inputs of one problem. Use ``create`` or ``open`` to make one.

    Several processes can use the same study at once. Each reads the events of the others before it
    decides.
    """

    def __init__(
        self, name: str, store: Store, problem: Problem | None, strategy: Strategy | None = None
    ) -> None:
        # A server has a journal of its own.
        make_journal = getattr(store, "journal", None)
        journal = Journal(store, name) if make_journal is None else make_journal(name)
        super().__init__(name, journal, problem)
        self._store = store
        if strategy is not None:
            self.strategy = strategy
        elif problem is not None:
            # A study stays readable after its strategy was removed; ``ask`` then raises.
            strategy = buildable_strategy(journal.header)
        if problem is not None and strategy is not None:
            require_support(strategy, problem.statement)

    @staticmethod
    @own_settings()
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
        """Create a study.

        Args:
            name: Name, not empty, unique in the storage.
            problem: Problem to invert.
            strategy: A name, a spec ``{"name": ..., "options": {...}}`` or a ``Strategy``.
            seed: Root of all random choices.
            storage: ``"sqlite:///runs.db"``, ``"https://host:8765"``, a storage, or None for the
                memory of this process.
            exist_ok: Open the study if it exists, so that the same script starts and resumes.
                Problem, strategy and seed must be the same. A warning reports a changed source or
                changed parameters of the oracle.
            token: Token for a server.
            options: Options of a strategy given by name.

        Raises:
            StudyExistsError: The name is taken.
            UnsuitableStrategyError: The strategy does not support the problem.
            InvalidInputError: Invalid argument.
        """
        require(
            isinstance(name, str) and not blank(name),
            f"Study: the name must be a non-empty string, got {name!r}",
        )
        seed = whole_number("Study", "seed", seed, least=0)
        chosen = from_spec(strategy, **options)
        require_support(chosen, problem.statement)
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
            check_unchanged(name, "seed", study.seed, int(seed))
            return study
        _log.info("study %r created: problem %r, strategy %s", name, problem.name, chosen.name)
        return Study(name, store, problem, chosen)

    @staticmethod
    @own_settings()
    def open(
        name: str,
        storage: str | Store,
        problem: Problem | None = None,
        strategy: Strategy | None = None,
        token: str | None = None,
    ) -> Study:
        """Open a study in the state in which it stopped.

        A warning reports an oracle, a decoder or a numerical package that has changed since the
        study was created.

        Args:
            name: Name of the study.
            storage: Storage of the study; see ``create``.
            problem: The same problem as before. Without it the study is read-only.
            strategy: The same strategy as before; needed by ``ask`` and ``run`` if the registry
                does not have it.
            token: Token for a server.

        Raises:
            StudyNotFoundError: There is no such study.
            InvalidInputError: The strategy differs from that of the study.
            ProblemChangedError: The problem differs; the message lists the differences.
        """
        store = open_store(storage, token)
        header = store.header(name)
        if problem is not None:
            check_problem(name, header, problem)
            warn_of_changes(name, header.get("provenance"), problem.oracle, problem.space)
        if strategy is not None:
            check_strategy(name, header, strategy)
        study = Study(name, store, problem, strategy)
        _log.info("study %r opened", name)
        return study

    @own_settings()
    def run(
        self,
        budget: int,
        *,
        batch: int = 1,
        executor: Executor | str | None = None,
        progress: bool = False,
        retries: int = 0,
        find: Literal["best", "all"] | None = None,
        stop_when_hit: bool | None = None,
        stop: StopRule | Callable[[], bool] | str | None = None,
        timeout: float | None = None,
        reuse_limit: int | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> Study:
        """Ask, evaluate and tell until ``budget`` calls are answered. A second call resumes.

        Args:
            budget: Calls of the whole study, earlier ones included: oracle values plus gradients,
                failures included. Lost attempts are billed in ``spent`` but use no budget.
            batch: Number of trials that run at once.
            executor: Executor of the oracle calls: an object with ``submit(fn, *args) -> Future``,
                a Dask client, or a name. Names are ``"processes"`` (oracles that compute),
                ``"threads"`` (oracles that wait), ``"dask"``, ``"slurm"`` and ``"auto"``, which
                chooses by the oracle. Default: this process, one call after another. A batched
                oracle then gets the whole batch in one call. Each answer is recorded at once.
            progress: Show a progress bar.
            retries: Number of retries of a failed trial; each is billed and uses budget.
            find: ``"best"`` searches one solution. ``"all"`` continues after the first one towards
                all solutions of a ``Target``: the strategy ``inverse`` then proposes, until
                nearly all that the models expect is covered; see ``docs/inverse.md``. Default:
                ``"all"`` for the strategy ``inverse``, otherwise ``"best"``.
            stop_when_hit: Stop when a feasible trial is within the tolerance of a ``Target``.
                Default: True, unless the run searches all solutions or has input noise.
            stop: Rule such as ``bi.stop.patience(30) | bi.stop.gain("1%")``, its text, or a
                function that returns True to end. It is checked before each ask and call, and the
                run ends after the running calls. ``ended`` holds the reason. A later call resumes
                the run, and ends at once while the rule still holds.
            timeout: Time limit of one attempt in seconds, from the start of its call. After it,
                the trial fails, is billed, and the run continues. The executor must be able to
                abandon a call: ``"processes"``, ``"dask"`` and ``"slurm"`` kill it,
                ``"threads"`` leaves its thread behind. See also ``Isolated``.
            reuse_limit: Number of trials of the study from which known designs are evaluated
                again. A strategy that proposes known designs then spends its whole budget, as in
                comparisons. Default: known designs never get a call, and the run ends with a
                warning after 100 of them in a row.
            fixed: Values of parameters that do not vary in this run, as in ``ask``. Only trials
                with these values end the run by a hit.

        Returns:
            This study.

        Raises:
            InvalidInputError: Invalid argument, the executor does not support time limits, or the
                rule ``verdict`` or ``find="all"`` has no ``Target``.
            MissingExtraError: A package that the executor needs is not installed.
            StudyPausedError: Too many processes died during one trial.
            KeyboardInterrupt, SystemExit: Ctrl-C; SIGTERM or SIGHUP. All answers are recorded.
        """
        rule = None if stop is None else Stopping(stop, self)
        if rule is not None and rule.hope_level is not None:
            require_target(self._require_problem().statement, "run(stop='verdict')")
        find_all = self.finds_all(find)
        if stop_when_hit is None:
            stop_when_hit = not find_all and not self._require_problem().input_noise
        if reuse_limit is not None:
            reuse_limit = whole_number("run", "reuse_limit", reuse_limit, least=0)
        same = assignment_of(self._require_problem().domain, fixed)
        options = RunOptions(
            budget=budget, batch=batch, executor=executor, retries=retries, timeout=timeout,
            stop=rule, stop_when_hit=stop_when_hit, label=self.name if progress else "",
            suits=same.suits,
        )  # fmt: skip
        purpose: Purpose = "all" if find_all else "search"

        def take(count: int, budget: int, retries: int, assignment: Assignment) -> list[Trial]:
            held = replace(assignment, fixed=same.fixed, suits=same.suits, purpose=purpose)
            held = replace(held, hope_level=None if rule is None else rule.hope_level)
            return self.take(count, budget, retries, held, reuse_limit)

        run(self._require_problem(), self.journal, take, options)
        spent = self.journal.is_over(options.budget) or (
            options.stop is not None and options.stop.why
        )
        if spent or self.ended or reuse_limit is not None:
            return self
        why = warn_if_exhausted(self.statement.domain, same.fixed, self.journal)
        if find_all and not why:
            why = "the solutions found cover nearly all that the model expects"
        if not why and not self.history.pending:
            why = self._require_problem().objective.exhausted_text
        if why:
            self.journal.end(why)
        return self

    def finds_all(self, find: object) -> bool:
        """Return True if a run searches all solutions of a target.

        Raises:
            InvalidInputError: ``find`` is invalid, or the objective is no target.
        """
        strategy = buildable_strategy(self.journal.header)  # that of a server may be missing
        if find is None:
            return strategy is not None and strategy.finds_all
        require(find in ("best", "all"), f"run: find must be 'best' or 'all', got {find!r}")
        if find == "all":
            require_searchable(self.statement)
        return find == "all"

    @own_settings()
    def polish(
        self,
        budget: int,
        *,
        batch: int = 1,
        executor: Executor | str | None = None,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Study:
        """Refine the best point by ``budget`` further calls, in the same log.

        Gradients lead to descents from the best points, a target to Gauss-Newton steps, and
        otherwise a local Gaussian process is followed in a shrinking region. The strategy of the
        study learns from the answers. A refinement ends early if it has nothing more to propose, or
        if a target is reached within its tolerance.

        Args:
            budget: Further calls, values plus gradients.
            batch: Number of trials that run at once.
            executor: Executor of the calls, see ``run``.
            progress: Show a progress bar.
            timeout: Time limit of one attempt in seconds.

        Returns:
            This study.

        Raises:
            InvalidInputError: There is no observation, several criteria, or no oracle.
        """
        budget = whole_number("polish", "budget", budget)
        refining_strategies(self.statement, self.history, noisy=False)  # early error
        options = RunOptions(
            budget=self.history.calls + budget, batch=batch, executor=executor, timeout=timeout,
            label=self.name if progress else "",
        )  # fmt: skip

        def take(count: int, budget: int, retries: int, assignment: Assignment) -> list[Trial]:
            return self.take(count, budget, retries, replace(assignment, purpose="refine"))

        run(self._require_problem(), self.journal, take, options)
        return self
