"""Chart of the points of the trials in two dimensions, with decoded designs if they are images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Chart, Panel, Scale, floats
from bo_invert.report.charts.layers import Layer, Points
from bo_invert.report.charts.palette import RANKED
from bo_invert.report.charts.principal_axes import principal_axes
from bo_invert.report.charts.study_data import StudyData
from bo_invert.report.pictures import mosaic
from bo_invert.report.runs import Picture
from bo_invert.types import Array

_DRAWS = 1000
"""Number of draws of the reference measure in the background. Engineering choice."""
_SIDE = 7
"""Number of decoded designs along each side of the map of pictures. Engineering choice."""
_REACH = 2.0
"""Ends of the map of pictures in standard deviations of the draws. Engineering choice: 95 %."""


def latent_map(
    data: StudyData,
    target: str | None = None,
    draw: Callable[[Array], list[Picture] | None] | None = None,
) -> Chart:
    """Return the first two principal components of the points, coloured by value.

    Args:
        data: the study.
        target: output that colours the points; None for the value of the goal.
        draw: map from points ``(n, d)`` to pictures of their designs, None if they have none.

    Raises:
        InvalidInputError: no trial is completed.
    """
    quantity = data.quantity(target)
    trials = data.completed
    if not trials:
        raise InvalidInputError("latent_map: at least one trial must be completed; run the study")
    points = floats([trial.point for trial in trials])
    draws = np.empty((0, points.shape[1]))
    if data.domain is not None:
        draws = data.domain.sample(np.random.default_rng(0), _DRAWS)
    mean, axes, shares = principal_axes(draws if len(draws) else points)
    values = floats([data.value(trial, quantity) for trial in trials])
    at = (points - mean) @ axes.T
    layers: list[Layer] = []
    if len(draws):
        seen = (draws - mean) @ axes.T
        of = "prior" if data.domain is not None and data.domain.latent else "search space"
        layers.append(Points("background", f"draws of the {of}", seen[:, 0], seen[:, 1]))
    sign = quantity.better or 1
    order = np.argsort(sign * values, kind="stable")  # the best trials are in front
    texts = tuple(data.describe(trials[i]) for i in order)
    layers.append(Points("trial", "trial", at[order, 0], at[order, 1], texts, values[order]))
    if data.leading is not None:
        x, y = (data.leading.point - mean) @ axes.T
        layers += data.leading_marker(float(x), float(y))
    worst, best = np.quantile(sign * values, [0.1, 1.0]) * sign
    labels = [f"component {i + 1}" for i in range(2)]
    notes = []
    if points.shape[1] > 2:
        explained = f"{shares[:2].sum():.0%}"
        notes.append(
            f"First two principal components of {points.shape[1]} coordinates; they hold "
            f"{explained} of the variance of the {'draws' if len(draws) else 'trials'}."
        )
    elif len(data.axes) == 2:
        labels = [data.label(name) for name in data.axes]
    panels = [Panel(Axis(labels[0]), Axis(labels[1]), tuple(layers), height=400)]
    plane = None if draw is None else _mosaic(data, mean, axes, draws, draw)
    if plane is not None:
        panels.append(Panel(title="Decoded designs over the same plane", picture=plane, height=400))
        notes.append(f"The pictures cover {_REACH:g} standard deviations to each side of the mean.")
    columns = data.columns(trials) | {
        "component_1": at[:, 0].tolist(),
        "component_2": at[:, 1].tolist(),
    }
    scale = Scale(quantity.label, float(worst), float(best), RANKED)
    title = "Map of the points"
    return Chart("latent_map", title, tuple(panels), columns, tuple(notes), scale, columns_wide=2)


def _mosaic(
    data: StudyData,
    mean: Array,
    axes: Array,
    draws: Array,
    draw: Callable[[Array], list[Picture] | None],
) -> Picture | None:
    """Return pictures of designs on a grid of the plane, as one picture."""
    if data.domain is None or not len(draws):
        return None
    spread = ((draws - mean) @ axes.T).std(axis=0)
    steps = np.linspace(-_REACH, _REACH, _SIDE)
    grid = [
        mean + x * spread[0] * axes[0] + y * spread[1] * axes[1] for y in steps[::-1] for x in steps
    ]
    pictures = draw(data.domain.project(np.array(grid)))
    return None if pictures is None else mosaic(pictures, _SIDE)
