"""Chart of the course of a search: values of the trials, and the best one so far."""

from __future__ import annotations

import math

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.layers import Layer, Line, Points
from bo_invert.report.charts.study_data import (
    Quantity,
    StudyData,
    is_log,
    kind_of,
    value_bounds,
)
from bo_invert.report.table import counted
from bo_invert.types import Array, Trial

_PAST = 0.3
"""Largest share of the axis that past data have, as a ratio to the calls. Engineering choice."""


def optimization_history(data: StudyData, target: str | None = None) -> Chart:
    """Return values over calls; past data lie left of 0.

    Args:
        data: the study.
        target: output to show; None for the value of the goal.
    """
    quantity = data.quantity(target)
    ended = [trial for trial in data.ordered if not trial.state.open]
    calls = _calls(ended)
    values = floats([data.value(trial, quantity) for trial in ended])
    zero = quantity.better < 0 and bool((values == 0.0).any())
    if zero:  # an exact hit has no place on a logarithmic scale
        positive = values[values > 0.0]
        floor = positive.min() / 10.0 if len(positive) else 0.0
        values = np.where(values == 0.0, floor, values)
    log = is_log(values, quantity.better)
    bounds = value_bounds(values, quantity.better, log)
    edge = _edge(values, bounds, quantity.better, log)
    place = {
        trial.number: (x, edge if math.isnan(y) else _inside(y, bounds))
        for trial, x, y in zip(ended, calls, values, strict=True)
    }
    layers: list[Layer] = list(data.markers(ended, place))
    best, steps = _best_line(ended, calls, values, quantity)
    if steps is not None:
        layers.append(steps)
    if quantity.goal is not None:
        ends = floats([min(calls, default=0), max(calls, default=1)])
        layers.append(Line("target", "target", ends, np.full(2, quantity.goal)))
    layers += _leading(data, quantity, place)
    hidden = 0 if bounds is None else int(((values < bounds[0]) | (values > bounds[1])).sum())
    notes = []
    if hidden:
        notes.append(f"{counted(hidden, 'trial')} beyond the axis at its edge.")
    if any(kind_of(trial) == "past" for trial in ended):
        notes.append("Past data lie left of call 0, in the order in which they were added.")
    if any(math.isnan(y) for y in values):
        notes.append("Failed trials have no value; they lie at the edge.")
    columns = data.columns(ended) | {"calls": calls.tolist(), "best so far": best.tolist()}
    panel = Panel(
        Axis("calls (values + gradients)"), Axis(quantity.label, log=log, bounds=bounds),
        tuple(layers), wide=True, height=380, reason="No trial has ended yet.",
    )  # fmt: skip
    title = "Course of the search" if target is None else f"Course of {quantity.label}"
    return Chart(
        "optimization_history", title, (panel,), columns, tuple(notes), columns_wide=1
    )  # fmt: skip


def hypervolume_history(data: StudyData, calls: Array, volumes: Array) -> Chart:
    """Return the hypervolume of the Pareto front over calls.

    Args:
        data: the study.
        calls: numbers of calls, shape ``(n,)``.
        volumes: hypervolume after these calls, shape ``(n,)``.
    """
    x, y = floats(calls), floats(volumes)
    line = Line("best line", "hypervolume", x, y, step=True)
    panel = Panel(
        Axis("calls (values + gradients)"),
        Axis("hypervolume"),
        (line,),
        wide=True,
        height=380,
        reason="No trial has ended yet.",
    )
    return Chart(
        "hypervolume_history", "Hypervolume of the Pareto front", (panel,),
        {"calls": x.tolist(), "hypervolume": y.tolist()},
        ("Volume between the front and one reference point, that of the present front.",),
        columns_wide=1,
    )  # fmt: skip


def _calls(ended: list[Trial]) -> Array:
    """Return the calls spent at the end of each trial; past data have rising numbers up to 0."""
    past = [trial for trial in ended if not trial.attempts]
    spent = np.cumsum([trial.cost.calls for trial in ended]) if ended else np.zeros(0)
    total = float(spent[-1]) if len(spent) else 0.0
    width = min(len(past), max(_PAST * total, 1.0)) if total else len(past)
    step = width / max(len(past), 1)
    before = iter(-step * np.arange(len(past) - 1, -1, -1.0))
    return floats([spent[i] if trial.attempts else next(before) for i, trial in enumerate(ended)])


def _best_line(
    ended: list[Trial], calls: Array, values: Array, quantity: Quantity
) -> tuple[Array, Line | None]:
    """Return the best feasible value after each trial, and its line over calls."""
    losses = [
        trial.loss if trial.feasible and trial.loss is not None else math.inf for trial in ended
    ]
    best = np.full(len(ended), np.nan)
    low, at = math.inf, -1
    for i, loss in enumerate(losses):
        if loss < low:
            low, at = loss, i
        if at >= 0:
            best[i] = values[at]
    if at < 0 or not quantity.better:
        return best, None
    order = np.argsort(calls, kind="stable")
    # A result that was added later counts from its place in the log, not from its place here.
    shown = best[order]
    known = np.isfinite(shown)
    running = np.fmin.accumulate(shown) if quantity.better < 0 else np.fmax.accumulate(shown)
    x, y = calls[order][known], running[known]
    return best, Line("best line", "best so far", x, y, step=True)


def _leading(
    data: StudyData, quantity: Quantity, place: dict[int, tuple[float, float]]
) -> list[Layer]:
    """Return the marker of the trial to act on, with its interval if the oracle is noisy."""
    trial = data.leading
    if trial is None or trial.number not in place:
        return []
    x, y = place[trial.number]
    if data.expected is None or quantity.better == 0:
        return list(data.leading_marker(x, y))
    text = (data.describe(trial),)
    low, middle, high = (data.goal.value(loss) for loss in data.expected)
    low, high = sorted((low, high))
    return [
        Points("best", "recommended: expected value, 90 % interval", floats([x]), floats([middle]),
               text, low=floats([low]), high=floats([high]))
    ]  # fmt: skip


def _edge(values: Array, bounds: tuple[float, float] | None, better: int, log: bool) -> float:
    """Return the position of trials without value: the bad end of the axis."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0
    low, high = bounds or (known.min(), known.max())
    if log:
        return float(low / 1.2 if better > 0 else high * 1.2)
    pad = 0.0 if bounds else 0.06 * (high - low)
    return float(low - pad if better > 0 else high + pad)


def _inside(value: float, bounds: tuple[float, float] | None) -> float:
    return value if bounds is None else min(max(value, bounds[0]), bounds[1])
