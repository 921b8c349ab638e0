"""Chart of pairs of parameters: model of the value as colours, trials as points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bo_invert.domains.parameters import Choice, VariedParameter
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Chart, Hatch, Heat, Layer, Panel, Scale
from bo_invert.report.charts.grid import grid, grid_positions, grid_values
from bo_invert.report.charts.palette import HEAT
from bo_invert.report.charts.sensitivity import sobol_indices
from bo_invert.report.charts.slice import base_point, check_params
from bo_invert.report.charts.study_data import (
    Predictor,
    Quantity,
    StudyData,
    coordinate,
    is_log,
    parameter_axis,
)
from bo_invert.types import Array, Indices, State, Trial

_STEPS = 33
"""Number of grid points along an axis. Engineering choice."""
_PER_LEVEL = 6
"""Number of grid points of a level along an axis. Engineering choice."""
_FEW = 4
"""Number of parameters in the default selection: six pairs. Engineering choice."""


def contour(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return one panel for each pair of parameters.

    Args:
        data: the study.
        params: names of at least two parameters; None for the four most important ones.
        target: output to show; None for the value of the goal.

    Raises:
        InvalidInputError: there is no model, or less than two parameters.
    """
    quantity = data.quantity(target)
    names = check_params(data, params)
    if len(names) < 2:
        raise InvalidInputError(
            f"contour: params must be at least two parameters, got {names}. Use slice()."
        )
    if data.predictor is None or data.domain is None:
        raise InvalidInputError("contour: open the study with its problem, for its model")
    model, base = data.predictor(), base_point(data)
    assert base is not None, "a model needs observations"
    notes = []
    if params is None and len(names) > _FEW:
        indices = sobol_indices(model, data.domain, quantity.output, count=128)
        order = np.argsort(-np.median(indices.total, axis=0), kind="stable")[:_FEW]
        notes.append(f"The {_FEW} most important of {len(names)} parameters.")
        names = [names[i] for i in sorted(order)]
    pairs = list(combinations(names, 2))
    maps = [_heat(data, model, base, pair, quantity) for pair in pairs]
    known = np.concatenate([heat.z[np.isfinite(heat.z)] for heat, _, _ in maps] or [np.zeros(1)])
    log = is_log(known, quantity.better)
    scale = _scale(known, quantity, log)
    panels = []
    trials = [trial for trial in data.ordered if not trial.state.open]
    for pair, (heat, excluded, doubtful) in zip(pairs, maps, strict=True):
        layers: list[Layer] = [_logged(heat, quantity, log)]
        if excluded.excluded.any():
            layers.append(excluded)
        if doubtful.excluded.any():
            layers.append(doubtful)
        layers += _trials(data, trials, pair)
        x, y = (parameter_axis(data.label(name), data.axes[name]) for name in pair)
        panels.append(Panel(x, y, tuple(layers)))
    leading = "" if data.leading is None else f" ({data.leading.number})"
    notes.append(
        "Colours: median of the model; the other parameters have the values of the "
        f"{data.leading_name}{leading}."
    )
    return Chart(
        "contour", f"Model of {quantity.label}", tuple(panels),
        data.columns(trials), tuple(notes), scale,
    )  # fmt: skip


def _heat(
    data: StudyData, model: Predictor, base: Array, pair: tuple[str, str], quantity: Quantity
) -> tuple[Heat, Hatch, Hatch]:
    """Return values of the model, and the grid cells outside of the constraints."""
    assert data.domain is not None
    values = {name: grid_values(data.axes[name], _STEPS) for name in pair}
    found = grid(data.domain, base, values)
    shape = len(values[pair[0]]), len(values[pair[1]])
    z = model.interval(found.points, quantity.output).median.reshape(shape).T
    possible = found.possible.reshape(shape).T
    doubtful = np.zeros_like(possible)
    if data.constraints or any(t.state is State.INFEASIBLE for t in data.trials):
        doubtful = (model.feasibility(found.points).reshape(shape).T < 0.5) & possible
    (x, columns), (y, rows) = (_cells(data.axes[name], values[name]) for name in pair)
    cells = np.ix_(rows, columns)
    z, possible, doubtful = z[cells], possible[cells], doubtful[cells]
    heat = Heat(quantity.label, x, y, np.where(possible, z, np.nan))
    return (
        heat,
        Hatch("outside of the input constraints", x, y, ~possible),
        Hatch("probably infeasible", x, y, doubtful),
    )


def _cells(parameter: VariedParameter, values: Sequence[object]) -> tuple[Array, Indices]:
    """Return positions on an axis and the index of the value at each one.

    A level has a cell of width 1, because values between levels do not exist.
    """
    positions = grid_positions(parameter, values)
    if parameter_axis("", parameter).ticks is None:
        return positions, np.arange(len(positions))
    inside = np.linspace(-0.499, 0.499, _PER_LEVEL)
    return (positions[:, None] + inside).ravel(), np.repeat(np.arange(len(positions)), _PER_LEVEL)


def _scale(known: Array, quantity: Quantity, log: bool) -> Scale:
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if log:
        return Scale(f"log10 of {quantity.label}", np.log10(low), np.log10(high), HEAT)
    return Scale(quantity.label, low, high, HEAT)


def _logged(heat: Heat, quantity: Quantity, log: bool) -> Heat:
    with np.errstate(invalid="ignore"):
        z = np.log10(heat.z) if log else heat.z
    return Heat(f"log10 of {quantity.label}" if log else quantity.label, heat.x, heat.y, z)


def _trials(data: StudyData, trials: Sequence[Trial], pair: tuple[str, str]) -> list[Layer]:
    """Return points of the trials; those at the same levels are spread a little."""
    rng = np.random.default_rng(0)
    spread = [0.18 if isinstance(data.axes[name], Choice) else 0.0 for name in pair]

    places = {}
    for trial in trials:
        row = data.values(trial)
        x, y = (coordinate(data.axes[name], row.get(name)) for name in pair)
        dx, dy = rng.uniform(-1.0, 1.0, 2) * spread
        places[trial.number] = x + dx, y + dy
    layers: list[Layer] = list(data.markers(trials, places))
    if data.leading is not None:
        row = data.values(data.leading)
        x, y = (coordinate(data.axes[name], row.get(name)) for name in pair)
        layers += data.leading_marker(x, y)
    return layers
