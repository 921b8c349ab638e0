"""Chart of each parameter alone: trials, and the model through the trial to act on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.grid import grid, grid_positions, grid_values
from bo_invert.report.charts.layers import Band, Layer, Line, Points
from bo_invert.report.charts.model_view import (
    ModelView,
    base_point,
    chosen_params,
    first_params,
    fitted,
    others_note,
    outside_reason,
)
from bo_invert.report.charts.study_data import (
    StudyData,
    coordinate,
    is_log,
    value_bounds,
)

_STEPS = 61
"""Number of points of a curve. Engineering choice."""
_MOST = 12
"""Largest number of panels. Engineering choice."""


def slice_chart(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return one panel for each parameter.

    Args:
        data: the study.
        params: names of the parameters; None for the first 12.
        target: output to show; None for the value of the goal.

    Raises:
        InvalidInputError: a name is unknown.
    """
    quantity = data.quantity(target)
    notes: list[str] = []
    names = first_params(chosen_params(data, params, "slice"), params, _MOST, notes)
    trials = [trial for trial in data.ordered if not trial.state.open]
    values = {trial.number: data.value(trial, quantity) for trial in trials}
    known = floats(list(values.values()))
    log = is_log(known, quantity.better)
    bounds = value_bounds(known, quantity.better, log)
    model, why = fitted(data)
    base = base_point(data)
    if model is None or base is None:
        notes.append(why)
    else:
        notes += others_note(data, "Model with 90 % interval", [[name] for name in names])
    panels = []
    absent = 0
    for name in names:
        parameter = data.axes[name]
        at = {t.number: coordinate(parameter, data.values(t).get(name)) for t in trials}
        absent += any(np.isnan(one) for one in at.values())
        layers: list[Layer] = []
        if model is not None and base is not None:
            layers += _model_layers(ModelView(data, model, base, quantity, trials), name)
        layers += data.markers(trials, {n: (x, values[n]) for n, x in at.items()})
        if data.leading is not None and data.leading.number in at:
            layers += data.leading_marker(at[data.leading.number], values[data.leading.number])
        axis = data.axis(name)
        reason = why if model is None else outside_reason(data, [name])
        reason = reason if trials else "No trial has ended yet."
        y = Axis(quantity.label, log=log, bounds=bounds)
        panels.append(Panel(axis, y, tuple(layers), reason=reason))
    if absent:
        notes.append("Trials without a conditional parameter are not in its panel.")
    return Chart(
        "slice", f"{quantity.label} by parameter", tuple(panels),
        data.columns(trials), tuple(filter(None, notes)),
    )  # fmt: skip


def _model_layers(view: ModelView, name: str) -> list[Layer]:
    data = view.data
    assert data.domain is not None
    parameter = data.axes[name]
    values = grid_values(parameter, _STEPS)
    x = grid_positions(parameter, values)
    found = grid(data.domain, view.base, {name: values})
    low, middle, high = view.model.interval(found.points, view.quantity.output)
    low, middle, high = (np.where(found.possible, one, np.nan) for one in (low, middle, high))
    # One possible value, or the levels of a choice, make no line.
    if isinstance(parameter, Choice) or found.possible.sum() < 2:
        shift = 0.18 if isinstance(parameter, Choice) else 0.0
        return [Points("model point", "model at a value", x + shift, middle, low=low, high=high)]
    return [Band("model", "", x, low, high), Line("model", "model", x, middle)]
