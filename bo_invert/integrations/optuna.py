"""Sampler of Optuna that proposes with strategies of this library. Needs the extra ``optuna``."""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.errors import FailedError, InvalidInputError, require_package
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.problems.problem import Problem
from bo_invert.spaces.box import Box
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.study.study import Study
from bo_invert.types import JSON, Trial

with require_package("bo_invert.integrations.optuna", "optuna", "optuna"):
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.samplers import BaseSampler, RandomSampler
    from optuna.search_space import IntersectionSearchSpace
    from optuna.trial import FrozenTrial, TrialState

Space = dict[str, BaseDistribution]
"""Distributions by the names of the parameters."""
Key = tuple[Space, tuple[optuna.study.StudyDirection, ...], tuple[str, ...]]
"""Distributions, directions of the objectives, and names of the constraints."""
Value: TypeAlias = Any
"""Value of a parameter in Optuna; that of a choice may be any object."""
# Attribute of a trial under which samplers of Optuna store the result of ``constraints_func``.
_CONSTRAINTS = "constraints"


class BoInvertSampler(BaseSampler):
    """Strategy of this library as a sampler of Optuna (Akiba et al. 2019).

    Parameters of all completed trials are proposed jointly. Others (of the first trials, and of
    branches of a dynamic space) are drawn independently. Several objectives are one ``Pareto``
    problem. Trials are used as follows:

    - completed: observations, with constraints as outputs that must not exceed 0;
    - pruned: observations of their last intermediate value, but never better than the median of
      the completed trials; failures without one;
    - failed: failures, which are not proposed again;
    - running, also of other workers: pending points.

    Args:
        strategy: name, spec or strategy; see ``Study.create``.
        seed: seed of the strategy and of the independent sampler; None for a random one.
        search_space: distributions of the jointly proposed parameters; None for those of all
            completed trials, so that the first trial is independent.
        constraints_func: function from a trial to constraints, which are satisfied if not above 0.
            ``Trial.set_constraint`` needs none.
        independent_sampler: sampler of the other parameters; default: ``RandomSampler``.
        options: options of a strategy given by name.
    """

    def __init__(
        self,
        strategy: str | Mapping[str, Any] | Strategy = "auto",
        *,
        seed: int | None = None,
        search_space: Space | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        independent_sampler: BaseSampler | None = None,
        **options: JSON,
    ) -> None:
        from_spec(strategy, **options)  # fails for an unknown name or option
        self._strategy, self._options = strategy, options
        fresh = np.random.SeedSequence().generate_state(1)
        self._seed = int(fresh[0]) if seed is None else seed
        self._given = search_space
        self._constraints_func = constraints_func
        self._independent = independent_sampler or RandomSampler(seed=self._seed)
        self._intersection = IntersectionSearchSpace()
        self._mirror: _Mirror | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        # A copy builds its own mirror of the log.
        return {**vars(self), "_mirror": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Space:
        if self._given is not None:
            return {name: one for name, one in self._given.items() if not one.single()}
        found = self._intersection.calculate(study)
        return {name: one for name, one in found.items() if not one.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Space
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        with self._lock:
            trials = study.get_trials(deepcopy=False)
            directions = tuple(study.directions)
            names = _constraint_names(trials)
            key = (search_space, directions, names)
            if self._mirror is None or self._mirror.key != key:
                self._mirror = _Mirror(key, self._create)
            self._mirror.update([one for one in trials if one.number != trial.number])
            return self._mirror.ask(trial.number)

    def _create(self, problem: Problem) -> Study:
        return Study.create("optuna", problem, self._strategy, self._seed, **self._options)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Value:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._independent.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self._constraints_func is not None and state in (TrialState.COMPLETE, TrialState.PRUNED):
            found = tuple(float(value) for value in self._constraints_func(trial))
            if any(math.isnan(value) for value in found):
                raise ValueError("Constraint values cannot be NaN.")
            study._storage.set_trial_system_attr(trial._trial_id, _CONSTRAINTS, found)
        self._independent.after_trial(study, trial, state, values)


class _Mirror:
    """Study of this library with the trials of a study of Optuna.

    Args:
        key: distributions of the parameters, direction of each objective, names of the constraints.
        create: function from a problem to a study.
    """

    def __init__(self, key: Key, create: Callable[[Problem], Study]) -> None:
        self.key = key
        space, directions, constraints = key
        self._axes = {name: _Axis(one) for name, one in space.items()}
        self._values = [f"objective {i}" for i in range(len(directions))]
        self._limits = [f"constraint {name}" for name in constraints]
        self._names = constraints
        self._signs = [
            1.0 if one == optuna.study.StudyDirection.MINIMIZE else -1.0 for one in directions
        ]
        goals: list[Objective] = [
            Minimize(name) if sign > 0 else Maximize(name)
            for name, sign in zip(self._values, self._signs, strict=True)
        ]
        problem = Problem(
            Box({name: axis.parameter for name, axis in self._axes.items()}),
            None,
            goals[0] if len(goals) == 1 else Pareto(*goals),
            constraints=[OutcomeConstraint(name, "<=", 0.0) for name in self._limits],
            outputs=[*self._values, *self._limits],
            name="optuna",
        )
        self._study = create(problem)
        self._trials: dict[int, Trial] = {}
        """Open trials by the number in Optuna."""
        self._done: set[int] = set()
        self._own: set[int] = set()

    def ask(self, number: int) -> dict[str, Any]:
        """Return values for a trial of Optuna; none if the strategy waits for other results."""
        for trial in self._study.ask(1):
            self._trials[number] = trial
            self._own.add(number)
            design: Mapping[str, Any] = trial.design
            return {name: axis.to_optuna(design[name]) for name, axis in self._axes.items()}
        return {}

    def update(self, trials: Sequence[FrozenTrial]) -> None:
        """Record new, running and finished trials of Optuna."""
        known = [t for t in trials if t.number not in self._done and self._covers(t)]
        for trial in known:
            if trial.state == TrialState.RUNNING and trial.number not in self._trials:
                self._start(trial)
        for trial in known:
            if trial.state.is_finished():
                self._finish(trial, self._answer(trial, trials))

    def _covers(self, trial: FrozenTrial) -> bool:
        """Return True if a trial has all parameters, within the present distributions."""
        if trial.number in self._own and trial.state.is_finished():
            return True
        return all(
            name in trial.params and axis.holds(trial.params[name])
            for name, axis in self._axes.items()
        )

    def _design(self, trial: FrozenTrial) -> dict[str, Any]:
        return {name: axis.from_optuna(trial.params[name]) for name, axis in self._axes.items()}

    def _start(self, trial: FrozenTrial) -> None:
        """Record a running trial of another worker as a pending point."""
        self._study.enqueue(self._design(trial))
        for one in self._study.ask(1):
            self._trials[trial.number] = one

    def _finish(self, trial: FrozenTrial, answer: dict[str, float] | FailedError) -> None:
        self._done.add(trial.number)
        pending = self._trials.pop(trial.number, None)
        complete = all(
            name in trial.params and axis.holds(trial.params[name])
            for name, axis in self._axes.items()
        )
        if pending is None:
            self._study.add([self._design(trial)], [answer])
        elif not complete:  # a failure before all parameters were read
            self._study.tell(pending, answer)
        else:
            # Optuna may have replaced values, for example by those of ``enqueue_trial``.
            design = self._design(trial)
            self._study.tell(pending, answer, at=None if design == pending.design else design)

    def _answer(
        self, trial: FrozenTrial, trials: Sequence[FrozenTrial]
    ) -> dict[str, float] | FailedError:
        values = trial.values
        if trial.state == TrialState.PRUNED and trial.intermediate_values and len(self._signs) == 1:
            last = trial.intermediate_values[max(trial.intermediate_values)]
            values = [self._pruned(last, trials)]
        if values is None or not np.isfinite(values).all():
            return FailedError(f"trial {trial.number} of Optuna is {trial.state.name.lower()}")
        limits = trial.constraints
        if set(limits) != set(self._names):
            return FailedError(f"trial {trial.number} of Optuna has constraints {list(limits)}")
        outputs = dict(zip(self._values, map(float, values), strict=True))
        named = zip(self._limits, self._names, strict=True)
        return outputs | {output: limits[name] for output, name in named}

    def _pruned(self, last: float, trials: Sequence[FrozenTrial]) -> float:
        """Return an intermediate value, or the median of completed trials if that is worse."""
        (sign,) = self._signs
        finished = [t.value for t in trials if t.state == TrialState.COMPLETE]
        losses = [sign * value for value in finished if value is not None]
        return sign * max([sign * last, *([statistics.median(losses)] if losses else [])])


class _Axis:
    """Parameter of a distribution of Optuna.

    Values of a choice are positions, because Optuna allows None and other objects.
    """

    def __init__(self, distribution: BaseDistribution) -> None:
        self._distribution = distribution
        self.parameter = _parameter(distribution)

    def holds(self, value: object) -> bool:
        """Return True for a value of the distribution."""
        one = self._distribution
        if isinstance(one, CategoricalDistribution):
            return value in one.choices
        inner = one.to_internal_repr(value)
        return bool(one._contains(inner))

    def to_optuna(self, value: Value) -> Value:
        """Return the value for Optuna of a value of the parameter."""
        one = self._distribution
        if isinstance(one, CategoricalDistribution):
            return one.choices[value]
        return int(value) if isinstance(one, IntDistribution) else float(value)

    def from_optuna(self, value: Value) -> Value:
        """Return the value of the parameter for one of Optuna, which may have rounding errors."""
        one = self._distribution
        if isinstance(one, CategoricalDistribution):
            return int(one.to_internal_repr(value))
        assert not isinstance(self.parameter, Choice)
        return self.parameter.nearest(value)


def _parameter(one: BaseDistribution) -> Float | Int | Choice:
    if isinstance(one, CategoricalDistribution):
        return Choice(range(len(one.choices)))
    if isinstance(one, IntDistribution) and one.step == 1:
        return Int(one.low, one.high, log=one.log)
    if not isinstance(one, (FloatDistribution, IntDistribution)):
        raise InvalidInputError(f"BoInvertSampler: {type(one).__name__} is not supported")
    return Float(one.low, one.high, log=one.log, step=one.step)


def _constraint_names(trials: Sequence[FrozenTrial]) -> tuple[str, ...]:
    """Return the names of the constraints in the completed trials, sorted."""
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return tuple(sorted({name for trial in finished for name in trial.constraints}))
