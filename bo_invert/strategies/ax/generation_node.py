"""Ax generation node: strategies of this library in a user's Ax loop.

Import it late: Ax takes seconds to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ax.core.arm import Arm
from ax.core.data import Data
from ax.core.experiment import Experiment
from ax.core.generator_run import GeneratorRun
from ax.core.parameter import (
    ChoiceParameter,
    FixedParameter,
    Parameter as AxParameter,
    ParameterType,
    RangeParameter,
)
from ax.core.parameter_constraint import ParameterConstraint
from ax.core.trial_status import TrialStatus
from ax.core.types import ComparisonOp
from ax.exceptions.core import DataRequiredError, OptimizationComplete
from ax.generation_strategy.external_generation_node import ExternalGenerationNode

from bo_invert.domains.constrained_box import constrained_box
from bo_invert.domains.input_constraints import Linear
from bo_invert.domains.parameters import Choice, Float, Int, Parameter
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective, Tensor
from bo_invert.objectives.composite import Composite
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.strategies.ax.conversion import Frame
from bo_invert.strategies.base import Request, Strategy, from_spec
from bo_invert.strategies.requirements import require_support
from bo_invert.types import JSON, Array, Outcome, Query, State, Trial
from bo_invert.user_code import own_settings

_KEY = "bo_invert"


class StrategyNode(ExternalGenerationNode):  # type: ignore[misc]  # Ax is untyped here
    """Generation node of Ax that asks a strategy.

    It holds no state: problem statement and trials are read from the Ax experiment at every ask.
    Queries and memos are stored in the metadata of the generator run, so they are part of the
    stored experiment.
    """

    def __init__(self, strategy: Strategy, seed: int, name: str, **options: Any) -> None:
        # A pure function returns the same point again, so asking Ax again avoids no duplicates.
        super().__init__(name=name, should_deduplicate=False, **options)
        self.strategy = strategy
        self.seed = seed
        self._fresh: list[JSON] = []

    @own_settings()
    def update_generator_state(self, experiment: Experiment, data: Data) -> None:
        self._statement, self._fixed = statement_of(experiment)
        self._frame = Frame(self._statement.domain, rename=False)
        require_support(self.strategy, self._statement)
        self._log, self._notes = self._read(experiment, data)
        self._fresh = []

    @own_settings()
    def get_next_candidate(self, pending_parameters: list[dict[str, Any]]) -> dict[str, Any]:
        asked = [*self._notes, *self._fresh]
        log = list(self._log)
        for note in self._fresh:  # of the same batch; Ax has no trials of them yet
            log.append(Trial(len(log), Query.from_json(note["query"]), State.RUNNING, note["ask"]))
        memo = asked[-1]["memo"] if asked else None
        request = Request(number=len(asked), count=1, seed=self.seed, memo=memo)
        proposal = self.strategy.ask(self._statement, log, request)
        if not proposal.queries:
            name = f"strategy {self.strategy.name!r}"
            if any(trial.state.open for trial in log):
                raise DataRequiredError(f"{name} waits for running trials")
            raise OptimizationComplete(f"{name} has finished")
        query = proposal.queries[0]
        self._fresh.append({"ask": len(asked), "query": query.to_json(), "memo": proposal.memo})
        return {**self._frame.to_ax(query.point), **self._fixed}

    def _gen(self, *args: Any, **kwargs: Any) -> GeneratorRun:
        # Ax calls ``get_next_candidate`` inside ``_gen``; the notes added there belong to this run.
        known = len(self._fresh)
        run = super()._gen(*args, **kwargs)
        run._gen_metadata = {**(run.gen_metadata or {}), _KEY: self._fresh[known:]}
        return run

    def _read(self, experiment: Experiment, data: Data) -> tuple[list[Trial], list[JSON]]:
        """Return all arms of Ax as trials, and the notes of the asks of this node, in order."""
        means: dict[tuple[int, str], dict[str, float]] = {}
        for row in data.df.itertuples():
            means.setdefault((row.trial_index, row.arm_name), {})[row.metric_name] = float(row.mean)
        log: list[Trial] = []
        notes: list[JSON] = []
        for index, ax_trial in sorted(experiment.trials.items()):
            runs = (r for r in ax_trial.generator_runs if r._generation_node_name == self.name)
            own = {
                arm.signature: note
                for run in runs
                for arm, note in zip(run.arms, (run.gen_metadata or {}).get(_KEY, []), strict=False)
            }
            notes.extend(own.values())
            for arm in ax_trial.arms:
                note = own.get(arm.signature)
                query = Query(self._point(arm)) if note is None else Query.from_json(note["query"])
                state, outcome = self._outcome(ax_trial.status, means.get((index, arm.name), {}))
                log.append(Trial(len(log), query, state, note and note["ask"], outcome=outcome))
        return log, sorted(notes, key=lambda note: int(note["ask"]))

    def _point(self, arm: Arm) -> Array:
        try:
            return self._frame.from_ax(arm.parameters)
        except (KeyError, ValueError) as error:
            raise InvalidInputError(
                f"arm {arm.name!r} is not in the search space: {error}"
            ) from None

    def _outcome(
        self, status: TrialStatus, means: Mapping[str, float]
    ) -> tuple[State, Outcome | None]:
        if status in (TrialStatus.CANDIDATE, TrialStatus.STAGED, TrialStatus.RUNNING):
            return State.RUNNING, None
        statement = self._statement
        y = np.array([means.get(name, np.nan) for name in statement.outputs])
        # A completed trial without all metrics has no loss and counts as failed.
        if status in (TrialStatus.COMPLETED, TrialStatus.EARLY_STOPPED) and np.isfinite(y).all():
            violation = sum(max(0.0, float(c.excess(y))) for c in statement.constraints)
            return State.COMPLETED, Outcome(
                State.COMPLETED, y, float(statement.objective.loss(y)), violation
            )
        state = State.INFEASIBLE if status is TrialStatus.ABANDONED else State.FAILED
        return state, Outcome(state, reason=f"{status.name.lower()} in Ax")


def generation_node(
    strategy: str | JSON | Strategy = "auto", seed: int = 0, name: str | None = None, **options: Any
) -> StrategyNode:
    """Build a generation node of Ax from a strategy.

    Use it as ``client.set_generation_strategy(GenerationStrategy(nodes=[node]))``. To resume,
    store the experiment with ``ax.storage.json_store.save.save_experiment`` and pass the loaded
    one to a new node with the same arguments. ``Client.save_to_json_file`` also stores the
    generation strategy, of which Ax supports its own only.

    Args:
        strategy: a name, a spec or a strategy.
        seed: seed of the strategy.
        name: name of the node.
        **options: options of the strategy; ``transition_criteria`` and
            ``suggested_experiment_status`` are passed to Ax.

    Raises:
        InvalidInputError: the strategy or an option is unknown. At an ask: the experiment has
            parameter constraints, derived or hierarchical parameters, several objectives, or
            relative constraints.
        UnsuitableStrategyError: at an ask: the strategy does not support the experiment.
    """
    for_ax = {
        k: options.pop(k)
        for k in ("transition_criteria", "suggested_experiment_status")
        if k in options
    }
    chosen = from_spec(strategy, **options)
    return StrategyNode(chosen, seed, name or f"bo_invert.{chosen.name}", **for_ax)


def statement_of(experiment: Experiment) -> tuple[ProblemStatement, dict[str, Any]]:
    """Return the problem statement of an Ax experiment and its fixed parameters.

    Raises:
        InvalidInputError: strategies do not support a part of the experiment.
    """
    space, config = experiment.search_space, experiment.optimization_config
    if space.is_hierarchical:
        raise InvalidInputError("strategies of bo_invert support no hierarchical spaces")
    if config is None or config.is_moo_problem:
        raise InvalidInputError(
            "strategies of bo_invert need an optimization config with exactly one objective"
        )
    fixed = {name: p.value for name, p in space.parameters.items() if isinstance(p, FixedParameter)}
    parameters = {name: _from_ax(p) for name, p in space.parameters.items() if name not in fixed}
    for constraint in config.all_constraints:
        if constraint.relative or len(constraint.metric_weights) != 1:
            raise InvalidInputError(
                "strategies of bo_invert support no relative and no scalarized constraints: "
                f"{constraint}"
            )
    senses = {ComparisonOp.LEQ: "<=", ComparisonOp.GEQ: ">="}
    constraints = [
        OutcomeConstraint(c.metric_names[0], senses[c.op], float(c.bound))
        for c in config.all_constraints
    ]
    weights = dict(
        zip(
            config.objective.metric_names,
            (w for _, w in config.objective.metric_weights),
            strict=True,
        )
    )
    outputs = tuple(dict.fromkeys([*weights, *(c.output for c in constraints)]))
    statement = ProblemStatement(
        experiment._name or "ax experiment",
        constrained_box(parameters, _linear(space.parameter_constraints, fixed)),
        outputs,
        _objective(weights).bind(outputs),
        tuple(constraint.bind(outputs) for constraint in constraints),
    )
    return statement, fixed


def _linear(
    constraints: Sequence[ParameterConstraint], fixed: Mapping[str, Any]
) -> tuple[Linear, ...]:
    """Convert the parameter constraints of Ax; fixed parameters become part of the bounds."""
    found = (
        Linear(dict(one.constraint_dict), upper=float(one.bound)).at(fixed) for one in constraints
    )
    return tuple(one for one in found if one is not None)


def _objective(weights: Mapping[str, float]) -> Objective:
    """Convert the weighted sum of metrics that Ax maximises."""
    if len(weights) == 1:
        ((name, weight),) = weights.items()
        return Maximize(name) if weight > 0 else Minimize(name)

    def loss(y: Tensor) -> Tensor:
        # Ax maximises the weighted sum, a loss is minimised.
        return -sum(weight * y[..., i] for i, weight in enumerate(weights.values()))

    return Composite(loss, tuple(weights), name="scalarized")


def _from_ax(parameter: AxParameter) -> Parameter:
    if isinstance(parameter, RangeParameter):
        if parameter.parameter_type is ParameterType.INT:
            return Int(int(parameter.lower), int(parameter.upper), log=parameter.log_scale)
        return Float(float(parameter.lower), float(parameter.upper), log=parameter.log_scale)
    if isinstance(parameter, ChoiceParameter):
        return Choice(list(parameter.values), ordered=parameter.is_ordered)
    raise InvalidInputError(
        f"strategies of bo_invert do not support {type(parameter).__name__} {parameter.name!r}"
    )
