"""Ternary panel: the model over three parts of a mixture whose sum is constant.

The corners are pure parts, in the sense of pseudocomponents: each part above its lower end (Cornell
2002, "Experiments with mixtures"). A point has the Cartesian coordinates
``x = u_2 + u_3 / 2`` and ``y = sqrt(3) / 2 u_3`` of its shares ``u_j``, which sum to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.parameters import Float
from bo_invert.report.charts.chart import Axis, Panel, floats
from bo_invert.report.charts.grid import completed
from bo_invert.report.charts.layers import Hatch, Heat, Labels, Layer, Line
from bo_invert.report.charts.model_view import ModelView, outside_reason
from bo_invert.report.charts.study_data import StudyData
from bo_invert.report.charts.text import shortened
from bo_invert.types import Array, Mask

_HIGH = math.sqrt(3.0) / 2.0
"""Height of a triangle with sides of length 1, dimensionless (Cornell 2002)."""
_STEPS = 61
"""Number of grid points along the lower side. Engineering choice."""
_TICKS = (0.25, 0.5, 0.75)
"""Shares with a tick on each side. Engineering choice."""
_LEAST = 1e-9
"""Smallest sum of three parts, as a share of the total, that has ratios. Engineering choice."""


@dataclass(frozen=True)
class Mixture:
    """Parts with a constant weighted sum: ``sum_j weights_j v_j = total``.

    Args:
        weights: positive weights of the parameters that vary, by name.
        total: the constant.
    """

    weights: Mapping[str, float]
    total: float


def mixtures(data: StudyData) -> list[Mixture]:
    """Return the equalities of a study over three or more real parameters with one sign."""
    domain = data.domain
    if not isinstance(domain, ConstrainedBox):
        return []
    found = []
    for one in domain.feasible.linear:
        terms = {name: c for name, c in one.coefficients.items() if c}
        sign = np.sign(next(iter(terms.values()), 0.0))
        real = all(
            isinstance(data.axes.get(name), Float) and np.isinf(data.axes[name].levels)
            for name in terms
        )
        if one.equality and len(terms) > 2 and real and all(c * sign > 0 for c in terms.values()):
            weights = {name: float(c * sign) for name, c in terms.items()}
            found.append(Mixture(weights, float(one.upper * sign if sign > 0 else -one.lower)))
    return found


def ternary_panel(view: ModelView, mixture: Mixture, names: Sequence[str]) -> Panel:
    """Return the model over three parts, whose sum is that of the base point.

    Trials lie at the ratios of their parts.

    Args:
        view: model of a study.
        mixture: mixture with the parts.
        names: names of the three parts.
    """
    data, base, quantity = view.data, view.base, view.quantity
    assert data.domain is not None
    weights = floats([mixture.weights[name] for name in names])
    ends = [one for name in names if isinstance(one := data.axes[name], Float)]
    lows: Array = np.multiply(weights, floats([one.low for one in ends]))
    others = [name for name in mixture.weights if name not in names]
    at = data.domain.values(base[None])[0]
    size = mixture.total - sum(mixture.weights[n] * at[n] for n in others) - float(lows.sum())
    title = f"{', '.join(names)}" + "".join(
        f"; {name} = {_amount(float(at[name]), mixture.total)}" for name in others
    )
    bare = Axis(ticks=(), bounds=(-0.16, 1.16)), Axis(ticks=(), bounds=(-0.17, _HIGH + 0.12))
    if size <= _LEAST * max(abs(mixture.total), 1e-300):
        return Panel(
            *bare, title=title, bare=True, equal=True, height=370,
            reason=f"The {data.leading_name} holds nothing of {', '.join(names)}.",
        )  # fmt: skip
    x, y = np.linspace(0.0, 1.0, _STEPS), np.linspace(0.0, _HIGH, round(_STEPS * _HIGH))
    third = y[:, None] / _HIGH + 0.0 * x
    second = x - third / 2.0
    shares = np.stack([1.0 - second - third, second, third])
    inside: Mask = np.asarray((shares >= -1e-9).all(axis=0))
    parts = (lows[:, None] + np.clip(shares[:, inside], 0.0, 1.0) * size) / weights[:, None]
    values = {
        name: np.clip(part, one.low, one.high)
        for name, part, one in zip(names, parts, ends, strict=True)
    }
    moved = np.array([values[name] for name in names]) - parts
    fits = (np.abs(moved) <= 1e-9 * size).all(axis=0)
    found = completed(data.domain, base, {n: list(v) for n, v in values.items()}, others)
    possible = found.possible & fits
    z, excluded = np.full(inside.shape, np.nan), inside.copy()
    median = view.model.interval(found.points, quantity.output).median
    z[inside] = np.where(possible, median, np.nan)
    excluded[inside] = ~possible
    layers: list[Layer] = [Heat(quantity.label, x, y, z)]
    if excluded.any():
        layers.append(Hatch("outside of the input constraints", x, y, excluded))
    doubtful = np.zeros_like(inside)
    doubtful[inside] = data.doubtful(view.model, found.points) & possible
    if doubtful.any():
        layers.append(Hatch("probably infeasible", x, y, doubtful, "doubtful"))
    layers += _frame([data.label(name) for name in names], lows / weights, size / weights)
    layers += _markers(view, names, weights, lows)
    return Panel(
        *bare, tuple(layers), title=title, bare=True, equal=True, height=370,
        reason=outside_reason(data, names),
    )  # fmt: skip


def _amount(value: float, total: float) -> str:
    """Return an amount with three digits; rounding errors are 0."""
    return f"{value:.3g}" if abs(value) > _LEAST * abs(total) else "0"


def _place(shares: Array) -> Array:
    """Return Cartesian coordinates ``(n, 2)`` of shares ``(n, 3)``."""
    return np.column_stack([shares[:, 1] + shares[:, 2] / 2.0, _HIGH * shares[:, 2]])


def _frame(labels: Sequence[str], lows: Array, sizes: Array) -> list[Layer]:
    """Return sides, lines of equal parts, names of the corners and ticks."""
    corners = _place(np.eye(3))
    closed = corners[[0, 1, 2, 0]]
    layers: list[Layer] = [Line("axis", "", closed[:, 0], closed[:, 1])]
    names = [shortened(label, 22) for label in labels]
    ends = [f"{low + size:.3g}" for low, size in zip(lows, sizes, strict=True)]
    for i, (side, anchor, dy) in enumerate(
        (("below", "centre", -0.02), ("below", "centre", -0.02), ("above", "centre", 0.02))
    ):
        layers.append(
            Labels(
                corners[[i], 0], corners[[i], 1] + dy, (f"{names[i]} = {ends[i]}",), anchor, side
            )
        )
    # The share of part i falls from its corner to 0 along the side to the next corner.
    sides = (("centre", "below"), ("left", "middle"), ("right", "middle"))
    for i, (anchor, side) in enumerate(sides):
        other = (i + 1) % 3
        rows = np.zeros((len(_TICKS), 3))
        rows[:, i], rows[:, other] = _TICKS, 1.0 - np.array(_TICKS)
        at = _place(rows)
        texts = tuple(f"{lows[i] + t * sizes[i]:.2g}" for t in _TICKS)
        shift = {"left": 0.015, "right": -0.015}.get(anchor, 0.0)
        drop = -0.015 if side == "below" else 0.0
        layers.append(Labels(at[:, 0] + shift, at[:, 1] + drop, texts, anchor, side))
        ends_of = rows.copy()
        ends_of[:, 3 - i - other], ends_of[:, other] = ends_of[:, other], 0.0
        far = _place(ends_of)
        gap = np.full(len(_TICKS), np.nan)
        x, y = (np.column_stack([at[:, k], far[:, k], gap]).ravel() for k in (0, 1))
        layers.append(Line("guide", "", x, y))
    return layers


def _markers(view: ModelView, names: Sequence[str], weights: Array, lows: Array) -> list[Layer]:
    """Return markers of the trials at the ratios of their parts."""
    data, places = view.data, {}
    for trial in view.trials:
        row = data.values(trial)
        parts = floats([row.get(name, np.nan) for name in names]) * weights - lows
        total = float(parts.sum())
        shares = parts / total if total > 0.0 else np.full(3, np.nan)
        x, y = _place(shares[None])[0]
        places[trial.number] = (x, y) if (shares >= -0.02).all() else (np.nan, np.nan)
    layers: list[Layer] = list(data.markers(view.trials, places))
    if data.leading is not None and data.leading.number in places:
        layers += data.leading_marker(*places[data.leading.number])
    return layers
