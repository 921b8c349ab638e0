"""Chart of the probability that targets of one or two outputs can be reached."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale
from bo_invert.report.charts.layers import Heat, Layer, Line, Points
from bo_invert.report.charts.palette import HEAT
from bo_invert.types import Array

_LABEL = "probability that a design meets the target"


def reachable_region(
    names: Sequence[str], values: Array, probability: Array, observed: Array, note: str
) -> Chart:
    """Return a line over the values of one output, or colours over those of two.

    Args:
        names: Names of one or two outputs.
        values: Targets, shape ``(t, 1)`` or ``(t, 2)``; colours fill a full grid of them.
        probability: Probability of each target, shape ``(t,)``.
        observed: Observed outputs, shape ``(n, 1)`` or ``(n, 2)``.
        note: Sentence about the model, or empty.

    Raises:
        InvalidInputError: There are more than two outputs.
    """
    if len(names) > 2:
        raise InvalidInputError(
            f"reachable: plot needs one or two outputs, got {len(names)}: {', '.join(names)}. "
            "Use to_dataframe()"
        )
    columns = {name: values[:, j].tolist() for j, name in enumerate(names)}
    columns["probability"] = probability.tolist()
    if len(names) == 1:
        panel = _line(names[0], values[:, 0], probability, observed[:, 0])
        scale = None
    else:
        panel = _plane(names, values, probability, observed)
        scale = Scale(_LABEL, 0.0, 1.0, HEAT)
    notes = ("Observed outputs are attainable.", *([note] if note else []))
    title = f"Reachable values of {' and '.join(names)}"
    return Chart("reachable", title, (panel,), columns, notes, scale=scale)


def _line(name: str, values: Array, probability: Array, observed: Array) -> Panel:
    order = np.argsort(values, kind="stable")
    layers: tuple[Layer, ...] = (
        Line("model", _LABEL, values[order], probability[order]),
        Points("model point", "", values[order], probability[order]),
        Points("background", "observed outputs", observed, np.ones(len(observed))),
    )
    return Panel(Axis(name), Axis(_LABEL, bounds=(-0.03, 1.03)), layers, wide=True, height=360)


def _plane(names: Sequence[str], values: Array, probability: Array, observed: Array) -> Panel:
    x, y = np.unique(values[:, 0]), np.unique(values[:, 1])
    cells = np.full((len(y), len(x)), np.nan)
    at = np.searchsorted(y, values[:, 1]), np.searchsorted(x, values[:, 0])
    cells[at] = probability
    texts = tuple(
        f"{names[0]} {a:.4g}\n{names[1]} {b:.4g}\nprobability {p:.0%}"
        for (a, b), p in zip(values, probability, strict=True)
    )
    seen = Points("background", "observed outputs", observed[:, 0], observed[:, 1])
    full = len(x) > 1 and len(y) > 1 and bool(np.isfinite(cells).all())
    field: Layer = (
        Heat(_LABEL, x, y, cells)
        if full
        else Points("trial", "targets", values[:, 0], values[:, 1], texts, values=probability)
    )
    return Panel(Axis(names[0]), Axis(names[1]), (field, seen), wide=True, height=420)
