"""Between this library and Ax: search spaces, metrics, trials, a whole study as a ``Client``, and a generation node.

This file and ``strategies/ax.py`` are the only ones that know Ax. Import it late: Ax takes seconds to load.
"""

from __future__ import annotations

import keyword
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.parameter import ChoiceParameter, FixedParameter, ParameterType, RangeParameter
from ax.core.trial_status import TrialStatus
from ax.core.types import ComparisonOp
from ax.exceptions.core import DataRequiredError, OptimizationComplete
from ax.generation_strategy.external_generation_node import ExternalGenerationNode
from ax.utils.common.string_utils import SYMPY_GLOBALS

from bo_invert.domain import Domain, box_domain
from bo_invert.errors import InvalidInput
from bo_invert.objectives import Composite, Maximize, Minimize, Objective, OutcomeConstraint
from bo_invert.parameters import Choice, Float, Int, Parameter
from bo_invert.rng import draw_seed, stream_generator
from bo_invert.statement import Statement
from bo_invert.strategies.base import Request, Strategy, from_spec
from bo_invert.types import JSON, Array, Outcome, Query, State, Trial

if TYPE_CHECKING:
    from bo_invert.study import Study

#: Ax refuses ranges narrower than this; such a parameter is handed over as its coordinate in [0, 1].
_NARROWEST = 1.5e-5
#: Columns of Ax's own tables; a parameter of this name would overwrite them.
_RESERVED = ("metadata", "location", "trial_index", "arm_name", "trial_status", "generation_node")
_KEY = "bo_invert"


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what Ax says to this thread, errors excepted; its loggers and levels stay as they are."""
    here = threading.get_ident()
    handlers = logging.getLogger("ax").handlers[:]

    def keep(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.ERROR

    for handler in handlers:
        handler.addFilter(keep)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(keep)


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
        return RangeParameterConfig(self.name, (p.low, p.high), kind, scaling="log" if p.log else "linear")

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
    return Axis(name, parameter, unit=isinstance(parameter, Float) and parameter.high - parameter.low < _NARROWEST)


def _labels(choice: Choice) -> tuple[Any, ...]:
    """Values as Ax takes them: of one type, and in their own order, which Ax keeps for strings only."""
    values, kinds = choice.values, {type(value) for value in choice.values}
    if kinds in ({bool}, {str}):
        return values
    if kinds in ({int}, {float}, {int, float}) and (not choice.ordered or list(values) == sorted(values)):
        return values if kinds == {int} else tuple(float(value) for value in values)
    return tuple(repr(value) for value in values)


class Frame:
    """The coordinates of a domain and Ax's parameters: typed ones for a box, ``z0, z1, ...`` for a latent."""

    def __init__(self, domain: Domain) -> None:
        self.domain = domain
        if domain.geometry == "box":
            self.axes = tuple(_axis(name, parameter) for name, parameter in domain.parameters.items())
        else:
            lower, upper = domain.bounds
            self.axes = tuple(Axis(f"z{i}", Float(float(lower[i]), float(upper[i]))) for i in range(domain.dim))

    @property
    def configs(self) -> list[Any]:
        """One per parameter, as Ax's ``configure_experiment`` wants them."""
        return [axis.config() for axis in self.axes]

    def to_ax(self, point: Array) -> dict[str, Any]:
        """The parameters of one point ``(d,)``; those of a latent may lie beyond Ax's bounds."""
        if self.domain.geometry != "box":
            return {axis.name: float(z) for axis, z in zip(self.axes, point, strict=True)}
        values = self.domain.values(point[None])[0]
        return {axis.name: axis.to_ax(v) for axis, v in zip(self.axes, values.values(), strict=True)}

    def from_ax(self, parameters: Mapping[str, Any]) -> Array:
        """The point ``(d,)`` of parameters, projected onto the domain."""
        values = [axis.from_ax(parameters[axis.name]) for axis in self.axes]
        if self.domain.geometry == "box":
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


def metrics_of(statement: Statement, parameters: Sequence[str]) -> Metrics:
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
    statement: Statement,
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
    with quiet():
        client = Client(random_seed=seed)
        client.configure_experiment(frame.configs, name=statement.name)
        client.configure_optimization(metrics.objective, list(metrics.constraints))
        if all_outputs:
            client.configure_tracking_metrics([name for name in metrics.outputs if name not in metrics.used])
        for trial in trials:
            index = client.attach_trial(frame.to_ax(trial.point))
            if trial.state is State.COMPLETED:
                client.complete_trial(index, metrics.values(trial, all_outputs))
            elif trial.state is State.FAILED and not shun_failed:
                client.mark_trial_failed(index, trial.outcome.reason if trial.outcome else None)
            elif not trial.state.open:
                client.mark_trial_abandoned(index)
    return client


def to_ax(study: Study) -> Client:
    """A study as an Ax ``Client``: all trials, all outputs, the loss where the objective is structured.

    Ax's analyses, summaries, predictions and storage work on it, and ``get_next_trials`` goes on from there.
    """
    client = client_from(study.statement, study.trials, seed=draw_seed(stream_generator(study.seed)), all_outputs=True)
    with quiet():
        client.configure_generation_strategy(allow_exceeding_initialization_budget=True)
    return client


# Our strategies inside Ax ----------------------------------------------------------------------------------------


class StrategyNode(ExternalGenerationNode):  # type: ignore[misc]  # Ax is untyped here
    """An Ax generation node that asks one of our strategies.

    It keeps nothing: statement and trials are read from the Ax experiment at every ask, and what the strategy wants
    to recognise later travels in the generator run's metadata, so it survives Ax's storage of the experiment.
    """

    def __init__(self, strategy: Strategy, seed: int, name: str, **options: Any) -> None:
        # a pure function proposes the same again: Ax's way to avoid duplicates, asking once more, cannot help
        super().__init__(name=name, should_deduplicate=False, **options)
        self.strategy = strategy
        self.seed = seed
        self._log: list[Trial] = []
        self._notes: list[JSON] = []
        self._fresh: list[JSON] = []

    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        self._statement, self._held = statement_of(experiment)
        self._frame = Frame(self._statement.domain)
        self.strategy.check(self._statement)
        self._log, self._notes = self._read(experiment, data)
        self._fresh = []

    def get_next_candidate(self, pending_parameters: list[dict[str, Any]]) -> dict[str, Any]:
        asked = [*self._notes, *self._fresh]
        log = list(self._log)
        for note in self._fresh:  # proposed for the same batch; Ax has not made trials of them yet
            log.append(Trial(len(log), Query.from_json(note["query"]), State.RUNNING, note["ask"]))
        memo = asked[-1]["memo"] if asked else None
        request = Request(number=len(asked), count=1, seed=self.seed, memo=memo)
        proposal = self.strategy.ask(self._statement, log, request)
        if not proposal.queries:
            who = f"strategy {self.strategy.name!r}"
            if any(trial.state.open for trial in log):
                raise DataRequiredError(f"{who} waits for the trials that are still running")
            raise OptimizationComplete(f"{who} has nothing more to propose")
        query = proposal.queries[0]
        self._fresh.append({"ask": len(asked), "query": query.to_json(), "memo": proposal.memo})
        return {**self._frame.to_ax(query.point), **self._held}

    def _gen(self, *args: Any, **kwargs: Any) -> GeneratorRun:
        known = len(self._fresh)
        run = super()._gen(*args, **kwargs)
        run._gen_metadata = {**(run.gen_metadata or {}), _KEY: self._fresh[known:]}
        return run

    def _read(self, experiment: Experiment, data: Data) -> tuple[list[Trial], list[JSON]]:
        """Every arm of every Ax trial as a trial of ours, and the notes of this node's own asks, in order."""
        told: dict[tuple[int, str], dict[str, float]] = {}
        for row in data.df.itertuples():
            told.setdefault((row.trial_index, row.arm_name), {})[row.metric_name] = float(row.mean)
        log: list[Trial] = []
        notes: list[JSON] = []
        for index, ax_trial in sorted(experiment.trials.items()):
            own = {}
            for run in ax_trial.generator_runs:
                if run._generation_node_name == self.name:
                    runs_notes = (run.gen_metadata or {}).get(_KEY, [])
                    own.update({arm.signature: n for arm, n in zip(run.arms, runs_notes, strict=False)})
            notes.extend(own.values())
            for arm in ax_trial.arms:
                note = own.get(arm.signature)
                query = Query(self._point(arm)) if note is None else Query.from_json(note["query"])
                state, outcome = self._outcome(ax_trial.status, told.get((index, arm.name), {}))
                log.append(Trial(len(log), query, state, note and note["ask"], outcome=outcome))
        return log, sorted(notes, key=lambda note: int(note["ask"]))

    def _point(self, arm: Arm) -> Array:
        try:
            return self._frame.from_ax(arm.parameters)
        except (KeyError, ValueError) as error:
            raise InvalidInput(f"arm {arm.name!r} does not lie in the search space: {error}") from None

    def _outcome(self, status: TrialStatus, told: Mapping[str, float]) -> tuple[State, Outcome | None]:
        if status in (TrialStatus.CANDIDATE, TrialStatus.STAGED, TrialStatus.RUNNING):
            return State.RUNNING, None
        statement = self._statement
        y = np.array([told.get(name, np.nan) for name in statement.outputs])
        if status in (TrialStatus.COMPLETED, TrialStatus.EARLY_STOPPED) and np.isfinite(y).all():
            violation = sum(max(0.0, float(c.excess(y))) for c in statement.constraints)
            return State.COMPLETED, Outcome(State.COMPLETED, y, float(statement.objective.loss(y)), violation)
        state = State.INFEASIBLE if status is TrialStatus.ABANDONED else State.FAILED
        return state, Outcome(state, reason=f"{status.name.lower()} in Ax")


def generation_node(
    strategy: str | JSON | Strategy = "gp", seed: int = 0, name: str | None = None, **options: Any
) -> StrategyNode:
    """One of our strategies for use in Ax: ``client.set_generation_strategy(GenerationStrategy(nodes=[node]))``.

    To resume, store the experiment (``ax.storage.json_store.save.save_experiment``) and give the loaded one a new
    node with the same arguments. ``Client.save_to_json_file`` stores generation strategies too, and Ax knows only
    its own.

    Args:
        strategy: a name, a spec or a strategy.
        seed: of everything random the strategy does.
        name: of the node.
        **options: of the strategy; ``transition_criteria`` and ``suggested_experiment_status`` go to Ax.

    Raises:
        InvalidInput: there is no such strategy or option. Later, when Ax asks: the experiment has parameter
            constraints, derived or hierarchical parameters, several objectives, or relative constraints.
        Unsuitable: later, when Ax asks: the strategy cannot work on this experiment (it needs gradients).
    """
    for_ax = {k: options.pop(k) for k in ("transition_criteria", "suggested_experiment_status") if k in options}
    chosen = from_spec(strategy, **options)
    return StrategyNode(chosen, seed, name or f"bo_invert.{chosen.name}", **for_ax)


def statement_of(experiment: Experiment) -> tuple[Statement, dict[str, Any]]:
    """Our statement of an Ax experiment, and the parameters that are fixed in it.

    Raises:
        InvalidInput: it has something that our strategies have no notion of.
    """
    space, config = experiment.search_space, experiment.optimization_config
    if space.parameter_constraints or space.is_hierarchical:
        raise InvalidInput("bo_invert's strategies know no parameter constraints and no hierarchical search spaces")
    if config is None or config.is_moo_problem:
        raise InvalidInput("bo_invert's strategies want an optimization config with exactly one objective")
    held = {name: p.value for name, p in space.parameters.items() if isinstance(p, FixedParameter)}
    parameters = {name: _from_ax(p) for name, p in space.parameters.items() if name not in held}
    constraints = []
    for constraint in config.all_constraints:
        if constraint.relative or len(constraint.metric_weights) != 1:
            raise InvalidInput(f"bo_invert's strategies know no relative and no scalarized constraints: {constraint}")
        sense = "<=" if constraint.op == ComparisonOp.LEQ else ">="
        constraints.append(OutcomeConstraint(constraint.metric_names[0], sense, float(constraint.bound)))
    weights = dict(zip(config.objective.metric_names, (w for _, w in config.objective.metric_weights), strict=True))
    outputs = tuple(dict.fromkeys([*weights, *(c.output for c in constraints)]))
    name = experiment._name or "ax experiment"
    objective = _objective(weights).bind(outputs)
    bound = tuple(constraint.bind(outputs) for constraint in constraints)
    return Statement(name, box_domain(parameters), outputs, objective, bound), held


def _objective(weights: Mapping[str, float]) -> Objective:
    """Ax maximises the weighted sum of its metrics."""
    if len(weights) == 1:
        ((name, weight),) = weights.items()
        return Maximize(name) if weight > 0 else Minimize(name)

    def loss(y: Any) -> Any:
        return -sum(weight * y[..., i] for i, weight in enumerate(weights.values()))

    return Composite(loss, tuple(weights), name="scalarized")


def _from_ax(parameter: Any) -> Parameter:
    if isinstance(parameter, RangeParameter):
        if parameter.parameter_type is ParameterType.INT:
            return Int(int(parameter.lower), int(parameter.upper), log=parameter.log_scale)
        return Float(float(parameter.lower), float(parameter.upper), log=parameter.log_scale)
    if isinstance(parameter, ChoiceParameter):
        return Choice(list(parameter.values), ordered=parameter.is_ordered)
    raise InvalidInput(f"bo_invert's strategies cannot search {type(parameter).__name__} {parameter.name!r}")
