"""Parts of a report about a Pareto front: its table, sentences about it, and next steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.problems.problem import Problem
from bo_invert.report.charts.study_data import StudyData, coordinate
from bo_invert.report.charts.text import value_text
from bo_invert.report.table import Table, counted
from bo_invert.study.continuation import how_to_continue, widenable
from bo_invert.study.front import HypervolumeCurve, ParetoFront
from bo_invert.types import Array

_ROWS = 40
"""Largest number of trials in the table. Engineering choice."""
_COLUMNS = 24
"""Largest number of parameters in the table. Engineering choice."""
_LATE = 0.25
"""Last share of the calls in which growth counts as recent. Engineering choice."""
_SMALL = 0.01
"""Recent growth, as a share of the hypervolume, below which a search has slowed down.
Engineering choice."""
_TIGHT = 0.05
"""Distance to a bound, as a share of the spread of the output, at which it limits a trial.
Engineering choice."""
_END = 0.0025
"""Distance to the end of a range, as a share of it, at which it limits a trial.
Engineering choice."""
_MANY = 0.3
"""Share of the front from which a bound that limits it is named. Engineering choice."""


def front_sentences(data: StudyData, front: ParetoFront) -> list[str]:
    """Return sentences about the front: size, hypervolume, ends and compromise."""
    best = front.compromise
    if best is None:
        return ["No feasible trial yet: the Pareto front is empty."]
    labels = [data.label(name) for name in front.labels]
    reference = ", ".join(
        f"{label} {value_text(float(value))}"
        for label, value in zip(labels, front.reference, strict=True)
    )
    ends = "; ".join(
        f"{label} from {value_text(float(low))} to {value_text(float(high))}"
        for label, low, high in zip(labels, front.values.min(0), front.values.max(0), strict=True)
    )
    row = front.values[[one.number for one in front].index(best.number)]
    values = ", ".join(
        f"{label} {value_text(float(value))}" for label, value in zip(labels, row, strict=True)
    )
    size = (
        f"The Pareto front has {counted(len(front), 'trial')}; its hypervolume up to the reference "
        f"point ({reference}) is {front.hypervolume:.4g}."
    )
    compromise = (
        f"A compromise, nearest to the best value of each criterion, is trial {best.number}: "
        f"{values}."
    )
    return [size, f"It spans {ends}. {compromise}"]


def front_table(data: StudyData, front: ParetoFront) -> Table | None:
    """Return the trials of the front with criteria and parameters; None without one."""
    if not len(front):
        return None
    best, chosen = front.compromise, [one.number for one in front.spread(_ROWS)]
    named = data.domain is not None and bool(data.domain.parameters)
    names = list(data.domain.parameters) if named and data.domain is not None else []
    names = names if len(names) <= _COLUMNS else []
    criteria = [
        f"{direction} {data.label(label)}"
        for direction, label in zip(front.directions, front.labels, strict=True)
    ]
    rows = []
    for trial, values in zip(front.trials, front.values.tolist(), strict=True):
        if trial.number in chosen:
            at = data.values(trial) if names else {}
            cells = (_cell(at.get(name)) for name in names)
            rows.append((trial.number, *values, *cells))
    marks = {(i, 0): "compromise" for i, row in enumerate(rows) if best and row[0] == best.number}
    notes = []
    if front.expected:
        notes.append("The oracle is noisy: values are expected ones under a model of all data.")
    if len(chosen) < len(front):
        notes.append(f"{len(chosen)} of {len(front)} trials, spread over the front.")
    columns = ("trial", *criteria, *map(data.label, names))
    return Table(columns, tuple(rows), "Pareto front", marks=marks, notes=tuple(notes))


def _cell(value: object) -> object:
    if value is None:
        return "–"
    return value if type(value) in (int, float) else str(value)


def front_steps(
    data: StudyData, front: ParetoFront, curve: HypervolumeCurve, problem: Problem | None = None
) -> list[str]:
    """Return next steps in terms of the front: bounds that limit it, and further calls."""
    if not len(front):
        return []
    return [*_bounds(data, front), *_ends(data, front), *_calls(front, curve, problem)]


def _bounds(data: StudyData, front: ParetoFront) -> Iterator[str]:
    """Name constraints on outputs at which a good part of the front lies."""
    y = np.array([one.y for one in data.completed if one.y is not None])
    for constraint in data.constraints:
        spread = float(y[:, constraint.index].std())
        slack = [-float(constraint.excess(one.y)) for one in front if one.y is not None]
        tight = int(sum(one < _TIGHT * spread for one in slack)) if spread > 0.0 else 0
        if tight >= _MANY * len(front):
            yield (
                f"The constraint {constraint} limits {tight} of {counted(len(front), 'trial')} of "
                "the front. A looser bound would extend the front."
            )


def _ends(data: StudyData, front: ParetoFront) -> Iterator[str]:
    """Name ends of parameters at which a good part of the front lies."""
    if data.domain is None or data.domain.latent:
        return
    for name, parameter in data.axes.items():
        if isinstance(parameter, Choice):
            continue
        ends = np.array([float(parameter.low), float(parameter.high)])
        at = np.array([coordinate(parameter, data.values(one).get(name)) for one in front])
        if parameter.log:
            ends, at = np.log(ends), np.log(at)
        share = (at - ends[0]) / (ends[1] - ends[0])
        sides = (
            ("lower", share < _END, parameter.low), ("upper", share > 1.0 - _END, parameter.high)
        )  # fmt: skip
        for (side, near, value), useful in zip(sides, widenable(data.domain, name), strict=True):
            if useful and int(near.sum()) >= max(2.0, _MANY * len(front)):
                yield (
                    f"{data.label(name)} is at its {side} end, {value_text(float(value))}, in "
                    f"{int(near.sum())} of {counted(len(front), 'trial')} of the front. Widen the "
                    "range if values beyond it are possible."
                )


def _calls(front: ParetoFront, curve: HypervolumeCurve, problem: Problem | None) -> Iterator[str]:
    """Judge by the recent growth of the hypervolume whether further calls are worthwhile."""
    calls, volumes = np.asarray(curve.calls, dtype=float), np.asarray(curve.volumes, dtype=float)
    spent = int(calls[-1]) if len(calls) else 0
    if spent < 8 or volumes[-1] <= 0.0:
        yield "Continue the study: it has too few calls to judge the growth of its front."
        return
    start = int((1.0 - _LATE) * spent)
    growth = _growth(calls, volumes, start)
    last = spent - start
    if growth > _SMALL:
        yield (
            f"The last {last} calls still added {growth:.0%} of the hypervolume: "
            f"{how_to_continue(problem, 2 * spent)}."
        )
    else:
        yield (
            f"The last {last} calls added less than {_SMALL:.0%} of the hypervolume. Choose from "
            f"the {counted(len(front), 'trial')} of the front: more calls will probably add little."
        )


def _growth(calls: Array, volumes: Array, start: int) -> float:
    """Return the growth after ``start`` calls as a share of the hypervolume."""
    before = volumes[calls <= start]
    return float((volumes[-1] - (before[-1] if len(before) else 0.0)) / volumes[-1])
