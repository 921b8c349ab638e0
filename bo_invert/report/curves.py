"""Convergence curves as plotly figures: best loss, or best maximised output, over calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.report.objective_view import Goal
from bo_invert.report.runs import Run, Status
from bo_invert.report.statistics import quantile
from bo_invert.types import Array

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
"""Palette of Okabe & Ito 2008 for colour-blind readers. Yellow and black are replaced: each is
invisible on a light or dark background."""

DASHES = ("solid", "dash", "dot", "dashdot")


def curves_figure(runs: Sequence[Run]) -> Figure:
    """Plot median (line) and quartiles (band) over seeds, one panel per problem.

    The scale is logarithmic if losses span at least two decades. One seed has no band.
    """
    from plotly.graph_objects import Scatter

    shown = [run for run in runs if run.status is not Status.REFUSED and len(run.calls)]
    problems = list(dict.fromkeys(run.problem for run in shown)) or [""]
    labels = list(dict.fromkeys(run.label for run in shown))
    figure, places = panels(problems)
    named: set[str] = set()
    for problem, place in zip(problems, places, strict=True):
        here = [run for run in shown if run.problem == problem]
        goal = Goal(next((run.goal for run in here if run.goal), {}))
        floor = 0.0 if goal.is_raised else _log_floor(here)
        for number, label in enumerate(labels):
            mine = [run for run in here if run.label == label]
            if not mine:
                continue
            line = line_of(number)
            text = escape(label, quote=False)
            calls, *bands = _bands(mine, floor)
            low, middle, high = (-band for band in bands) if goal.is_raised else bands
            common = {"x": calls, "legendgroup": text, "name": text, "line_shape": "hv"}
            if len(mine) > 1:
                edge = {
                    **common,
                    "mode": "lines",
                    "line_width": 0,
                    "showlegend": False,
                    "hoverinfo": "skip",
                }
                figure.add_trace(Scatter(**edge, y=low), **place)
                figure.add_trace(
                    Scatter(**edge, y=high, fill="tonexty", fillcolor=_faint(line["color"])),
                    **place,
                )
            figure.add_trace(
                Scatter(
                    **common,
                    y=middle,
                    mode="lines",
                    line=line,
                    showlegend=label not in named,
                    hovertemplate="%{y:.4g} after %{x} calls",
                ),
                **place,
            )
            named.add(label)
        figure.update_xaxes(title_text="calls (values + gradients)", rangemode="tozero", **place)
        scale = (
            {"type": "log", "dtick": _decades_per_tick(here, floor), "exponentformat": "power"}
            if floor
            else {}
        )
        name = escape(goal.label, quote=False) if goal.is_raised else "loss"
        figure.update_yaxes(
            title_text=f"best {name} so far",
            **scale,
            **place,
        )
    return figure


def line_of(number: int) -> dict[str, Any]:
    """Return colour and dash of a method by its index; 32 combinations are distinct."""
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    return {"color": COLOURS[number % len(COLOURS)], "width": 2.2, "dash": dash}


def panels(titles: Sequence[str]) -> tuple[Figure, list[dict[str, int]]]:
    """Return an empty figure with two panels per row, and the place of each panel.

    A single panel has no title.
    """
    from plotly.subplots import make_subplots

    columns = min(2, len(titles))
    rows = -(-len(titles) // columns)
    names = [escape(name, quote=False) for name in titles] if len(titles) > 1 else None
    height = max(420, 360 * rows)
    gap = {"horizontal_spacing": 0.1, "vertical_spacing": 120 / height if rows > 1 else 0.0}
    figure: Figure = make_subplots(rows=rows, cols=columns, subplot_titles=names, **gap)
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zerolinecolor": "rgba(128,128,128,0.35)"}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    figure.update_layout(
        height=height,
        margin={"l": 60, "r": 20, "t": 40 if names else 20, "b": 50},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0.0, "x": 0},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        font={"color": "#6b7280", "size": 13},
        hoverlabel={"font": {"color": "#1b1f24"}, "bgcolor": "rgba(255,255,255,0.95)"},
    )
    return figure, [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]


def _log_floor(runs: Sequence[Run]) -> float:
    """Return the value that represents a loss of 0 on a logarithmic scale.

    It is a decade below the smallest positive loss and at most 16 decades, the precision of
    floating-point numbers, below the largest. 0 stands for a linear scale: some losses are
    negative, or they span less than a factor of 100.
    """
    values = (
        np.concatenate([run.losses[np.isfinite(run.losses)] for run in runs])
        if runs
        else np.empty(0)
    )
    positive = values[values > 0]
    if not len(positive) or values.min() < 0 or positive.max() < 100 * positive.min():
        return 0.0
    return max(float(positive.min()) / 10, 1e-16 * float(positive.max()))


def _decades_per_tick(runs: Sequence[Run], floor: float) -> int:
    largest = max(float(run.losses[np.isfinite(run.losses)].max(initial=floor)) for run in runs)
    return max(1, math.ceil(math.log10(largest / floor) / 6))


def _bands(
    runs: Sequence[Run], floor: float, points: int = 400
) -> tuple[Array, Array, Array, Array]:
    """Return calls, lower quartile, median and upper quartile, each of shape ``(k,)``.

    At most ``points`` numbers of calls are plotted. Infinite values become NaN, a gap.
    """
    grid = np.unique(np.concatenate([run.calls for run in runs]))
    if len(grid) > points:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).round().astype(int))]
    curves = np.sort([run.loss_at(grid) for run in runs], axis=0)
    bands = np.array(
        [[quantile(column, share) for column in curves.T] for share in (0.25, 0.5, 0.75)]
    )
    if floor > 0:
        bands = np.maximum(bands, floor)
    bands[~np.isfinite(bands)] = np.nan
    return grid.astype(float), bands[0], bands[1], bands[2]


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
