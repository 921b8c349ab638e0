"""Figures of runs in plotly: convergence curves, and data profiles (Moré & Wild 2009)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.report.objective_view import Goal
from bo_invert.report.performance import TOLERANCES, calls_to_solve, matrix, percent
from bo_invert.report.runs import Run, Status, grouped
from bo_invert.report.statistical_tests import data_profile, quantile
from bo_invert.types import Array

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6BB1", "#7F7F7F")
"""Palette of Okabe & Ito 2008 for colour-blind readers. Yellow and black are replaced: each is
invisible on a light or dark background."""

DASHES = ("solid", "dash", "dot", "dashdot")

CALLS = "calls (values + gradients)"


def curves_figure(runs: Sequence[Run]) -> Figure:
    """Plot median (line) and quartiles (band) over seeds, one panel per problem.

    The scale is logarithmic if losses span at least two decades. One seed has no band.
    """
    shown = [run for run in runs if run.status is not Status.REFUSED and len(run.calls)]
    problems = grouped(shown, lambda run: run.problem) or {"": []}
    labels = list(dict.fromkeys(run.label for run in shown))
    first = {run.label: name for name, here in reversed(problems.items()) for run in here}
    figure, places = _panels(list(problems))
    for (problem, here), place in zip(problems.items(), places, strict=True):
        goal = Goal(next((run.goal for run in here if run.goal), {}))
        floor = 0.0 if goal.is_raised else _log_floor(here)
        methods = grouped(here, lambda run: run.label)
        for label in sorted(methods, key=labels.index):
            calls, bands = _bands(methods[label], floor)
            low, middle, high = -bands if goal.is_raised else bands
            trace = _trace(label, calls) | place
            line = _line(labels.index(label))
            if len(methods[label]) > 1:
                edge = trace | {"line_width": 0, "showlegend": False, "hoverinfo": "skip"}
                figure.add_scatter(**edge, y=low)
                figure.add_scatter(**edge, y=high, fill="tonexty", fillcolor=_faint(line["color"]))
            figure.add_scatter(
                **trace, y=middle, line=line, showlegend=first[label] == problem,
                hovertemplate="%{y:.4g} after %{x} calls",
            )  # fmt: skip
        figure.update_xaxes(title_text=CALLS, rangemode="tozero", **place)
        name = escape(goal.label, quote=False) if goal.is_raised else "loss"
        scale = _log_scale(here, floor) if floor else {}
        figure.update_yaxes(title_text=f"best {name} so far", **scale, **place)
    return figure


def profiles_figure(
    frame: pd.DataFrame, labels: Sequence[str], tolerances: Sequence[float] = TOLERANCES
) -> Figure:
    """Plot data profiles over the pairs of problem and seed that all these methods ran.

    Refused runs count as unsolved.

    Args:
        frame: runs of all methods, see ``performance.run_frame``; colours are by their order.
        labels: labels of the methods to plot.
        tolerances: one panel for each, see ``performance.levels``.
    """
    everyone = list(frame["label"].unique())
    last = max((int(run.calls[-1]) for run in frame["run"] if len(run.calls)), default=1)
    grid = np.arange(last + 1)
    figure, places = _panels(
        [f"{percent(tolerance)} of the improvement" for tolerance in tolerances]
    )
    for tolerance, place in zip(tolerances, places, strict=True):
        calls = matrix(frame, calls_to_solve(frame, tolerance)).reindex(columns=list(labels))
        calls = calls.dropna()
        for label in labels if len(calls) else ():
            share = data_profile(calls[label], grid)
            # Points between two steps do not change the line.
            steps = np.union1d(np.flatnonzero(np.diff(share, prepend=-1.0)), [last])
            figure.add_scatter(
                **_trace(label, grid[steps]), y=share[steps], line=_line(everyone.index(label)),
                showlegend=place is places[0], hovertemplate="%{y:.0%} after %{x} calls", **place,
            )  # fmt: skip
        figure.update_xaxes(title_text=CALLS, range=[0, last], **place)
        figure.update_yaxes(
            title_text="share solved", range=[-0.02, 1.02], tickformat=".0%", **place
        )
    return figure


def _line(number: int) -> dict[str, Any]:
    """Return colour and dash of a method by its index; 32 combinations are distinct."""
    dash, colour = divmod(number, len(COLOURS))
    return {"color": COLOURS[colour], "width": 2.2, "dash": DASHES[dash % len(DASHES)]}


def _trace(label: str, calls: Array) -> dict[str, Any]:
    """Return the options of a step function over calls."""
    name = escape(label, quote=False)
    return {"x": calls, "name": name, "legendgroup": name, "mode": "lines", "line_shape": "hv"}


def _panels(titles: Sequence[str]) -> tuple[Figure, list[dict[str, int]]]:
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
    values = np.concatenate([np.empty(0), *(run.losses for run in runs)])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not len(positive) or values.min() < 0 or positive.max() < 100 * positive.min():
        return 0.0
    return max(float(positive.min()) / 10, 1e-16 * float(positive.max()))


def _log_scale(runs: Sequence[Run], floor: float) -> dict[str, Any]:
    """Return the options of a logarithmic axis with about six labels."""
    largest = max(float(run.losses[np.isfinite(run.losses)].max(initial=floor)) for run in runs)
    ticks = math.ceil(math.log10(largest / floor) / 6)
    return {"type": "log", "dtick": max(1, ticks), "exponentformat": "power"}


def _bands(runs: Sequence[Run], floor: float, points: int = 400) -> tuple[Array, Array]:
    """Return calls ``(k,)``, and lower quartile, median and upper quartile ``(3, k)``.

    At most ``points`` numbers of calls are plotted. Infinite values become NaN, a gap.
    """
    grid = np.unique(np.concatenate([run.calls for run in runs]))
    if len(grid) > points:
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, points).round().astype(int))]
    curves = np.sort([run.loss_at(grid) for run in runs], axis=0).T
    quartiles = [[quantile(losses, share) for losses in curves] for share in (0.25, 0.5, 0.75)]
    bands = np.maximum(quartiles, floor or -math.inf)
    return grid.astype(float), np.where(np.isfinite(bands), bands, math.nan)


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
