"""Chart of two or three quantities that conflict: trials, and the non-dominated ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel
from bo_invert.report.charts.layers import Layer, Line, Points
from bo_invert.report.charts.study_data import StudyData, is_log
from bo_invert.report.table import counted
from bo_invert.types import Array, State, Trial


class Objectives(NamedTuple):
    """Values of k objectives at n trials.

    Args:
        labels: names with units, k of them.
        better: 1 if higher values are better, -1 if lower ones are, k of them.
        trials: completed trials.
        values: values, shape ``(n, k)``.
        front: trials on the Pareto front.
        front_values: their values, shape ``(f, k)``; expected ones of a noisy oracle.
        reference: reference point of the hypervolume, shape ``(k,)``; None without one.
        hypervolume: hypervolume of the front; None without a reference point.
    """

    labels: tuple[str, ...]
    better: tuple[int, ...]
    trials: Sequence[Trial]
    values: Array
    front: Sequence[Trial]
    front_values: Array
    reference: Array | None = None
    hypervolume: float | None = None


def pareto_front(data: StudyData, objectives: Objectives) -> Chart:
    """Return one panel for each pair of objectives.

    Args:
        data: the study.
        objectives: values of at least two objectives.
    """
    labels, better, trials, values = objectives[:4]
    chosen = objectives.front_values
    panels = []
    for j, k in combinations(range(len(labels)), 2):
        pairs = {trial.number: (values[i, j], values[i, k]) for i, trial in enumerate(trials)}
        layers: list[Layer] = list(data.markers(trials, pairs))
        order = np.argsort(chosen[:, j], kind="stable")
        texts = tuple(data.describe(objectives.front[i]) for i in order)
        x_front, y_front = chosen[order, j], chosen[order, k]
        if len(labels) == 2 and len(order) > 1:
            layers.append(_staircase(x_front, y_front, better[0]))
        layers.append(Points("front", "Pareto front", x_front, y_front, texts))
        if objectives.reference is not None and np.isfinite(objectives.reference).all():
            at = objectives.reference
            layers.append(Points("reference", "reference point", at[[j]], at[[k]]))
        x, y = (
            Axis(_directed(labels[i], better[i]), log=is_log(values[:, i], better[i]))
            for i in (j, k)
        )
        single = len(labels) == 2
        height = 400 if single else None
        panels.append(Panel(x, y, tuple(layers), wide=single, height=height, reason=_reason(data)))
    on_front = {trial.number for trial in objectives.front}
    columns = data.columns(trials) | {"on_front": [t.number in on_front for t in trials]}
    for j, label in enumerate(labels):
        columns.setdefault(label, values[:, j].tolist())
    notes = [f"{len(on_front)} of {counted(len(trials), 'trial')} on the Pareto front."]
    if objectives.hypervolume is not None:
        notes.append(f"Hypervolume up to the reference point: {objectives.hypervolume:.4g}.")
    if data.noisy and objectives.reference is not None:
        notes.append("The front has expected values under a model of all observations.")
    title = f"Pareto front of {', '.join(labels)}"
    return Chart("pareto_front", title, tuple(panels), columns, tuple(notes))


def _reason(data: StudyData) -> str:
    """Return the reason why there are no values to show."""
    failed = [one for one in data.trials if one.state in (State.FAILED, State.INFEASIBLE)]
    if not failed:
        return "No trial is completed yet."
    last = f" Reason of the last one: {failed[-1].reason:.120}" if failed[-1].reason else ""
    return f"No trial is completed: {counted(len(failed), 'trial')} failed.{last}"


def _staircase(x: Array, y: Array, better: int) -> Line:
    """Return the edge of the region that the front dominates.

    Args:
        x: rising values of the first objective, shape ``(f,)``.
        y: values of the second one, shape ``(f,)``.
        better: 1 if higher values of the first objective are better, else -1.
    """
    # Between two points, the worse of both neighbours is attained.
    along, up = np.repeat(x, 2), np.repeat(y, 2)
    if better < 0:
        return Line("front line", "", along[1:], up[:-1])
    return Line("front line", "", along[:-1], up[1:])


def _directed(label: str, better: int) -> str:
    return f"{label} ({'higher' if better > 0 else 'lower'} is better)"
