"""Data of a study that charts read: classified trials, quantities and parameters. numpy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from bo_invert.domains.parameters import Choice, Float, Int, VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import result_order
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.report.charts.chart import Axis, floats
from bo_invert.report.charts.layers import Points
from bo_invert.report.charts.text import value_text
from bo_invert.report.dataframe import trial_values
from bo_invert.report.objective_view import Goal
from bo_invert.types import Array, Mask, State, Trial

_DECADES = 100.0
"""Ratio of the largest to the smallest positive value from which an axis is logarithmic.
Engineering choice: two orders of magnitude."""
_MAX_TICKS = 10
"""Largest number of levels of an integer with a tick each. Engineering choice."""
_HOVER = 10
"""Largest number of parameters in the description of a point. Engineering choice."""

NAMES = {
    "trial": "trial",
    "past": "past data",
    "outside": "outside of the search space",
    "violated": "constraint violated",
    "failed": "failed",
    "pending": "pending",
}
"""Names of the classes of trials in legends, from the back to the front."""


class Ends(NamedTuple):
    """Central 90 % interval with its median, in units of a quantity, shape ``(n,)`` each."""

    low: Array
    median: Array
    high: Array


class Predictor(Protocol):
    """Predictions of a surrogate."""

    def interval(self, points: Array, output: str | None) -> Ends:
        """Return intervals of the expected output, or of the goal's value for None."""

    def feasibility(self, points: Array) -> Array:
        """Return the probability that the outcome constraints hold, shape ``(n,)``."""

    def draws(self, points: Array, output: str | None) -> Array:
        """Return values of q functions of the posterior, shape ``(q, n)``."""


@dataclass(frozen=True)
class Quantity:
    """Quantity of a plot: an output, or the value of the goal.

    Args:
        label: name with unit.
        output: name of the output; None for the value of the goal.
        better: 1 if higher values are better, -1 if lower ones are, 0 if neither is known.
        goal: target value of an output; None without one.
    """

    label: str
    output: str | None
    better: int
    goal: float | None = None


@dataclass(frozen=True, eq=False)
class StudyData:
    """Study as the charts read it.

    Args:
        name: name of the study.
        trials: its trials, with decoders if the problem is known.
        outputs: names of the m outputs.
        goal: goal of the objective.
        constraints: outcome constraints.
        domain: search domain; None if it is not known.
        noisy: True if the oracle is noisy.
        leading: trial to act on: the recommended one of a noisy study, the compromise of a front,
            else the best one.
        expected: low end, expectation and high end of the loss of ``leading``, if it is noisy.
        units: units of parameters and outputs by name.
        predictor: function that fits a surrogate; raises if there is too little data.
    """

    name: str
    trials: Sequence[Trial]
    outputs: tuple[str, ...]
    goal: Goal
    constraints: tuple[OutcomeConstraint, ...] = ()
    domain: Domain | None = None
    noisy: bool = False
    leading: Trial | None = None
    expected: tuple[float, float, float] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    predictor: Callable[[], Predictor] | None = None

    @cached_property
    def completed(self) -> list[Trial]:
        """Trials with outputs in the order of the log."""
        return [t for t in self.ordered if t.state is State.COMPLETED]

    @cached_property
    def ordered(self) -> list[Trial]:
        """All trials in the order of their results."""
        return sorted(self.trials, key=result_order)

    @cached_property
    def axes(self) -> Mapping[str, VariedParameter]:
        """Parameters that vary by name; ``z0, z1, ...`` for a latent."""
        if self.domain is not None:
            return self.domain.axes
        d = len(self.trials[0].point) if self.trials else 0
        points = floats([t.point for t in self.trials]).reshape(len(self.trials), d)
        low, high = (points.min(0), points.max(0)) if len(points) else (points, points)
        return {f"z{i}": Float(min(low[i], -3.0), max(high[i], 3.0)) for i in range(d)}

    @cached_property
    def _values(self) -> dict[int, Mapping[str, Any]]:
        return {trial.number: trial_values(trial, self.domain) for trial in self.trials}

    def values(self, trial: Trial) -> Mapping[str, Any]:
        """Return the parameters of a trial by name; a conditional one may be missing."""
        return self._values[trial.number]

    def axis(self, name: str) -> Axis:
        """Return the axis of a parameter, which shows designs outside of the search space, too."""
        parameter = self.axes[name]
        found = parameter_axis(self.label(name), parameter)
        beyond = [coordinate(parameter, self.values(t).get(name)) for t in self.trials if t.outside]
        places = [one for one in beyond if math.isfinite(one) and (one > 0 or not found.log)]
        if found.bounds is None or isinstance(parameter, Choice) or not places:
            return found
        low, high = found.bounds
        pad = 0.02 * (high - low)
        low = min([low, *((one / 1.05 if found.log else one - pad) for one in places)])
        high = max([high, *((one * 1.05 if found.log else one + pad) for one in places)])
        return replace(found, bounds=(low, high))

    def label(self, name: str) -> str:
        """Return a name with its unit."""
        unit = self.units.get(name)
        return f"{name} [{unit}]" if unit else name

    def quantity(self, target: str | None = None) -> Quantity:
        """Return a quantity: the value of the goal for None, else an output.

        Raises:
            InvalidInputError: there is no such output.
        """
        goal = self.goal
        if target is None and goal.kind == "pareto":
            target = goal.criteria[0] if goal.criteria else self.outputs[0]
        if target is not None and target not in self.outputs:
            raise InvalidInputError(
                f"plot: target must be one of {list(self.outputs)} or None, got {target!r}"
            )
        if target is None and goal.is_output:
            target = goal.label
        if target is None or target not in self.outputs:
            name = "distance to the target" if goal.kind == "target" else goal.label
            return Quantity(self.label(name), None, 1 if goal.is_raised else -1)
        if goal.is_output and target == goal.label:
            return Quantity(self.label(target), target, 1 if goal.is_raised else -1)
        return Quantity(self.label(target), target, goal.better(target), goal.target_of(target))

    def value(self, trial: Trial, quantity: Quantity) -> float:
        """Return the observed value of a quantity; NaN without outputs."""
        if trial.y is None or trial.loss is None:
            return math.nan
        if quantity.output is None:
            return self.goal.value(trial.loss)
        return float(trial.y[self.outputs.index(quantity.output)])

    def classified(self, trials: Sequence[Trial] | None = None) -> dict[str, list[Trial]]:
        """Return trials by the keys of ``NAMES``."""
        found: dict[str, list[Trial]] = {kind: [] for kind in NAMES}
        for trial in self.ordered if trials is None else trials:
            found[kind_of(trial)].append(trial)
        return found

    def describe(self, trial: Trial) -> str:
        """Return number, state, outputs and parameters of a trial in lines."""
        lines = [f"trial {trial.number}" + (f", {trial.origin}" if trial.origin else "")]
        if trial.y is None:
            lines[0] += f", {trial.state}"
        else:
            some = list(zip(self.outputs, trial.y.tolist(), strict=True))[:6]
            lines += [f"{name} = {value_text(value)}" for name, value in some]
            if not trial.feasible:
                lines.append(NAMES["outside" if trial.outside else "violated"])
        if trial.reason:
            lines.append(trial.reason[:120])
        named = list(self.values(trial).items())
        lines += [f"{name}: {value_text(value)}" for name, value in named[:_HOVER]]
        return "\n".join(map(printable, lines + ["…"] * (len(named) > _HOVER)))

    def doubtful(self, model: Predictor, points: Array) -> Mask:
        """Return a mask ``(n,)`` of the points that are probably infeasible."""
        if not self.constraints and all(t.state is not State.INFEASIBLE for t in self.trials):
            return np.zeros(len(points), dtype=bool)
        return np.asarray(model.feasibility(points) < 0.5)

    @property
    def leading_name(self) -> str:
        """Name of the trial to act on."""
        if self.goal.kind == "pareto":
            return "compromise of the front"
        return "recommended trial" if self.noisy else "best trial"

    def leading_marker(self, x: float, y: float) -> list[Points]:
        """Return a marker of the trial to act on at a place; none if there is no such trial."""
        if self.leading is None or not math.isfinite(x + y):
            return []
        text = (self.describe(self.leading),)
        return [Points("best", self.leading_name, floats([x]), floats([y]), text)]

    def columns(self, trials: Sequence[Trial]) -> dict[str, list[Any]]:
        """Return number, class, parameters, outputs and value of trials as columns."""
        quantity = self.quantity()
        found: dict[str, list[Any]] = {
            "trial": [t.number for t in trials],
            "class": [NAMES[kind_of(t)] for t in trials],
        }
        rows = [self.values(t) for t in trials]
        for name in self.axes:
            found[_free(name, found)] = [row.get(name) for row in rows]
        for j, name in enumerate(self.outputs):
            found[_free(name, found)] = [None if t.y is None else float(t.y[j]) for t in trials]
        if quantity.output is None:
            found[_free(quantity.label, found)] = [self.value(t, quantity) for t in trials]
        return found

    def markers(
        self, trials: Sequence[Trial], places: Mapping[int, tuple[float, float]]
    ) -> list[Points]:
        """Return points of trials by class; ``places`` has x and y by number, NaN for no point."""
        layers = []
        for kind, some in self.classified(trials).items():
            at = [(trial, *places[trial.number]) for trial in some]
            at = [(trial, x, y) for trial, x, y in at if math.isfinite(x) and math.isfinite(y)]
            if at:
                shown, x, y = zip(*at, strict=True)
                texts = tuple(map(self.describe, shown))
                layers.append(Points(kind, NAMES[kind], floats(x), floats(y), texts))
        return layers


def kind_of(trial: Trial) -> str:
    """Return the class of a trial, a key of ``NAMES``."""
    if trial.state.open:
        return "pending"
    if trial.state is not State.COMPLETED:
        return "failed"
    if trial.outside:
        return "outside"
    if not trial.feasible:
        return "violated"
    # Observations of the user have no attempts, because no call was made.
    return "trial" if trial.attempts else "past"


def parameter_axis(name: str, parameter: VariedParameter) -> Axis:
    """Return the axis of a parameter: its range, and its levels if it has few."""
    if isinstance(parameter, Choice):
        ticks = tuple((float(i), str(value)) for i, value in enumerate(parameter.values))
        return Axis(name, ticks=ticks, bounds=(-0.5, len(ticks) - 0.5))
    low, high = float(parameter.low), float(parameter.high)
    if isinstance(parameter, Int) and parameter.levels <= _MAX_TICKS and not parameter.log:
        ticks = tuple((float(i), str(i)) for i in range(parameter.low, parameter.high + 1))
        return Axis(name, ticks=ticks, bounds=(low - 0.5, high + 0.5))
    if parameter.log:
        pad = (high / low) ** 0.03
        return Axis(name, log=True, bounds=(low / pad, high * pad))
    pad = 0.03 * (high - low)
    return Axis(name, bounds=(low - pad, high + pad))


def coordinate(parameter: VariedParameter, value: object) -> float:
    """Return the position of a value on the axis of its parameter; NaN if it is missing."""
    if value is None:
        return math.nan
    if isinstance(parameter, Choice):
        known = [type(one)(one) for one in parameter.values]
        return float(known.index(value)) if value in known else math.nan
    return float(value)  # type: ignore[arg-type]


def is_log(values: Array, better: int = -1) -> bool:
    """Return True for a logarithmic axis: values are positive and span two orders of magnitude.

    An axis of values that are not minimised stays linear: the large values matter there.
    """
    known = values[np.isfinite(values)]
    return better < 0 and bool(
        len(known) and known.min() > 0.0 and known.max() >= _DECADES * known.min()
    )


def value_bounds(values: Array, better: int, log: bool) -> tuple[float, float] | None:
    """Return ends of an axis that hide extreme bad values; None if there are none.

    They hold the values up to three interquartile ranges beyond the quartiles (far out: Tukey
    1977), and all better ones.
    """
    known = values[np.isfinite(values)]
    if len(known) < 8 or log:
        return None
    low, high = np.quantile(known, [0.25, 0.75])
    reach = 3.0 * (high - low)
    bottom = known.min() if better < 0 else max(known.min(), low - reach)
    top = known.max() if better > 0 else min(known.max(), high + reach)
    if (bottom, top) == (known.min(), known.max()) or bottom >= top:
        return None
    pad = 0.05 * (top - bottom)
    return float(bottom - pad), float(top + pad)


def _free(name: str, taken: Mapping[str, object]) -> str:
    while name in taken:
        name += "_"
    return name
