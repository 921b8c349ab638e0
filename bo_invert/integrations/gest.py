"""Generator of the gest-api standard, for optimas and libEnsemble. Needs the extra ``gest``.

https://github.com/campa-consortium/gest-api
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Float, Int, Parameter
from bo_invert.errors import BoInvertError, FailedError, InvalidInputError, require_package
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.storage.base import Store
from bo_invert.strategies.base import Strategy
from bo_invert.study.study import Study
from bo_invert.types import JSON, Trial
from bo_invert.user_data import scalar

with require_package("bo_invert.integrations.gest", "gest-api", "gest"):
    from gest_api import vocs as gest
    from gest_api.generator import Generator

ID = "_id"
"""Key of the number of a trial in suggestions and results."""
_FAILURES = {"xopt_error": "xopt_error_str", "_ignored": "_ignored_reason"}
"""Keys by which Xopt and optimas mark results that are no observations, with their reasons."""


class BoInvertGenerator(Generator):  # type: ignore[misc]  # a class without types
    """Strategy of this library as a generator of the gest-api standard.

    The log of ``study`` holds all suggestions and results. With a storage, a new generator with the
    same arguments continues after a crash.

    Args:
        vocs: variables, one or several objectives, constraints, constants and observables. Several
            objectives are minimised or maximised jointly (``Pareto``). Discrete variables of
            numbers are ordered choices. Observables are recorded, not modelled.
        strategy: name, spec or strategy; see ``Study.create``.
        seed: root of all random choices.
        batch_size: number of points of ``suggest()``.
        storage: storage of the log; None for the memory of this process.
        name: name of the study in the storage.
        options: options of a strategy given by name.

    Raises:
        ValueError: the variables, objectives or constraints are not supported.
    """

    returns_id = True

    def __init__(
        self,
        vocs: gest.VOCS,
        strategy: str | Mapping[str, Any] | Strategy = "auto",
        seed: int = 0,
        batch_size: int = 1,
        storage: str | Store | None = None,
        name: str = "gest",
        **options: JSON,
    ) -> None:
        super().__init__(vocs)
        self.vocs, self.batch_size = vocs, batch_size
        problem = _problem(vocs)
        self._space = problem.space
        try:
            self.study = Study.create(
                name, problem, strategy, seed, storage, exist_ok=True, **options
            )
        except BoInvertError as error:
            raise ValueError(str(error)) from error

    def _validate_vocs(self, vocs: gest.VOCS) -> None:
        _problem(vocs)

    def suggest(self, num_points: int | None = None) -> list[dict[str, Any]]:
        """Return points to evaluate, with constants and the key ``"_id"``.

        Args:
            num_points: number of points; None for the batch size.

        Raises:
            ValueError: the strategy waits for results, or proposes fewer points.
        """
        count = self.batch_size if num_points is None else num_points
        if count < 1:
            return []
        trials = self.study.ask(count)
        if num_points is not None and len(trials) < count:
            for trial in trials:
                self.study.cancel(trial)
            raise ValueError(
                f"strategy {self.study.strategy.name!r} cannot propose {count} points now: it "
                f"waits for the results of {len(self._open())} open ones. Ingest these first."
            )
        return [self._point(trial) for trial in trials]

    def ingest(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Record results of suggested points, by ``"_id"`` or equal variables, and of others.

        A result whose objective or constraint is missing or not finite, or that Xopt or optimas
        mark as an error, is a failure.

        Raises:
            ValueError: an ``"_id"`` is unknown, and nothing is recorded; or a variable is missing.
        """
        known = {trial.number for trial in self.study.trials}
        unknown = [row[ID] for row in results if _number(row) not in {None, *known}]
        if unknown:
            raise ValueError(f"ingest: unknown {ID} {unknown}. Omit {ID} for points of others.")
        waiting = self._open()
        try:
            for row in results:
                self._record(row, waiting)
        except BoInvertError as error:
            raise ValueError(str(error)) from error

    def _record(self, row: Mapping[str, Any], waiting: Mapping[bytes, int]) -> None:
        """Record a result: that of a suggestion, or a further observation."""
        design = {name: row[name] for name in self.vocs.variables if name in row}
        answer, extra = self._answer(row), self._observed(row)
        number = _number(row)
        if number is None:
            with suppress(InvalidInputError):  # points of others may lie out of range
                (point,) = self._space.encode([design])
                number = waiting.get(point.tobytes())
        if number is not None:
            self.study.tell(number, answer, extra=extra or None)
            return
        outputs = (
            dict.fromkeys(self.study.outputs, f"failed: {answer}")
            if isinstance(answer, FailedError)
            else answer
        )
        self.study.add(
            [{**design, **outputs, **extra}], outside="model", repeats="add", errors="raise"
        )

    def finalize(self) -> None:
        """Do nothing: the log holds every result already."""

    def _open(self) -> dict[bytes, int]:
        """Return the numbers of open trials by their points."""
        return {t.point.tobytes(): t.number for t in self.study.trials if t.state.open}

    def _observed(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the observables of a result that are a number or a text."""
        given = {name: scalar(row.get(name)) for name in self.vocs.observables}
        return {name: one for name, one in given.items() if isinstance(one, (int, float, str))}

    def _point(self, trial: Trial) -> dict[str, Any]:
        constants = {name: one.value for name, one in self.vocs.constants.items()}
        return {**cast("dict[str, Any]", trial.design), **constants, ID: trial.number}

    def _answer(self, row: Mapping[str, Any]) -> dict[str, float] | FailedError:
        names = list(dict.fromkeys([*self.vocs.objectives, *self.vocs.constraints]))
        for flag, reason in _FAILURES.items():
            if row.get(flag):
                return FailedError(str(row.get(reason) or "the evaluation failed"))
        values = {name: row.get(name) for name in names}
        absent = [n for n, value in values.items() if value is None or not np.isfinite(value).all()]
        if absent:
            return FailedError(f"no finite value of {', '.join(absent)}")
        return {name: float(np.asarray(value).item()) for name, value in values.items()}


def _number(row: Mapping[str, Any]) -> int | None:
    """Return the number of the trial of a result; None for a point of others."""
    given = row.get(ID)
    missing = given is None or (isinstance(given, float) and math.isnan(given))
    return None if missing else int(given)  # type: ignore[arg-type]


def _problem(vocs: gest.VOCS) -> Problem:
    """Return the problem of a VOCS.

    Raises:
        ValueError: a part is not supported.
    """
    if not vocs.variables or not vocs.objectives:
        raise ValueError("VOCS must define at least one variable and at least one objective")
    objectives = [_objective(name, one) for name, one in vocs.objectives.items()]
    constraints = [bound for name, one in vocs.constraints.items() for bound in _bounds(name, one)]
    try:
        return Problem(
            Box({name: _parameter(name, one) for name, one in vocs.variables.items()}),
            None,
            objectives[0] if len(objectives) == 1 else Pareto(*objectives),
            constraints=constraints,
            outputs=list(dict.fromkeys([*vocs.objectives, *vocs.constraints])),
            name="gest",
        )
    except InvalidInputError as error:
        raise ValueError(f"VOCS: {error}") from error


def _objective(name: str, one: object) -> Objective:
    if isinstance(one, gest.MinimizeObjective):
        return Minimize(name)
    if isinstance(one, gest.MaximizeObjective):
        return Maximize(name)
    raise ValueError(
        f"VOCS: objective {name!r} must be MINIMIZE or MAXIMIZE, got {type(one).__name__}"
    )


def _bounds(name: str, one: gest.BaseConstraint) -> list[OutcomeConstraint]:
    """Return the bounds of an output; they are inclusive."""
    if isinstance(one, gest.LessThanConstraint):
        return [OutcomeConstraint(name, "<=", one.value)]
    if isinstance(one, gest.GreaterThanConstraint):
        return [OutcomeConstraint(name, ">=", one.value)]
    low, high = one.range
    return [OutcomeConstraint(name, ">=", low), OutcomeConstraint(name, "<=", high)]


def _parameter(name: str, one: gest.BaseVariable) -> Parameter:
    if isinstance(one, gest.ContextualVariable):
        raise ValueError(f"VOCS: variable {name!r} is contextual; strategies choose all variables")
    if isinstance(one, gest.DiscreteVariable):
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in one.values)
        values = sorted(one.values, key=None if numbers else repr)
        return Fixed(values[0]) if len(values) == 1 else Choice(values, ordered=numbers)
    low, high = one.domain
    integer = one.dtype in (int, "int", "int32", "int64")
    return Int(low, high) if integer else Float(low, high)
