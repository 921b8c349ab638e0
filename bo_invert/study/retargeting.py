"""New study for another objective, on the observations of an existing one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import FailedError, InfeasibleError, InvalidInputError, StudyExistsError
from bo_invert.history import History
from bo_invert.objectives.base import Objective
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.nearest import Nearest
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.target import Target
from bo_invert.problems.json_declaration import DeclaredProblem, declaration_of
from bo_invert.problems.problem import Problem
from bo_invert.problems.recorded_versions import provenance
from bo_invert.storage.base import Store
from bo_invert.storage.log_replay import event
from bo_invert.storage.trial_transitions import ANSWERED
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.strategies.requirements import require_support
from bo_invert.study.header import buildable_strategy, check_unchanged, new_header
from bo_invert.study.posterior import PosteriorRequest
from bo_invert.study.results import StudyResults
from bo_invert.types import INTERVALS, JSON, Cost, Outcome, Query, State, Trial
from bo_invert.user_code import own_settings
from bo_invert.user_data import whole_number

if TYPE_CHECKING:
    from bo_invert.study.predicted_solution import PredictedSolution

T = TypeVar("T")
_log = logging.getLogger(__name__)
_DATA = "data"
"""Origin of observations that no strategy of the study proposed, as of ``Study.add``."""
_REGISTERED = "registered"
"""Field of a header: name of the problem on the server of the study."""


@dataclass(frozen=True)
class StudySource:
    """Study whose observations another one began with.

    Args:
        study: Name of the study.
        id: Identifier of the study; None for one of an old version.
        trials: Number of trials that were taken.
    """

    study: str
    id: str | None
    trials: int


class StudyRetargeting(StudyResults):
    """Further studies on the observations of a study."""

    _store: Store

    @property
    def source(self) -> StudySource | None:
        """Study whose observations this one began with; None without one."""
        known = (self.journal.header.get("provenance") or {}).get("source")
        return None if known is None else StudySource(**known)

    @own_settings()
    def retarget(
        self,
        objective: Objective | object,
        name: str | None = None,
        *,
        strategy: str | Mapping[str, Any] | Strategy | None = None,
        constraints: str | OutcomeConstraint | Sequence[str | OutcomeConstraint] | None = None,
        tolerance: ArrayLike | Mapping[str, float] | None = None,
        seed: int | None = None,
        exist_ok: bool = False,
    ) -> Self:
        """Create a study for another objective over the same outputs, with all observations.

        The new study is in the same storage. Losses and violations of the observations are computed
        again for the new objective. The observations cost nothing there, and its log names the
        study and the trial of each. ``source`` and the provenance name this study. Observations
        that this study receives later, and its open trials, are not taken. A chain of such studies
        holds each observation once.

        ``predicted_solution`` then answers without a call.

        Args:
            objective: Objective, such as ``Target``, ``Minimize`` or ``Pareto``; or the value of a
                new ``Target``: a number, a vector, or numbers and ranges by name.
            name: Name of the new study. Default: this name with the next free number.
            strategy: Strategy, as in ``create``. Default: that of this study.
            constraints: Outcome constraints. Default: those of this study, without those that a
                ``Nearest`` objective makes of its target.
            tolerance: Tolerance of a target that is given by its value, as of ``Target``. Default:
                that of the same outputs in the target of this study, also that of ``Nearest``,
                whose scales are taken too.
            seed: Root of all random choices. Default: that of this study plus 1.
            exist_ok: Open the study if it exists, so that the same script starts and resumes.

        Returns:
            The new study.

        Raises:
            InvalidInputError: An output is not recorded, an argument is invalid, or the study was
                opened without its problem.
            StudyExistsError: The name is taken.
            UnsuitableStrategyError: The strategy does not support the objective.
        """
        known = self._require_problem()
        wanted = _objective(known, objective, tolerance)
        problem = with_objective(known, wanted, constraints)
        chosen = self._strategy_for(strategy)
        require_support(chosen, problem.statement)
        seed = whole_number("retarget", "seed", self.seed + 1 if seed is None else seed, least=0)
        taken = [trial for trial in self.journal.trials if trial.state in ANSWERED]
        queries, outcomes = transferred(self.name, known, problem, taken)
        source: JSON = {
            "study": self.name, "id": self.journal.header.get("id"), "trials": len(taken),
        }  # fmt: skip
        made_with = provenance(problem.oracle, problem.space) | {"source": source}
        header = new_header(problem, chosen, seed, made_with=made_with)
        header |= {key: known for key, known in self.journal.header.items() if key == _REGISTERED}
        if getattr(self._store, "declares", False) or self.journal.header.get("declared"):
            header["declared"] = declaration_of(problem)
        make: Any = type(self)
        try:
            made = self._create(header, name, _added(queries, outcomes))
            study: Self = make(made, self._store, problem, chosen)
        except StudyExistsError:
            if not exist_ok:
                raise
            study = make(name, self._store, problem, chosen)
            self._check_same(study, header)
        # A server creates empty studies. The key makes a repeated request harmless.
        begun = 0 if study.source is None else study.source.trials
        if len(study.journal.trials) < begun:
            study.journal.add(queries, outcomes, key=f"retarget {self.name}"[:100])
        _log.info("study %r: %d trials of study %r", study.name, len(taken), self.name)
        return study

    @own_settings()
    def predicted_solution(
        self, *, tolerance: float | None = None, seed: int = 0
    ) -> PredictedSolution:
        """Return the design that most probably meets the target, without a call.

        Gaussian processes of the outputs predict it from all observations; see the strategy
        ``retarget``. An observed design that meets the target comes first, if calls are exact.

        Args:
            tolerance: Tolerance of a target without one, in the units of the outputs. Default: 1 %
                of the least standard deviation of the observed outputs.
            seed: Seed of the starts of the search.

        Raises:
            InvalidInputError: The objective is no ``Target``, there are fewer than two
                observations, or the study was opened without its problem.
        """
        from bo_invert.study.predicted_solution import predict_solution

        problem = self._require_problem()
        statement, history = self.statement, History(self.journal.trials)
        seed = whole_number("predicted_solution", "seed", seed, least=0)
        request = PosteriorRequest(1, tolerance, None, seed)
        noisy = self._model_noise(statement, history)
        found = predict_solution(statement, history, noisy, request)
        trial = None if found.trial is None else self._with_designs([self.trials[found.trial]])[0]
        design = problem.decode(found.point) if trial is None else trial.design
        return replace(found, design=design)

    def _strategy_for(self, strategy: str | Mapping[str, Any] | Strategy | None) -> Strategy:
        """Return the strategy of a new study.

        Raises:
            InvalidInputError: The strategy of this study cannot be built.
        """
        own = vars(self).get("strategy") or buildable_strategy(self.journal.header)
        if strategy is None and own is None:
            raise InvalidInputError(
                f"retarget: the strategy of study {self.name!r} must be installed. Pass strategy="
            )
        return from_spec(own if strategy is None else strategy)

    def _create(self, header: JSON, name: str | None, given: list[JSON]) -> str:
        """Create the study with its first events under a name, or under the next free one."""
        events = given if getattr(self._store, "journal", None) is None else []
        if name is not None:
            self._store.create(name, header, events)
            return name
        stem, _, last = self.name.rpartition(" ")
        numbered = bool(stem) and last.isdecimal()
        for number in count(int(last) + 1 if numbered else 2):
            free = f"{stem if numbered else self.name} {number}"
            try:
                self._store.create(free, header, events)
            except StudyExistsError:
                continue
            return free
        raise AssertionError("numbers do not end")

    def _check_same(self, study: Self, header: JSON) -> None:
        """Check that an existing study is the one to create.

        Raises:
            InvalidInputError: Its problem, strategy, seed or source differs.
        """
        known = study.journal.header
        for field in ("problem", "strategy", "seed"):
            check_unchanged(study.name, field, known[field], header[field])
        source = None if study.source is None else study.source.study
        check_unchanged(study.name, "source", source, self.name)


def with_objective(
    problem: Problem,
    objective: Objective,
    constraints: str | OutcomeConstraint | Sequence[str | OutcomeConstraint] | None = None,
) -> Problem:
    """Return a problem with another objective, and other outcome constraints unless None.

    Raises:
        InvalidInputError: Objective or constraints read an output that the problem does not have.
    """
    rules = _own_constraints(problem) if constraints is None else constraints
    make: Callable[..., Problem] = Problem
    if isinstance(problem, DeclaredProblem):
        make = partial(DeclaredProblem, differentiable=problem.differentiable)
    return _recorded(
        problem,
        lambda: make(
            problem.space, problem.oracle, objective, constraints=rules,
            outputs=problem.output_names.oracle, name=problem.name, judge=problem.judge,
            draw=problem.draw, realism=problem.realism, reuse=problem.reuse,
            plausibility=problem.plausibility, units=problem.units,
            input_noise=problem.input_noise,
        ),
    )  # fmt: skip


def _own_constraints(problem: Problem) -> tuple[OutcomeConstraint, ...]:
    """Return the outcome constraints of a problem without those of its objective."""
    objective = problem.objective
    if not isinstance(objective, Nearest):
        return problem.constraints
    return objective.without_bounds(problem.constraints, problem.output_names.oracle)


def logged_problem(header: JSON, problem: Problem) -> Problem:
    """Return the problem of a study, with objective and constraints of the log if retargeted.

    Args:
        header: Header of the study.
        problem: Problem of the user, perhaps with the objective of the former study.
    """
    source, stored = (header.get("provenance") or {}).get("source"), header["problem"]
    known, objective = problem.to_json(), stored["objective"]
    parts = ("objective", "constraints")
    if source is None or all(known[part] == stored[part] for part in parts):
        return problem
    # The caller reports other outputs, and functions, which the log does not hold.
    recorded = set(problem.output_names.oracle) <= set(stored["outputs"])
    if objective["type"] == "composite" or not recorded:
        return problem
    return with_objective(problem, objective_from_json(objective), stored["constraints"])


def transferred(
    name: str, before: Problem, after: Problem, trials: Sequence[Trial]
) -> tuple[list[Query], list[Outcome]]:
    """Return answered trials as observations of a problem with another objective.

    Args:
        name: Name of their study.
        before: Its problem.
        after: Problem with the new objective.
        trials: Answered trials.
    """
    queries, outcomes = [], []
    for trial in trials:
        known, outputs = trial.outcome, before.output_names.oracle
        assert known is not None
        answer: object = {}
        if trial.state is State.COMPLETED and trial.y is not None:
            answer = dict(zip(before.outputs, np.asarray(trial.y).tolist(), strict=True))
            answer = {output: answer[output] for output in outputs}
        elif trial.state is State.INFEASIBLE:
            answer = InfeasibleError(trial.reason)
        else:
            answer = FailedError(trial.reason)
        outcome = after.outcome(answer, Cost(), trial.point)
        outcome = replace(outcome, extra=known.extra, outside=known.outside)
        meta = trial.query.meta
        made: dict[str, JSON] = {
            "source": meta.get("source", {"study": name, "trial": trial.number})
        }
        # Intervals of outputs continue the calibration; those of a former loss do not.
        spans = {key: span for key, span in meta.get(INTERVALS, {}).items() if key in outputs}
        if spans and not trial.moved:
            made[INTERVALS] = spans
        queries.append(Query(trial.point, origin=_DATA, meta=made, design=trial.exact_design))
        outcomes.append(outcome)
    return queries, outcomes


def _added(queries: Sequence[Query], outcomes: Sequence[Outcome]) -> list[JSON]:
    """Return the event of observations; none without any."""
    if not queries:
        return []
    return [
        event(
            "added", queries=[query.to_json() for query in queries],
            outcomes=[outcome.to_json() for outcome in outcomes],
        )
    ]  # fmt: skip


def _objective(problem: Problem, given: object, tolerance: object) -> Objective:
    """Return the new objective; a value is a target with tolerances and scales of the known one."""
    if isinstance(given, Objective):
        if tolerance is not None:
            raise InvalidInputError(
                "retarget: tolerance belongs to a target that is given by its value, got "
                f"{given}. Write Target(value, tolerance=...)"
            )
        return given
    former = problem.objective
    former = former.target if isinstance(former, Nearest) else former
    value = cast("Any", _of_former(problem, former, given))
    # Outputs that the former objective derives, such as a change, follow those of the oracle.
    names = problem.output_names.oracle
    indices = _recorded(problem, lambda: Target(value).bind(names)).indices
    if not isinstance(former, Target):
        return Target(value, cast("Any", 0.0 if tolerance is None else tolerance))
    known = dict(
        zip(former.indices, zip(former.tolerances, former.scale, strict=True), strict=True)
    )
    missing = [problem.outputs[index] for index in indices if index not in known]
    if missing and tolerance is None:
        raise InvalidInputError(
            f"retarget: tolerance must be given, because the target of the study has none for "
            f"{missing}. Pass tolerance="
        )
    scales = [known[index][1] if index in known else 1.0 for index in indices]
    own = [known[index][0] for index in indices] if tolerance is None else tolerance
    return Target(value, cast("Any", own), scales)


def _of_former(problem: Problem, former: Objective, value: object) -> object:
    """Return a vector of as many values as the former target has by their names, else the value.

    A vector of all outputs of the oracle stays in their order.
    """
    if not isinstance(former, Target) or isinstance(value, Mapping):
        return value
    names = [problem.outputs[index] for index in former.indices[: former.entries.wanted]]
    numbers = np.asarray(value, dtype=object)
    if numbers.ndim > 1 or numbers.size != len(names):
        return value
    if len(names) == len(problem.output_names.oracle):
        return value
    return dict(zip(names, numbers.ravel().tolist(), strict=True))


def _recorded(problem: Problem, make: Callable[[], T]) -> T:
    """Return what a function makes; its error also lists the recorded outputs."""
    try:
        return make()
    except InvalidInputError as error:
        raise InvalidInputError(
            f"retarget: {str(error).rstrip('.')}. The study recorded the outputs "
            f"{list(problem.output_names.oracle)}"
        ) from error
