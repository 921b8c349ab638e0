"""Share of problems solved over calls, as plotly figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bo_invert.report.curves import line_of, panels
from bo_invert.report.performance import (
    TOLERANCES,
    Pair,
    Yardstick,
    calls_to_hit,
    common_pairs,
    yardsticks,
)
from bo_invert.report.runs import Run
from bo_invert.report.statistics import data_profile

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def profiles_figure(
    runs: Sequence[Run],
    labels: Sequence[str],
    yards: Mapping[Pair, Yardstick] | None = None,
    tolerances: Sequence[float] = TOLERANCES,
) -> Figure:
    """Data profiles (Moré & Wild 2009) over the pairs that all these methods tried, one panel per tolerance.

    What a method refused it did not solve.

    Args:
        runs: of all methods; a line looks as in the other figures of these runs.
        labels: of the methods to be shown.
        yards: what solving is measured against; default: the lowest loss of any run.
        tolerances: see ``Yardstick.level``.
    """
    from plotly.graph_objects import Scatter

    measure = yardsticks(runs) if yards is None else yards
    pairs = [pair for pair in common_pairs(runs, labels) if pair in measure]
    everyone = list(dict.fromkeys(run.label for run in runs))
    last = max((int(run.calls[-1]) for run in runs if len(run.calls)), default=1)
    grid = np.arange(last + 1)
    figure, places = panels([f"all but {tolerance:.3g} of the way" for tolerance in tolerances])
    for index, (tolerance, place) in enumerate(zip(tolerances, places, strict=True)):
        for label in labels if pairs else ():
            share = data_profile(calls_to_hit(runs, label, pairs, measure, tolerance), grid)
            steps = np.flatnonzero(
                np.diff(share, prepend=-1.0, append=2.0)[:-1]
            )  # a line needs no more points
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
