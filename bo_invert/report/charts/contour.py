"""Chart of pairs of parameters, and of three parts of a mixture: model as colours, trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from bo_invert.domains.parameters import Choice, VariedParameter
from bo_invert.report.charts.chart import Chart, Panel, Scale
from bo_invert.report.charts.grid import grid, grid_positions, grid_values
from bo_invert.report.charts.layers import Hatch, Heat, Layer
from bo_invert.report.charts.model_view import (
    ModelView,
    base_point,
    by_importance,
    chosen_params,
    others_note,
    outside_reason,
    require_model,
)
from bo_invert.report.charts.palette import HEAT
from bo_invert.report.charts.study_data import (
    Quantity,
    StudyData,
    coordinate,
    is_log,
    parameter_axis,
)
from bo_invert.report.charts.ternary import Mixture, mixtures, ternary_panel
from bo_invert.types import Array, Indices, Trial

_STEPS = 33
"""Number of grid points along an axis. Engineering choice."""
_PER_LEVEL = 6
"""Number of grid points of a level along an axis. Engineering choice."""
_FEW = 4
"""Number of parameters in the default selection: six pairs. Engineering choice."""
_TRIPLES = 4
"""Largest number of ternary panels. Engineering choice: those of four parts."""


def contour(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return one panel for each pair of parameters, and for each three parts of a mixture.

    Two parts of a mixture whose panel of three parts is shown have none of their own.

    Args:
        data: the study.
        params: names of at least two parameters; None for the four most important ones.
        target: output to show; None for the value of the goal.

    Raises:
        InvalidInputError: there is no model, or less than two parameters.
    """
    quantity = data.quantity(target)
    names = chosen_params(data, params, "contour", least=2)
    model, base = require_model(data, "contour"), base_point(data)
    assert base is not None, "a model needs observations"
    blends, notes = mixtures(data), []
    if params is None and len(names) > _FEW:
        ranked = by_importance(data, model, quantity, names)
        names = [name for name in names if name in _with_triples(ranked, blends)]
        notes.append(f"The most important of {len(ranked)} parameters; choose others with params=.")
    triples = [
        (blend, triple)
        for blend in blends
        for triple in combinations([name for name in names if name in blend.weights], 3)
    ][:_TRIPLES]
    shown = [set(triple) for _, triple in triples]
    pairs = [
        pair for pair in combinations(names, 2) if not any(set(pair) <= triple for triple in shown)
    ]
    trials = [trial for trial in data.ordered if not trial.state.open]
    view = ModelView(data, model, base, quantity, trials)
    panels = [ternary_panel(view, blend, triple) for blend, triple in triples]
    flat = [_pair(view, pair) for pair in pairs]
    if params is None:
        flat, pairs = _with_area(flat, pairs, len(triples), notes)
    panels += flat
    heats = [layer.z for one in panels for layer in one.layers if isinstance(layer, Heat)]
    known = np.concatenate([z[np.isfinite(z)] for z in heats] or [np.zeros(0)])
    log = is_log(known, quantity.better)
    about = "Colours: median of the model"
    notes += others_note(data, about, [*(triple for _, triple in triples), *pairs])
    if triples:
        notes.append("In triangles, trials lie at the ratios of the three parts.")
    panels = [
        replace(one, layers=tuple(_logged(layer, quantity, log) for layer in one.layers))
        for one in panels
    ]
    title = f"Model of {quantity.label}"
    return Chart(
        "contour", title, tuple(panels), data.columns(trials), tuple(notes),
        _scale(known, quantity, log),
    )  # fmt: skip


def _with_area(
    panels: list[Panel], pairs: list[tuple[str, str]], others: int, notes: list[str]
) -> tuple[list[Panel], list[tuple[str, str]]]:
    """Return panels in which the model covers an area, and note the pairs of the others.

    A count of non-zero parameters may leave two of them only the axes. One panel remains.
    """
    shown = [i for i, panel in enumerate(panels) if any(map(_covers, panel.layers))]
    shown = shown or ([] if others else [0])
    left = [" and ".join(pair) for i, pair in enumerate(pairs) if i not in shown]
    if left:
        names = "; ".join(left)
        notes.append(
            f"Left out, because constraints or conditions leave no area: {names}. See slice()."
        )
    return [panels[i] for i in shown], [pairs[i] for i in shown]


def _covers(layer: Layer) -> bool:
    """Return True for a layer of colours with four neighbouring cells."""
    if not isinstance(layer, Heat):
        return False
    known = np.isfinite(layer.z)
    return bool((known[1:, 1:] & known[:-1, 1:] & known[1:, :-1] & known[:-1, :-1]).any())


def _with_triples(ranked: Sequence[str], blends: Sequence[Mixture]) -> set[str]:
    """Return the first names, and further parts of a mixture that fill its triangle."""
    chosen = set(ranked[:_FEW])
    for blend in blends:
        parts = [name for name in ranked if name in blend.weights]
        if chosen & set(parts):
            chosen |= set(parts[:3])
    return chosen


def _pair(view: ModelView, pair: tuple[str, str]) -> Panel:
    """Return the model over two parameters, and the cells where it has no value."""
    data, quantity = view.data, view.quantity
    assert data.domain is not None
    values = {name: grid_values(data.axes[name], _STEPS) for name in pair}
    found = grid(data.domain, view.base, values)
    shape = len(values[pair[0]]), len(values[pair[1]])
    z = view.model.interval(found.points, quantity.output).median.reshape(shape).T
    possible, exists = (mask.reshape(shape).T for mask in (found.possible, found.exists))
    doubtful = data.doubtful(view.model, found.points).reshape(shape).T & possible
    (x, columns), (y, rows) = (_cells(data.axes[name], values[name]) for name in pair)
    cells = np.ix_(rows, columns)
    masks = {
        "outside of the input constraints": ~possible & exists,
        "a parameter does not exist": ~exists,
        "probably infeasible": doubtful,
    }
    layers: list[Layer] = [
        Heat(quantity.label, x, y, np.where(possible[cells], z[cells], np.nan)),
        *(
            Hatch(name, x, y, mask[cells], "doubtful" if mask is doubtful else "excluded")
            for name, mask in masks.items()
            if mask.any()
        ),
        *_trials(data, view.trials, pair),
    ]
    across, up = map(data.axis, pair)
    return Panel(across, up, tuple(layers), reason=outside_reason(data, pair))


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


def _logged(layer: Layer, quantity: Quantity, log: bool) -> Layer:
    if not log or not isinstance(layer, Heat):
        return layer
    with np.errstate(invalid="ignore"):
        return Heat(f"log10 of {quantity.label}", layer.x, layer.y, np.log10(layer.z))


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
