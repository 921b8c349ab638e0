"""Conversion of search domains, metrics, trials and studies to Ax.

Only the files of this package import Ax. Import them late: Ax takes seconds to load.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.utils.common.string_utils import SYMPY_GLOBALS

from bo_invert.domains.parameters import Choice, Float, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.objectives.pareto import Pareto
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.strategies.ax.parameter_constraints import ax_constraints
from bo_invert.strategies.base import draw_seed, stream_generator
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Array, State, Trial

# Least width of a range, in units of the parameter; by default Ax rejects narrower ones
# (https://ax.dev). A narrower parameter is passed as its coordinate in [0, 1].
_MIN_RANGE = 1.5e-5
# Most values of a step that Ax receives as an ordered choice. Engineering choice: of more values,
# Ax receives the range and its proposals are rounded.
_MAX_LEVELS = 100
# Columns of Ax's tables, which a parameter of this name would overwrite.
_RESERVED = ("metadata", "location", "trial_index", "arm_name", "trial_status", "generation_node")


# --- points and parameters -------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """Parameter of an Ax search space.

    Args:
        name: name in Ax.
        parameter: parameter of this library.
        labels: values of a choice or of a step in Ax; empty for other numbers.
        unit: Ax receives the coordinate in [0, 1] instead of the value, whose range is too narrow.
    """

    name: str
    parameter: VariedParameter
    labels: tuple[Any, ...] = ()
    unit: bool = False

    def config(self) -> RangeParameterConfig | ChoiceParameterConfig:
        """Return the argument of ``configure_experiment`` of Ax."""
        p = self.parameter
        if isinstance(p, Choice) or self.labels:
            kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(self.labels[0])]
            ordered = not isinstance(p, Choice) or p.ordered
            return ChoiceParameterConfig(self.name, list(self.labels), kind, is_ordered=ordered)
        if self.unit:
            return RangeParameterConfig(self.name, (0.0, 1.0), "float")
        kind = "int" if isinstance(p, Int) else "float"
        return RangeParameterConfig(
            self.name, (p.low, p.high), kind, scaling="log" if p.log else "linear"
        )

    def to_ax(self, value: Any) -> Any:
        """Convert a value to that of Ax."""
        if isinstance(self.parameter, Choice):
            return self.labels[self.parameter.values.index(value)]
        if self.unit:
            return float(self.parameter.encode([value])[0, 0])
        return value

    def from_ax(self, value: Any) -> Any:
        """Convert a value of Ax, clipped to the range because of rounding errors."""
        p = self.parameter
        if isinstance(p, Choice):
            return p.values[self.labels.index(value)]
        if self.unit:
            return p.decode(np.array([[float(value)]]))[0]
        return p.nearest(value)


def _axis(name: str, parameter: VariedParameter) -> Axis:
    name = f"{name}_" if name in _RESERVED else name
    if isinstance(parameter, Choice):
        return Axis(name, parameter, _labels(parameter))
    grid = parameter.grid if isinstance(parameter, Float) and not parameter.log else None
    if grid is not None and len(grid) <= _MAX_LEVELS:
        # As Ax does for a range with a step, without the rounding errors of its sums.
        return Axis(name, parameter, tuple(grid))
    return Axis(
        name,
        parameter,
        unit=isinstance(parameter, Float) and parameter.high - parameter.low < _MIN_RANGE,
    )


def _named(axis: Axis, constrained: bool, taken: set[str]) -> Axis:
    """Return an axis whose name is valid in expressions of Ax, if there are constraints."""
    return replace(axis, name=_metric_name(axis.name, taken)) if constrained else axis


def _labels(choice: Choice) -> tuple[Any, ...]:
    """Return values of one type in their order, which Ax retains for strings only."""
    values, kinds = choice.values, {type(value) for value in choice.values}
    if kinds in ({bool}, {str}):
        return values
    if kinds in ({int}, {float}, {int, float}) and (
        not choice.ordered or list(values) == sorted(values)
    ):
        return values if kinds == {int} else tuple(float(value) for value in values)
    # A choice in Ax has values of one type; repr distinguishes 1 and '1'.
    return tuple(repr(value) for value in values)


class Frame:
    """Conversion between points and Ax parameters; those of a latent are ``z0, z1, ...``.

    Ax receives conditional parameters in all trials, inactive ones with their default value. Names
    that are not valid in parameter constraints change, with ``rename``, if there are constraints.
    """

    def __init__(self, domain: Domain, rename: bool = True) -> None:
        self.domain = domain
        rename = rename and bool(domain.constraints)
        self.constraints = ax_constraints(domain)
        taken: set[str] = set()
        self.named = {
            name: _named(_axis(name, parameter), rename, taken)
            for name, parameter in domain.axes.items()
            if name not in self.constraints.determined
        }
        self.axes = tuple(self.named.values())

    @property
    def parameter_constraints(self) -> list[str]:
        """Linear inequalities in the words of Ax."""
        return self.constraints.texts({name: axis.name for name, axis in self.named.items()})

    def to_ax(self, point: Array) -> dict[str, Any]:
        """Return the parameters of a point ``(d,)``; those of a latent may exceed Ax's bounds."""
        values = self.domain.named(point)
        return {axis.name: axis.to_ax(values[name]) for name, axis in self.named.items()}

    def from_ax(self, parameters: Mapping[str, Any]) -> Array:
        """Return the point ``(d,)`` of parameters, projected to the domain."""
        values = {name: axis.from_ax(parameters[axis.name]) for name, axis in self.named.items()}
        return self.domain.point(self.constraints.completed(values))


# --- outputs and metrics ---------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """Metrics of an Ax experiment.

    Args:
        outputs: names of the outputs in Ax, in their order.
        derived: names of metrics that are no outputs: the loss, or criteria of a ``Pareto``
            objective, each with its position among the losses of ``criteria``.
        criteria: objective whose losses are the derived metrics; None for the loss of the trial.
        objective: expression that Ax maximises: ``"y"`` or ``"-y"``.
        constraints: expressions such as ``"confidence >= 0.9"``.
        used: names in the objective and the constraints.
    """

    outputs: tuple[str, ...]
    derived: tuple[tuple[str, int], ...]
    objective: str
    constraints: tuple[str, ...]
    used: tuple[str, ...]
    criteria: Pareto | None = None

    def values(self, trial: Trial, all_outputs: bool) -> dict[str, float]:
        """Return the metric values of a completed trial."""
        assert trial.y is not None
        assert trial.loss is not None
        values = {
            name: float(value)
            for name, value in zip(self.outputs, trial.y, strict=True)
            if all_outputs or name in self.used
        }
        losses = [trial.loss] if self.criteria is None else self.criteria.losses(trial.y)
        return values | {name: float(losses[position]) for name, position in self.derived}


def metrics_of(statement: ProblemStatement, parameters: Sequence[str]) -> Metrics:
    """Return the metrics of a problem statement.

    ``Minimize`` and ``Maximize`` become the output, and ``Pareto`` several metrics. Ax has no
    composite objectives and no constraint on its objective; in these cases the loss is a metric of
    its own.
    """
    taken = {*parameters, *_RESERVED}
    outputs = tuple(_metric_name(name, taken) for name in statement.outputs)
    # repr prints the shortest digits that identify a float, so the bound is exact.
    constraints = tuple(f"{outputs[c.index]} {c.sense} {c.bound!r}" for c in statement.constraints)
    constrained = tuple(dict.fromkeys(outputs[c.index] for c in statement.constraints))
    objective = statement.objective
    if isinstance(objective, (Minimize, Maximize)) and outputs[objective.index] not in constrained:
        name = outputs[objective.index]
        sign = "-" if isinstance(objective, Minimize) else ""
        return Metrics(outputs, (), f"{sign}{name}", constraints, (name, *constrained))
    if isinstance(objective, Pareto):
        return _criteria_metrics(objective, outputs, constraints, constrained, taken)
    loss = _metric_name("loss", taken)
    return Metrics(outputs, ((loss, 0),), f"-{loss}", constraints, (loss, *constrained))


def _criteria_metrics(
    pareto: Pareto,
    outputs: tuple[str, ...],
    constraints: tuple[str, ...],
    constrained: tuple[str, ...],
    taken: set[str],
) -> Metrics:
    """Return the metrics of several criteria; a reference becomes an objective threshold.

    A criterion is an output, unless it is a target or a function, or its output is constrained.
    """
    derived, objectives, thresholds, used = list[tuple[str, int]](), [], [], list[str]()
    rows = zip(pareto.objectives, pareto.labels, pareto.signs, pareto.reference, strict=True)
    for position, (one, label, sign, reference) in enumerate(rows):
        index = getattr(one, "index", None)
        name = "" if index is None else outputs[index]
        if index is None or name in (*constrained, *used):
            # Ax minimises the loss of the criterion.
            name, reference = (
                _metric_name(label, taken),
                None if reference is None else sign * reference,
            )
            derived.append((name, position))
            sign = 1.0
        used.append(name)
        objectives.append(f"-{name}" if sign > 0 else name)
        if reference is not None:
            sense = "<=" if sign > 0 else ">="
            thresholds.append(f"{name} {sense} {float(reference)!r}")
    return Metrics(
        outputs, tuple(derived), ", ".join(objectives), (*constraints, *thresholds),
        (*used, *constrained), pareto,
    )  # fmt: skip


def _metric_name(name: str, taken: set[str]) -> str:
    """Return an unused name that is valid in expressions of Ax.

    Names of sympy, keywords of Python and ``baseline`` have other meanings there.
    """
    safe = re.sub(r"\W|__+", "_", name, flags=re.ASCII).replace("baseline", "base_line")
    if not safe.isidentifier() or keyword.iskeyword(safe) or safe in SYMPY_GLOBALS:
        safe = f"m_{safe}"
    # The replacement may map different names to one, such as 'a-b' and 'a b'.
    while safe in taken:
        safe += "_m"
    taken.add(safe)
    return safe


# --- trials and clients ----------------------------------------------------------------------


def client_from(
    statement: ProblemStatement,
    trials: Sequence[Trial],
    *,
    seed: int | None = None,
    all_outputs: bool = False,
    abandon_failed: bool = False,
) -> Client:
    """Build an Ax ``Client`` with all trials; trial k of the log is trial k in Ax.

    Args:
        statement: source of search space, objective and outcome constraints.
        trials: trials; infeasible ones are abandoned in Ax, pending ones running. Points of a
            latent may exceed the bounds of Ax, which models them all the same.
        seed: seed of the proposals of Ax.
        all_outputs: attach the remaining outputs as tracking metrics; Ax fits a model to each.
        abandon_failed: failed trials are abandoned too, so that Ax does not propose them again.
    """
    frame = Frame(statement.domain)
    names = [axis.name for axis in frame.axes]
    metrics = metrics_of(statement, names)
    with quiet("ax"):
        client = Client(random_seed=seed)
        client.configure_experiment(
            [axis.config() for axis in frame.axes],
            parameter_constraints=frame.parameter_constraints,
            name=statement.name,
        )
        client.configure_optimization(metrics.objective, list(metrics.constraints))
        if all_outputs:
            client.configure_tracking_metrics(
                [name for name in metrics.outputs if name not in metrics.used]
            )
        for trial in trials:
            index = client.attach_trial(frame.to_ax(trial.point))
            if trial.state is State.COMPLETED:
                client.complete_trial(index, metrics.values(trial, all_outputs))
            elif trial.state is State.FAILED and not abandon_failed:
                client.mark_trial_failed(index, trial.outcome.reason if trial.outcome else None)
            elif not trial.state.open:
                client.mark_trial_abandoned(index)
    return client


def to_ax(statement: ProblemStatement, trials: Sequence[Trial], seed: int = 0) -> Client:
    """Convert a study to an Ax ``Client`` with all trials and outputs.

    Analyses, summaries, predictions and storage of Ax work on it, and ``get_next_trials``
    continues the search. A structured objective is a metric of its own.

    Args:
        statement: problem statement.
        trials: trials of the study.
        seed: seed of the study.
    """
    client = client_from(
        statement, trials, seed=draw_seed(stream_generator(seed)), all_outputs=True
    )
    with quiet("ax"):
        client.configure_generation_strategy(allow_exceeding_initialization_budget=True)
    return client
