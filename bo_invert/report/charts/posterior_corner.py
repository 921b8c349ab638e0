"""Corner plot of the posterior of designs: pairs and marginals of parameters by branch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.domains.parameters import Choice, VariedParameter
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Chart, Panel, floats
from bo_invert.report.charts.layers import Band, Layer, Line, Points
from bo_invert.report.charts.model_view import chosen_params
from bo_invert.report.charts.posterior_view import (
    Branch,
    PosteriorView,
    branches,
    columns,
    label,
    named_rows,
)
from bo_invert.report.charts.study_data import coordinate, parameter_axis
from bo_invert.report.charts.text import value_text
from bo_invert.types import Array, Indices

MOST = 6
"""Largest number of parameters. Engineering choice: 21 panels."""
_BINS = 24
"""Number of bins of a marginal. Engineering choice."""
_DRAWS = 2000
"""Number of draws of the reference measure for the choice of parameters. Engineering choice."""
_FEW, _DRAWN, _DRAWN_OF_MANY = 3, 1000, 400
"""Number of parameters up to which panels are large; largest number of samples in a large and in a
small panel. Engineering choice."""
_HEIGHT = 200
"""Height of a panel in pixels. Engineering choice."""


def posterior_corner(view: PosteriorView, params: Sequence[str] | None = None) -> Chart:
    """Return marginals on the diagonal and pairs of parameters below it, coloured by branch.

    Args:
        view: Posterior.
        params: Names of at most six parameters. Default: the parameters whose marginals have the
            largest total variation distance from the reference measure.

    Raises:
        InvalidInputError: A name is unknown or repeated, or there are too many.
    """
    axes = view.axes
    notes = list(view.summary)
    names = chosen_params(view, params, "posterior")
    if params is not None and len(names) > MOST:
        raise InvalidInputError(
            f"posterior: params must be at most {MOST} parameters, got {len(names)}"
        )
    values, verified = _coordinates(view, view.points), _coordinates(view, view.verified)
    if len(names) > MOST:
        names = _informed(view, values)
        notes.append(
            f"{MOST} of {len(axes)} parameters, whose marginals differ most from the reference "
            "measure. params= chooses others."
        )
    if any(np.isnan(values[name]).any() for name in names):
        notes.append("Designs without a conditional parameter are not in its panels.")
    found = list(branches(view))
    some = np.arange(len(view.points)) < (_DRAWN if len(names) <= _FEW else _DRAWN_OF_MANY)
    panels = []
    for row, below in enumerate(names):
        for beside in names[: row + 1]:
            if beside == below:
                layers = _marginal(axes[below], values[below], found)
                y, bare = Axis(), True
            else:
                layers = [
                    _pairs(view, branch, (beside, below), values, branch.rows[some[branch.rows]])
                    for branch in found
                ]
                y, bare = parameter_axis(label(view, below), axes[below]), False
            layers += _verified(verified, beside, None if bare else below)
            x = parameter_axis(label(view, beside), axes[beside])
            panels.append(Panel(x, y, tuple(layers), bare=bare, height=_HEIGHT))
    return Chart(
        "posterior", "Designs that meet the target", tuple(panels), columns(view), tuple(notes),
        columns_wide=min(3, len(names)), corner=len(names),
    )  # fmt: skip


def _coordinates(view: PosteriorView, points: Array) -> dict[str, Array]:
    """Return the positions of points on the axis of each parameter; NaN where it is inactive."""
    rows = named_rows(view.domain, points)
    return {
        name: floats([coordinate(parameter, row[name]) for row in rows])
        for name, parameter in view.axes.items()
    }


def _edges(parameter: VariedParameter) -> Array:
    """Return the edges of the bins of a marginal: one for each level of few."""
    if isinstance(parameter, Choice):
        return floats(np.arange(parameter.levels + 1) - 0.5)
    low, high, bins = float(parameter.low), float(parameter.high), _BINS
    if parameter.levels <= _BINS and not parameter.log:
        half = 0.5 * (high - low) / max(parameter.levels - 1, 1)
        low, high, bins = low - half, high + half, int(parameter.levels)
    spaced = np.geomspace if parameter.log else np.linspace
    edges: Array = spaced(low, high, bins + 1)
    return edges


def _counts(edges: Array, values: Array) -> Array:
    known = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
    return np.histogram(known, edges)[0] / max(len(values), 1)


def _informed(view: PosteriorView, values: dict[str, Array]) -> list[str]:
    """Return the parameters of the largest total variation distance, in their usual order."""
    draws = _coordinates(view, view.domain.sample(np.random.default_rng(0), _DRAWS))
    distances = {}
    for name, known in values.items():
        edges = _edges(view.axes[name])
        reference = _counts(edges, draws[name])
        distances[name] = float(np.abs(_counts(edges, known) - reference).sum())
    chosen = sorted(distances, key=lambda name: -distances[name])[:MOST]
    return [name for name in values if name in chosen]


def _marginal(parameter: VariedParameter, values: Array, found: Sequence[Branch]) -> list[Layer]:
    """Return stacked histograms of the branches."""
    edges = _edges(parameter)
    below = np.zeros(len(edges) - 1)
    layers: list[Layer] = []
    for branch in found:
        inside = np.isin(np.arange(len(values)), branch.rows)
        top = below + _counts(edges, np.where(inside, values, np.nan))
        # A step keeps its value until the next edge, so the last value occurs twice.
        low, high = np.append(below, below[-1]), np.append(top, top[-1])
        layers.append(Band(branch.role, "", edges, low, high, step=True))
        layers.append(Line(branch.role, "", edges, high, step=True))
        below = top
    return layers


def _pairs(
    view: PosteriorView,
    branch: Branch,
    names: tuple[str, str],
    values: dict[str, Array],
    rows: Indices,
) -> Points:
    x, y = (_apart(view.axes[name], values[name])[rows] for name in names)
    fine = np.isfinite(x) & np.isfinite(y)
    texts = tuple(
        f"{branch.name}\n{names[0]}: {value_text(float(a))}\n{names[1]}: {value_text(float(b))}\n"
        f"hits with {hit:.0%}"
        for a, b, hit in zip(x[fine], y[fine], view.hit[rows][fine], strict=True)
    )
    return Points(branch.role, branch.name, x[fine], y[fine], texts)


def _apart(parameter: VariedParameter, values: Array) -> Array:
    """Return positions in which designs of one level lie beside each other."""
    if parameter.levels > _BINS or (not isinstance(parameter, Choice) and parameter.log):
        return values
    edges = _edges(parameter)
    # The golden ratio spreads any number of rows evenly.
    shift = (np.arange(len(values)) * 0.5 * (np.sqrt(5.0) - 1.0)) % 1.0 - 0.5
    shifted: Array = values + 0.5 * (edges[1] - edges[0]) * shift
    return shifted


def _verified(values: dict[str, Array], beside: str, below: str | None) -> list[Layer]:
    x = values[beside]
    y = np.zeros(len(x)) if below is None else values[below]
    fine = np.isfinite(x) & np.isfinite(y)
    if not fine.any():
        return []
    texts = ("verified design",) * int(fine.sum())
    return [Points("verified", "verified design", x[fine], y[fine], texts)]
