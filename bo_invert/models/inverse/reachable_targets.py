"""Probabilities that many targets can be reached, on the same drawn functions.

A descent of every draw for every target would take minutes. Each target descends the posterior mean
instead. The draws are linear near its end, so that Newton steps with one matrix of slopes lead each
of them to its own nearest point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.inverse.drawn_outputs import DrawnOutputs
from bo_invert.models.inverse.mean_search import RIGOUR, MeanSearch
from bo_invert.models.inverse.newton_steps import NewtonSteps
from bo_invert.models.inverse.target_distance import TargetDistance
from bo_invert.types import Array, Indices


@dataclass(frozen=True, eq=False)
class TargetReach:
    """Reachability of t targets.

    Args:
        probability: Share of the draws that meet each target, shape ``(t,)``.
        excess: Least largest excess of the mean, in tolerances, shape ``(t,)``.
        points: Points at which it is attained, shape ``(t, d)``.
        outputs: Modelled outputs of the mean there, shape ``(t, c)``.
    """

    probability: Array
    excess: Array
    points: Array
    outputs: Array


def reach_targets(
    outputs: DrawnOutputs,
    distance: TargetDistance,
    domain: Domain,
    starts: Array,
    rng: np.random.Generator,
) -> TargetReach:
    """Minimise the largest excess of the mean for each target, and of all draws near the end.

    Args:
        outputs: Drawn outputs.
        distance: Distance from t targets.
        domain: Search domain.
        starts: Points, shape ``(s, d)``.
        rng: Random generator.
    """
    search = MeanSearch(outputs, distance, domain, starts, rng)
    points = search.ends()  # (t, p, d)
    count = len(points)
    at = to_unit(domain, points.reshape(-1, domain.dim))
    values = outputs(at).reshape(*points.shape[:2], outputs.count, -1)  # (t, p, q, c)
    excess, _ = distance.excesses(values, np.arange(count)[:, None, None])
    beyond = outputs.infeasibility(at).reshape(*points.shape[:2], -1)
    drawn = np.arange(outputs.count) > 0
    slack = distance.slacks(np.arange(count)[:, None], drawn)[:, None]  # (t, 1, q, e)
    largest = np.maximum((excess - slack).max(-1), beyond)  # (t, p, q)
    rows = np.arange(count)
    hard = np.maximum((excess[:, :, 0] * search.strict.factors).max(-1), RIGOUR * beyond[:, :, 0])
    best = hard.argmin(1)
    least = largest.min(1)
    if domain.has_real:
        for base in (best, _second_base(largest, least, best)):
            newton = NewtonSteps(outputs, distance, domain, points[rows, base], values[rows, base])
            least = newton.improve(least)
    return TargetReach(
        (least[:, 1:] <= 0.0).mean(1), largest[rows, best, 0], points[rows, best],
        values[rows, best, 0],
    )  # fmt: skip


def _second_base(largest: Array, least: Array, first: Indices) -> Indices:
    """Return the best point ``(t,)`` other than the first for the draws that miss the target.

    Args:
        largest: Largest excesses of all draws, shape ``(t, p, q)``.
        least: Least ones so far, shape ``(t, q)``.
        first: First point of each target, shape ``(t,)``.
    """
    missing = (least > 0.0)[:, None]
    total = np.where(missing, largest, 0.0).sum(-1)
    total[np.arange(len(first)), first] = np.inf
    return np.asarray(total.argmin(1))
