"""Chart of all parameters side by side: one line for each trial, coloured by its value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.parameters import Choice, Int, VariedParameter
from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale, floats
from bo_invert.report.charts.layers import Labels, Layer, Line, Paths
from bo_invert.report.charts.model_view import chosen_params, first_params
from bo_invert.report.charts.palette import RANKED
from bo_invert.report.charts.study_data import Quantity, StudyData, coordinate, parameter_axis
from bo_invert.report.charts.text import shortened, value_text
from bo_invert.report.table import counted
from bo_invert.types import Array, Indices, Trial

_MOST = 12
"""Largest number of parameters side by side. Engineering choice: more have no legible names."""
_LINES = 400
"""Largest number of lines; the best trials are shown. Engineering choice."""


_ABSENT = -0.13
"""Height of conditional parameters that do not exist in a trial (dimensionless).
Engineering choice: below the axis."""


def parallel_coordinate(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return lines over the parameters; levels of choices and integers are marked.

    Args:
        data: the study.
        params: names of the parameters; None for the first 12.
        target: output that colours the lines; None for the value of the goal.
    """
    quantity = data.quantity(target)
    notes: list[str] = []
    names = chosen_params(data, params, "parallel_coordinate")
    names = first_params(names, params, _MOST, notes)
    trials = [trial for trial in data.completed if trial.feasible] or list(data.completed)
    if len(trials) < len(data.completed):
        notes.append(
            "Trials that violate a constraint or lie outside of the search space are left out."
        )
    values = floats([data.value(trial, quantity) for trial in trials])
    order = _worst_first(values, quantity)
    if len(order) > _LINES:
        notes.append(f"The best {_LINES} of {counted(len(order), 'trial')}.")
        order = order[-_LINES:]
    shown = [trials[i] for i in order]
    x = np.arange(len(names) + 1, dtype=float)
    heights = [[share(data, name, trial) for name in names] for trial in shown]
    ends = _ends(values, quantity)
    scale = Scale(quantity.label, *ends, RANKED)
    low, high = sorted(ends)
    last = (values[order] - low) / ((high - low) or 1.0)
    beyond = int(((last < 0.0) | (last > 1.0)).sum())
    if beyond:
        notes.append(
            f"The last axis leaves out the worst tenth of the values: {counted(beyond, 'trial')} "
            "beyond it end at its border."
        )
    absent = np.isnan(floats(heights).reshape(len(shown), len(names)))
    heights = np.where(absent, _ABSENT, floats(heights).reshape(absent.shape)).tolist()
    y = np.column_stack([floats(heights).reshape(len(shown), len(names)), np.clip(last, 0, 1)])
    texts = tuple(map(data.describe, shown))
    layers: list[Layer] = [Paths(quantity.label, x, y, values[order], texts)]
    for i, name in enumerate(names):
        layers += _axis(float(i), name, data.axes[name])
        if absent[:, i].any():
            layers.append(_tick(float(i), [(_ABSENT, "absent")]))
    layers += [
        Line("axis", "", floats([x[-1]] * 2), floats([0.0, 1.0])),
        _tick(x[-1], [(0.0, value_text(float(low))), (1.0, value_text(float(high)))]),
    ]
    titles = [*(data.label(name) for name in names), quantity.label]
    panel = Panel(
        Axis(
            ticks=tuple(zip(x.tolist(), titles, strict=True)), top=True,
            bounds=(-0.3, len(names) + 0.5),
        ),
        Axis(bounds=(-0.2 if absent.any() else -0.07, 1.07)),
        tuple(layers), bare=True, wide=True, height=380,
        reason="No trial is completed yet.",
    )  # fmt: skip
    title = "Parameters of the trials"
    columns = data.columns(shown)
    return Chart("parallel_coordinate", title, (panel,), columns, tuple(notes), scale, 1)


def share(data: StudyData, name: str, trial: Trial) -> float:
    """Return the height of a value on the axis of its parameter, in [0, 1]."""
    parameter = data.axes[name]
    position = coordinate(parameter, data.values(trial).get(name))
    low, high = _range(parameter)
    if not isinstance(parameter, Choice) and parameter.log:
        low, high, position = np.log(low), np.log(high), np.log(position)
    return float((position - low) / ((high - low) or 1.0))


def _range(parameter: VariedParameter) -> tuple[float, float]:
    if isinstance(parameter, Choice):
        return 0.0, float(len(parameter.values) - 1)
    return float(parameter.low), float(parameter.high)


def _axis(x: float, name: str, parameter: VariedParameter) -> list[Layer]:
    """Return line and ends or levels of an axis."""
    low, high = _range(parameter)
    levels = isinstance(parameter, Choice) or (
        isinstance(parameter, Int) and parameter_axis(name, parameter).ticks is not None
    )
    if levels:
        marks = parameter_axis(name, parameter).ticks or ()
        ticks = [((position - low) / ((high - low) or 1.0), text) for position, text in marks]
    else:
        ticks = [(0.0, value_text(low)), (1.0, value_text(high))]
    return [
        Line("axis", "", floats([x, x]), floats([0.0, 1.0])),
        _tick(x, ticks),
    ]


def _tick(x: float, ticks: Sequence[tuple[float, str]]) -> Labels:
    heights = [height for height, _ in ticks]
    texts = tuple(shortened(f" {text}", 12) for _, text in ticks)
    return Labels(np.full(len(ticks), x), floats(heights), texts, anchor="left")


def _worst_first(values: Array, quantity: Quantity) -> Indices:
    sign = quantity.better or 1
    order: Indices = np.argsort(sign * values, kind="stable")
    return order


def _ends(values: Array, quantity: Quantity) -> tuple[float, float]:
    """Return the values of the worst and the best colour, without extreme bad values."""
    if not len(values):
        return 0.0, 1.0
    sign = quantity.better or 1
    worst, best = np.quantile(sign * values, [0.1, 1.0]) * sign
    return float(worst), float(best)
