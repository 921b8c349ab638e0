"""Chart of the best designs: pictures with captions, or parameters side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.layers import Labels, Layer, Line, Points
from bo_invert.report.charts.parallel_coordinate import share
from bo_invert.report.charts.study_data import StudyData
from bo_invert.report.charts.text import shortened, value_text
from bo_invert.report.feasibility import why_infeasible
from bo_invert.report.runs import Picture
from bo_invert.types import Trial

_ROLES = ("first", "solution 2", "solution 3", "solution 4", "solution 5")
_BELOW = 0.36
"""Distance of the ends of a range below its line, in rows. Engineering choice."""
_MOST = 16
"""Largest number of parameters. Engineering choice."""


class Shown(NamedTuple):
    """Design to show.

    Args:
        trial: its trial.
        facts: lines of its caption.
        picture: picture; None without one.
        brief: text of the legend.
    """

    trial: Trial
    facts: tuple[str, ...]
    picture: Picture | None
    brief: str


def solutions_chart(data: StudyData, found: Sequence[Shown], title: str) -> Chart:
    """Return pictures of the best designs, or their parameters if they have no pictures.

    Args:
        data: the study.
        found: designs, best first.
        title: title of the chart.

    Raises:
        InvalidInputError: there is no feasible design.
    """
    if not found:
        raise InvalidInputError(f"solutions: {why_infeasible(data.trials)}. Continue the study")
    columns = data.columns([one.trial for one in found])
    if all(one.picture is not None for one in found):
        panels = tuple(Panel(title="\n".join(one.facts), picture=one.picture) for one in found)
        return Chart("solutions", title, panels, columns, columns_wide=6)
    shown = found[: len(_ROLES)]
    if data.goal.kind == "pareto":  # both ends of the front
        places = np.linspace(0, len(found) - 1, min(len(found), len(_ROLES))).round().astype(int)
        shown = [found[i] for i in places]
    return Chart("solutions", title, (_parameters(data, shown),), columns, columns_wide=1)


def _parameters(data: StudyData, found: Sequence[Shown]) -> Panel:
    """Return one row for each parameter with a marker for each design (Cleveland 1984)."""
    names = list(data.axes)[:_MOST]
    rows = np.arange(len(names), dtype=float)
    layers: list[Layer] = [Line("axis", "", floats([0.0, 1.0]), np.full(2, row)) for row in rows]
    # Markers of equal values lie below each other.
    offsets = 0.13 * (np.arange(len(found)) - 0.5 * (len(found) - 1))
    for role, one, offset in zip(_ROLES, found, offsets, strict=False):
        x = floats([share(data, name, one.trial) for name in names])
        texts = tuple(
            f"{name}: {value_text(data.values(one.trial).get(name))}\n" + "\n".join(one.facts)
            for name in names
        )
        layers.append(Points(role, shortened(one.brief, 60), x, rows + offset, texts))
    for side, end in (("left", 0.0), ("right", 1.0)):
        ends = tuple(_end(data, name, side == "right") for name in names)
        layers.append(Labels(np.full(len(names), end), rows + _BELOW, ends, anchor=side))
    ticks = tuple((float(row), data.label(name)) for row, name in zip(rows, names, strict=True))
    return Panel(
        Axis("from low to high end of the range", ticks=(), bounds=(-0.05, 1.05)),
        Axis(ticks=ticks, bounds=(len(names) - 0.25, -0.7)),
        tuple(layers), wide=True, height=max(180, 90 + 40 * len(names)),
    )  # fmt: skip


def _end(data: StudyData, name: str, upper: bool) -> str:
    parameter = data.axes[name]
    if isinstance(parameter, Choice):
        return shortened(str(parameter.values[-1 if upper else 0]), 10)
    return value_text(float(parameter.high if upper else parameter.low))
