"""Chart of two or three quantities that conflict: trials, and the non-dominated ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Layer, Line, Panel, Points
from bo_invert.report.charts.study_data import StudyData, is_log
from bo_invert.types import Array, Mask, Trial


class Objectives(NamedTuple):
    """Values of k objectives at n trials.

    Args:
        labels: names with units, k of them.
        better: 1 if higher values are better, -1 if lower ones are, k of them.
        trials: trials.
        values: values, shape ``(n, k)``.
    """

    labels: tuple[str, ...]
    better: tuple[int, ...]
    trials: Sequence[Trial]
    values: Array


def pareto_front(data: StudyData, objectives: Objectives) -> Chart:
    """Return one panel for each pair of objectives.

    Args:
        data: the study.
        objectives: values of at least two objectives.
    """
    labels, better, trials, values = objectives
    feasible = np.array([trial.feasible for trial in trials], dtype=bool)
    front = non_dominated(values * np.array(better), feasible)
    panels = []
    for j, k in combinations(range(len(labels)), 2):
        pairs = {trial.number: (values[i, j], values[i, k]) for i, trial in enumerate(trials)}
        layers: list[Layer] = list(data.markers(trials, pairs))
        order = np.flatnonzero(front)[np.argsort(values[front, j], kind="stable")]
        texts = tuple(data.describe(trials[i]) for i in order)
        if len(labels) == 2 and len(order) > 1:
            layers.append(_staircase(values[order][:, [j, k]], (better[j], better[k])))
        layers.append(
            Points("front", "Pareto front", values[order, j], values[order, k], texts)
        )  # fmt: skip
        x, y = (
            Axis(_directed(labels[i], better[i]), log=is_log(values[:, i], better[i]))
            for i in (j, k)
        )
        single = len(labels) == 2
        height = 400 if single else None
        panels.append(Panel(x, y, tuple(layers), wide=single, height=height))
    columns = data.columns(trials) | {"on_front": front.tolist()}
    for j, label in enumerate(labels):
        columns.setdefault(label, values[:, j].tolist())
    notes = [f"{int(front.sum())} of {len(trials)} trials are not dominated by another one."]
    title = f"Pareto front of {', '.join(labels)}: {data.name}"
    return Chart("pareto_front", title, tuple(panels), columns, tuple(notes))


def non_dominated(values: Array, eligible: Mask) -> Mask:
    """Return a mask of the points that no eligible point dominates.

    A point dominates another one if it is nowhere lower and somewhere higher.

    Args:
        values: values to maximise, shape ``(n, k)``.
        eligible: points that may be on the front, shape ``(n,)``.
    """
    front = np.array(eligible, dtype=bool)
    for i in np.flatnonzero(eligible):
        if front[i]:
            others = np.flatnonzero(front)
            worse = (values[others] <= values[i]).all(axis=1) & (values[others] < values[i]).any(
                axis=1
            )
            front[others[worse]] = False
    return front


def _staircase(points: Array, better: tuple[int, int]) -> Line:
    """Return the edge of the region that the front dominates; points are sorted by x."""
    x, y = points.T
    # Between two points the next attainable value is that of the worse neighbour.
    along = np.repeat(x, 2)[1:] if better[0] < 0 else np.repeat(x, 2)[:-1]
    up = np.repeat(y, 2)[:-1] if better[0] < 0 else np.repeat(y, 2)[1:]
    return Line("front line", "", along, up)


def _directed(label: str, better: int) -> str:
    return f"{label} ({'higher' if better > 0 else 'lower'} is better)"
