"""From this library to Ax: search spaces, metrics, trials, a whole study as a ``Client``.

This file, ``ax_node.py`` (the other way) and ``strategies/ax.py`` are the only ones that know Ax. Import them late: Ax
takes seconds to load.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.utils.common.string_utils import SYMPY_GLOBALS

from bo_invert.objectives import Maximize, Minimize
from bo_invert.parameters import Choice, Float, Int, Parameter
from bo_invert.problem_statement import ProblemStatement
from bo_invert.search_domain import Domain
from bo_invert.strategies.base import draw_seed, stream_generator
from bo_invert.strategies.library_warnings import quiet
from bo_invert.types import Array, State, Trial

#: Ax refuses ranges narrower than this; such a parameter is handed over as its coordinate in [0, 1].
_NARROWEST = 1.5e-5
#: Columns of Ax's own tables; a parameter of this name would overwrite them.
_RESERVED = ("metadata", "location", "trial_index", "arm_name", "trial_status", "generation_node")


# Points and parameters -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One parameter as Ax sees it.

    Args:
        name: in Ax.
        parameter: in this library.
        labels: what Ax calls the values of a choice; empty for numbers.
        unit: Ax sees the coordinate in [0, 1] instead of the value, because it refuses so narrow a range.
    """

    name: str
    parameter: Parameter
    labels: tuple[Any, ...] = ()
    unit: bool = False

    def config(self) -> RangeParameterConfig | ChoiceParameterConfig:
        """How Ax's ``configure_experiment`` wants it."""
        p = self.parameter
        if isinstance(p, Choice):
            kind = {bool: "bool", int: "int", float: "float", str: "str"}[type(self.labels[0])]
            return ChoiceParameterConfig(self.name, list(self.labels), kind, is_ordered=p.ordered)
        if self.unit:
            return RangeParameterConfig(self.name, (0.0, 1.0), "float")
        kind = "int" if isinstance(p, Int) else "float"
        return RangeParameterConfig(
            self.name, (p.low, p.high), kind, scaling="log" if p.log else "linear"
        )

    def to_ax(self, value: Any) -> Any:
        """Ax's word for a value."""
        if isinstance(self.parameter, Choice):
            return self.labels[self.parameter.values.index(value)]
        if self.unit:
            return float(self.parameter.encode([value])[0, 0])
        return value

    def from_ax(self, word: Any) -> Any:
        """The value Ax means; what lies beyond the range by a rounding error is brought back."""
        p = self.parameter
        if isinstance(p, Choice):
            return p.values[self.labels.index(word)]
        if self.unit:
            return p.decode(np.array([[float(word)]]))[0]
        return min(max(word, p.low), p.high)


def _axis(name: str, parameter: Parameter) -> Axis:
    name = f"{name}_" if name in _RESERVED else name
    if isinstance(parameter, Choice):
        return Axis(name, parameter, _labels(parameter))
    return Axis(
        name,
        parameter,
        unit=isinstance(parameter, Float) and parameter.high - parameter.low < _NARROWEST,
    )


def _labels(choice: Choice) -> tuple[Any, ...]:
    """Values as Ax takes them: of one type, and in their own order, which Ax keeps for strings only."""
    values, kinds = choice.values, {type(value) for value in choice.values}
    if kinds in ({bool}, {str}):
        return values
    if kinds in ({int}, {float}, {int, float}) and (
        not choice.ordered or list(values) == sorted(values)
    ):
        return values if kinds == {int} else tuple(float(value) for value in values)
    return tuple(repr(value) for value in values)


class Frame:
    """The coordinates of a domain and Ax's parameters: typed ones for a box, ``z0, z1, ...`` for a latent."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        if domain.parameters:
            self.axes = tuple(
                _axis(name, parameter) for name, parameter in domain.parameters.items()
            )
        else:
            lower, upper = domain.bounds
            self.axes = tuple(
                Axis(f"z{i}", Float(float(lower[i]), float(upper[i]))) for i in range(domain.dim)
            )

    @property
    def configs(self) -> list[Any]:
        """One per parameter, as Ax's ``configure_experiment`` wants them."""
        return [axis.config() for axis in self.axes]

    def to_ax(self, point: Array) -> dict[str, Any]:
        """The parameters of one point ``(d,)``; those of a latent may lie beyond Ax's bounds."""
        if not self.domain.parameters:
            return {axis.name: float(z) for axis, z in zip(self.axes, point, strict=True)}
        values = self.domain.values(point[None])[0]
        return {
            axis.name: axis.to_ax(v) for axis, v in zip(self.axes, values.values(), strict=True)
        }

    def from_ax(self, parameters: Mapping[str, Any]) -> Array:
        """The point ``(d,)`` of parameters, projected onto the domain."""
        values = [axis.from_ax(parameters[axis.name]) for axis in self.axes]
        if self.domain.parameters:
            names = self.domain.parameters
            point = self.domain.encode([dict(zip(names, values, strict=True))])[0]
        else:
            point = np.array(values, dtype=float)
        return self.domain.project(point)


# Outputs and metrics ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """Outputs, loss and constraints in Ax's words.

    Args:
        outputs: name of each output in Ax, in the order of the outputs.
        loss: name of the metric that holds the loss; None where Ax optimises an output as it is.
        objective: expression, which Ax maximises: ``"y"`` or ``"-y"``.
        constraints: expressions such as ``"confidence >= 0.9"``.
        used: names that objective and constraints mention.
    """

    outputs: tuple[str, ...]
    loss: str | None
    objective: str
    constraints: tuple[str, ...]
    used: tuple[str, ...]

    def values(self, trial: Trial, all_outputs: bool) -> dict[str, float]:
        """What Ax is told about a completed trial."""
        assert trial.y is not None
        assert trial.loss is not None
        told = {name: float(v) for name, v in zip(self.outputs, trial.y, strict=True)}
        if not all_outputs:
            told = {name: value for name, value in told.items() if name in self.used}
        return told if self.loss is None else {**told, self.loss: float(trial.loss)}


def metrics_of(statement: ProblemStatement, parameters: Sequence[str]) -> Metrics:
    """Metrics of a statement.

    ``Minimize`` and ``Maximize`` of an output become that output. Ax has no composite objectives and forbids a
    constraint on the metric it optimises; there the loss is a metric of its own.
    """
    taken = {*parameters, *_RESERVED}
    outputs = tuple(_metric_name(name, taken) for name in statement.outputs)
    constraints = tuple(f"{outputs[c.index]} {c.sense} {c.bound!r}" for c in statement.constraints)
    constrained = tuple(dict.fromkeys(outputs[c.index] for c in statement.constraints))
    objective = statement.objective
    if isinstance(objective, (Minimize, Maximize)) and outputs[objective.index] not in constrained:
        name = outputs[objective.index]
        sign = "-" if isinstance(objective, Minimize) else ""
        return Metrics(outputs, None, f"{sign}{name}", constraints, (name, *constrained))
    loss = _metric_name("loss", taken)
    return Metrics(outputs, loss, f"-{loss}", constraints, (loss, *constrained))


def _metric_name(name: str, taken: set[str]) -> str:
    """A free name that Ax can read in an expression: sympy's words, keywords and ``baseline`` mean something else."""
    safe = re.sub(r"\W|__+", "_", name, flags=re.ASCII).replace("baseline", "base_line")
    if not safe.isidentifier() or keyword.iskeyword(safe) or safe in SYMPY_GLOBALS:
        safe = f"m_{safe}"
    while safe in taken:
        safe += "_m"
    taken.add(safe)
    return safe


# Trials and clients ----------------------------------------------------------------------------------------------


def client_from(
    statement: ProblemStatement,
    trials: Sequence[Trial],
    *,
    seed: int | None = None,
    all_outputs: bool = False,
    shun_failed: bool = False,
) -> Client:
    """An Ax ``Client`` with every trial attached; trial k of the log is trial k in Ax.

    Args:
        statement: becomes search space, objective and outcome constraints.
        trials: completed ones bring data; failed, infeasible (in Ax: abandoned) and open (running) ones keep their
            state. Points of a latent beyond Ax's bounds are attached as they are; Ax still learns from them.
        seed: of all random numbers that Ax draws when it proposes.
        all_outputs: attach outputs that neither objective nor constraints mention, too, as tracking metrics.
            Ax fits a model to each.
        shun_failed: failed trials count as abandoned as well, so that Ax does not propose them again.
    """
    frame = Frame(statement.domain)
    names = [axis.name for axis in frame.axes]
    metrics = metrics_of(statement, names)
    with quiet("ax"):
        client = Client(random_seed=seed)
        client.configure_experiment(frame.configs, name=statement.name)
        client.configure_optimization(metrics.objective, list(metrics.constraints))
        if all_outputs:
            client.configure_tracking_metrics(
                [name for name in metrics.outputs if name not in metrics.used]
            )
        for trial in trials:
            index = client.attach_trial(frame.to_ax(trial.point))
            if trial.state is State.COMPLETED:
                client.complete_trial(index, metrics.values(trial, all_outputs))
            elif trial.state is State.FAILED and not shun_failed:
                client.mark_trial_failed(index, trial.outcome.reason if trial.outcome else None)
            elif not trial.state.open:
                client.mark_trial_abandoned(index)
    return client


def to_ax(statement: ProblemStatement, trials: Sequence[Trial], seed: int = 0) -> Client:
    """A study as an Ax ``Client``: all trials, all outputs, the loss where the objective is structured.

    Ax's analyses, summaries, predictions and storage work on it, and ``get_next_trials`` goes on from there.

    Args:
        statement: of the problem.
        trials: the study's log.
        seed: of the study.
    """
    client = client_from(
        statement, trials, seed=draw_seed(stream_generator(seed)), all_outputs=True
    )
    with quiet("ax"):
        client.configure_generation_strategy(allow_exceeding_initialization_budget=True)
    return client
