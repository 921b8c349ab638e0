"""Data profiles as plotly figures: share of solved problems over calls (Moré & Wild 2009)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.report.curves import line_of, panels
from bo_invert.report.performance import TOLERANCES, calls_to_solve, matrix, percent
from bo_invert.report.statistics import data_profile

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure


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
    from plotly.graph_objects import Scatter

    everyone = list(frame["label"].unique())
    last = max((int(run.calls[-1]) for run in frame["run"] if len(run.calls)), default=1)
    grid = np.arange(last + 1)
    figure, places = panels(
        [f"{percent(tolerance)} of the improvement" for tolerance in tolerances]
    )
    for index, (tolerance, place) in enumerate(zip(tolerances, places, strict=True)):
        calls = matrix(frame, calls_to_solve(frame, tolerance)).reindex(columns=list(labels))
        calls = calls.dropna()
        for label in labels if len(calls) else ():
            share = data_profile(calls[label], grid)
            # Points between two steps do not change the line.
            steps = np.flatnonzero(np.diff(share, prepend=-1.0, append=2.0)[:-1])
            steps = np.union1d(steps, [last])
            name = escape(label, quote=False)
            figure.add_trace(
                Scatter(
                    x=grid[steps],
                    y=share[steps],
                    name=name,
                    legendgroup=name,
                    mode="lines",
                    line=line_of(everyone.index(label)),
                    line_shape="hv",
                    showlegend=index == 0,
                    hovertemplate="%{y:.0%} after %{x} calls",
                ),
                **place,
            )
        figure.update_xaxes(title_text="calls (values + gradients)", range=[0, last], **place)
        figure.update_yaxes(
            title_text="share solved", range=[-0.02, 1.02], tickformat=".0%", **place
        )
    return figure
