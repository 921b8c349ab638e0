"""Probabilities that many targets can be reached, on the same drawn functions.

A descent of every draw for every target would take minutes. Each target descends the posterior mean
instead. The draws are linear near its end, so that Newton steps with one matrix of slopes lead each
of them to its own nearest point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    found = [_at_ends(outputs, distance, to_unit(domain, own), t) for t, own in enumerate(points)]
    largest, hard = (np.stack(parts) for parts in zip(*found, strict=True))  # (t, p, q), (t, p)
    rows, best = np.arange(len(points)), hard.argmin(1)
    least = largest.min(1)
    if domain.has_real:
        for base in (best, _second_base(largest, least, best)):
            least = NewtonSteps(outputs, distance, domain, points[rows, base]).improve(least)
    nearest = points[rows, best]
    values = outputs.only_mean()(to_unit(domain, nearest))[:, 0]
    return TargetReach((least[:, 1:] <= 0.0).mean(1), largest[rows, best, 0], nearest, values)


def _at_ends(
    outputs: DrawnOutputs, distance: TargetDistance, inputs: Array, target: int
) -> tuple[Array, Array]:
    """Return largest excesses ``(p, q)`` of all draws over one target, and strict ones of the mean.

    The strict ones ``(p,)`` weigh constraints and failures, so that the nearest outputs are
    feasible. Targets are evaluated one by one, because hundreds of outputs of all draws need
    gigabytes.
    """
    values, beyond = outputs(inputs), outputs.infeasibility(inputs)  # (p, q, c), (p, q)
    slack = distance.slacks(np.asarray(target), np.array(True))
    mean = distance.largest(values[:, :1], target)
    largest = np.concatenate([mean, distance.largest(values[:, 1:], target, slack)], axis=1)
    strict = replace(distance, rigour=RIGOUR).largest(values[:, 0], target)
    return np.maximum(largest, beyond), np.maximum(strict, RIGOUR * beyond[:, 0])


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
