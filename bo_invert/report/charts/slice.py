"""Chart of each parameter alone: trials, and the model through the trial to act on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Band, Chart, Layer, Line, Panel, Points, floats
from bo_invert.report.charts.grid import grid, grid_positions, grid_values
from bo_invert.report.charts.study_data import (
    Predictor,
    Quantity,
    StudyData,
    coordinate,
    is_log,
    parameter_axis,
    value_bounds,
)
from bo_invert.types import Array

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
    """
    quantity = data.quantity(target)
    names = check_params(data, params)
    notes = []
    if params is None and len(names) > _MOST:
        notes.append(f"The first {_MOST} of {len(names)} parameters; choose others with params=.")
        names = names[:_MOST]
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
        notes.append(
            "Model with 90 % interval; the other parameters have the values of the "
            f"{data.leading_name}{'' if data.leading is None else f' ({data.leading.number})'}."
        )
    panels = []
    absent = 0
    for name in names:
        parameter = data.axes[name]
        at = {t.number: coordinate(parameter, data.values(t).get(name)) for t in trials}
        absent += any(np.isnan(one) for one in at.values())
        layers: list[Layer] = []
        if model is not None and base is not None:
            layers += _model_layers(data, model, base, name, quantity)
        layers += data.markers(trials, {n: (x, values[n]) for n, x in at.items()})
        if data.leading is not None and data.leading.number in at:
            layers += data.leading_marker(at[data.leading.number], values[data.leading.number])
        axis = parameter_axis(data.label(name), parameter)
        panels.append(Panel(axis, Axis(quantity.label, log=log, bounds=bounds), tuple(layers)))
    if absent:
        notes.append("Trials without a conditional parameter are not in its panel.")
    return Chart(
        "slice", f"{quantity.label} by parameter", tuple(panels),
        data.columns(trials), tuple(filter(None, notes)),
    )  # fmt: skip


def check_params(data: StudyData, params: Sequence[str] | None) -> list[str]:
    """Return the names of parameters; all for None.

    Raises:
        InvalidInputError: a name is unknown.
    """
    given = [params] if isinstance(params, str) else params
    names = list(data.axes) if given is None else list(given)
    unknown = [name for name in names if name not in data.axes]
    if unknown:
        raise InvalidInputError(
            f"plot: params must be among {list(data.axes)[:20]}, got {unknown[0]!r}"
        )
    return names


def fitted(data: StudyData) -> tuple[Predictor | None, str]:
    """Return the model of a study, or None and the reason."""
    if data.predictor is None or data.domain is None:
        return None, "No model: open the study with its problem."
    try:
        return data.predictor(), ""
    except InvalidInputError as reason:
        return None, f"No model: {reason}"


def base_point(data: StudyData) -> Array | None:
    """Return the point of the trial to act on, else of any observation; None without one."""
    trial = data.leading or next(iter(reversed(data.completed)), None)
    return None if trial is None else trial.point


def _model_layers(
    data: StudyData, model: Predictor, base: Array, name: str, quantity: Quantity
) -> list[Layer]:
    assert data.domain is not None
    parameter = data.axes[name]
    values = grid_values(parameter, _STEPS)
    x = grid_positions(parameter, values)
    found = grid(data.domain, base, {name: values})
    low, middle, high = model.interval(found.points, quantity.output)
    low, middle, high = (np.where(found.possible, one, np.nan) for one in (low, middle, high))
    if isinstance(parameter, Choice):
        return [Points("model point", "model", x + 0.18, middle, low=low, high=high)]
    return [Band("model", "", x, low, high), Line("model", "model", x, middle)]
