"""Map of the posterior of designs on two principal axes, and pictures of designs by branch."""

from __future__ import annotations

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel
from bo_invert.report.charts.layers import Layer, Points
from bo_invert.report.charts.posterior_view import Branch, PosteriorView, branches, columns, label
from bo_invert.report.charts.principal_axes import principal_axes
from bo_invert.report.pictures import mosaic

_DRAWS = 1000
"""Number of draws of the reference measure in the background. Engineering choice."""
_SIDE = 4
"""Number of pictures of a branch along each side. Engineering choice."""
_HEIGHT = 360
"""Height of a panel in pixels. Engineering choice."""


def posterior_map(view: PosteriorView) -> Chart:
    """Return the samples on their first two principal axes, and pictures of each branch.

    Args:
        view: Posterior.
    """
    points, domain = view.points, view.domain
    mean, axes, shares = principal_axes(points)
    layers: list[Layer] = []
    draws = (domain.sample(np.random.default_rng(0), _DRAWS) - mean) @ axes.T
    name = f"draws of the {'prior' if domain.latent else 'search space'}"
    layers.append(Points("background", name, draws[:, 0], draws[:, 1]))
    at = (points - mean) @ axes.T
    found = list(branches(view))
    for branch in found:
        texts = tuple(f"{branch.name}\nhits with {one:.0%}" for one in view.hit[branch.rows])
        x, y = at[branch.rows].T
        layers.append(Points(branch.role, branch.name, x, y, texts))
    if len(view.verified):
        x, y = ((view.verified - mean) @ axes.T).T
        texts = ("verified design",) * len(x)
        layers.append(Points("verified", "verified design", x, y, texts))
    notes = list(view.summary)
    labels = [f"principal axis {i + 1}" for i in range(2)]
    if points.shape[1] > 2:
        notes.append(
            f"The first two principal axes of the samples hold {shares[:2].sum():.0%} of their "
            f"variance in {points.shape[1]} coordinates."
        )
    elif len(view.axes) == 2:
        labels = [label(view, name) for name in view.axes]
    panels = [Panel(Axis(labels[0]), Axis(labels[1]), tuple(layers), height=_HEIGHT)]
    panels += _gallery(view, found)
    if len(panels) > 1:
        notes.append(f"Pictures: up to {_SIDE**2} samples of each branch.")
    return Chart(
        "posterior", "Designs that meet the target", tuple(panels), columns(view), tuple(notes)
    )


def _gallery(view: PosteriorView, found: list[Branch]) -> list[Panel]:
    """Return pictures of samples, one panel for each branch; none if a design has no picture."""
    panels: list[Panel] = []
    for branch in found:
        # Samples are in random order; repeated ones would show the same design twice.
        _, first = np.unique(view.points[branch.rows], axis=0, return_index=True)
        rows = branch.rows[np.sort(first)[: _SIDE**2]]
        pictures = None if view.pictures is None else view.pictures(view.points[rows])
        if pictures is None:
            return []
        side = min(_SIDE, len(pictures))
        panels.append(Panel(title=branch.name, picture=mosaic(pictures, side), height=_HEIGHT))
    return panels
