"""Test for noise in a log without repeated points."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.types import Array, Mask

_NEIGHBOURS = 3
"""Nearest points in pairs with each point. Engineering choice: pairs of more share points."""
_CLOSE = 0.05
"""Largest distance of a pair: root mean square over coordinates, in units of the unit cube.
Engineering choice: finer structure of an exact oracle would look like noise."""
_NEAR_TARGET = 3.0
"""Largest distance of outputs from a target that a search selects, in tolerances.
Engineering choice: the step before the last one of a search is often as far away."""
_MIN_PAIRS = 15
"""Least number of pairs. Engineering choice: fewer do not determine a slope."""
_SPREAD = math.pi / math.sqrt(8.0)
"""Standard deviation of log|Z| of a standard normal Z, exact, in nats."""
_SLOPES = -1.0, 0.5
"""Range of slopes of noise, dimensionless. The upper end is the middle of 0 and 1; slopes far below
0 come from few clusters of points. In logs of experiments/noise.py, slopes of exact oracles were
0.7 to 2.3 (once -2.4), those of noisy ones -0.7 to 1.3."""


def log_suggests_noise(statement: ProblemStatement, history: History) -> bool:
    """Return True if the outputs of close points suggest noise, and no point is repeated."""
    repeated = len(history.groups) < len(history.completed)
    if not history.completed or repeated or not statement.domain.continuous:
        return False
    modelled = ModelledOutputs(statement, history.y, history.losses)
    inputs = to_unit(statement.domain, history.points)
    return noise_suspected(inputs, modelled.values, _selected(statement, history))


def _selected(statement: ProblemStatement, history: History) -> Mask | None:
    """Return the mask ``(n,)`` of observations that a search selected by their outputs.

    Searches of a target collect points with outputs near it, at any distance from each other. Their
    outputs differ by the tolerance, as if by noise.
    """
    target = statement.objective
    if not isinstance(target, Target):
        return None
    return np.asarray(target.within(history.y, _NEAR_TARGET))


def noise_suspected(inputs: Array, values: Array, selected: Mask | None = None) -> bool:
    """Return True if values of close points differ no less the closer the points are.

    The slope of ``neighbour_slope`` must lie in ``_SLOPES``, and one standard error below 1. The
    result is False without enough close pairs, and with equal values of different points.

    Args:
        inputs: Different unit inputs, shape ``(n, d)``.
        values: Their outputs, shape ``(n, c)``.
        selected: Mask ``(n,)`` of points that were selected by their outputs; pairs of two of them
            do not count.
    """
    slope, error = neighbour_slope(inputs, values, selected)
    return _SLOPES[0] < slope < _SLOPES[1] and slope + error < 1.0


def neighbour_slope(
    inputs: Array, values: Array, selected: Mask | None = None
) -> tuple[float, float]:
    """Return the slope b of log|y_i - y_j| = a + b log|x_i - x_j| and its standard error.

    The pairs are close points. The slope is 0 for noise, and at least 1 for a differentiable
    function. Several outputs are averaged after the logarithm. Both numbers are infinite without
    enough pairs, and if different points have equal values.

    Args:
        inputs: Different unit inputs, shape ``(n, d)``.
        values: Their outputs, shape ``(n, c)``.
    """
    n, d = inputs.shape
    if n <= _NEIGHBOURS:
        return math.inf, math.inf
    nearest = cKDTree(inputs).query(inputs, k=_NEIGHBOURS + 1)[1]
    pairs = np.stack([np.repeat(np.arange(n), _NEIGHBOURS), nearest[:, 1:].ravel()])
    left, right = np.unique(np.sort(pairs, 0), axis=1)
    distances = np.linalg.norm(inputs[left] - inputs[right], axis=1) / math.sqrt(d)
    close = (distances > 0.0) & (distances <= _CLOSE)
    if selected is not None:
        close &= ~(selected[left] & selected[right])
    differences = np.abs(values[left] - values[right])[close]
    # Noise leaves no equal values, unlike steps.
    if close.sum() < _MIN_PAIRS or not differences.all():
        return math.inf, math.inf
    x, y = np.log(distances[close]), np.log(differences).mean(1)
    x = x - x.mean()
    variation = float(x @ x) or 1e-300
    return float(x @ y) / variation, _SPREAD / math.sqrt(variation)
