"""Mass and branches of the posterior of designs that verified designs cover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from bo_invert.types import Array, Indices, Mask

_LEAST_BRANCH = 2
"""Least number of particles of a branch. Engineering choice: single ones are often outliers."""


@dataclass(frozen=True, eq=False)
class Coverage:
    """Particles of the posterior of designs, and the verified designs near them.

    Args:
        points: Particles, shape ``(n, d)``.
        verified: Points of designs that the oracle confirmed, shape ``(v, d)``.
        distance: Root mean square difference of the coordinates within which a design covers
            others.
    """

    points: Array
    verified: Array
    distance: float

    @property
    def radius(self) -> float:
        """Euclidean distance within which a design covers others."""
        return self.distance * math.sqrt(self.points.shape[1])

    @cached_property
    def covered(self) -> Mask:
        """Mask ``(n,)`` of the particles that a verified design covers."""
        return within(self.points, self.verified, self.radius)

    @property
    def uncovered_share(self) -> float:
        """Share of the mass that no verified design covers."""
        return 1.0 - float(self.covered.mean())

    @cached_property
    def branches(self) -> Indices:
        """Branch of each particle ``(n,)``, numbered by falling mass.

        Particles nearer than the radius are connected (single linkage).
        """
        tree = cKDTree(self.points)
        graph = tree.sparse_distance_matrix(tree, self.radius, output_type="coo_matrix")
        _, labels = connected_components(graph, directed=False)
        order = np.argsort(-np.bincount(labels), kind="stable")
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        return np.asarray(places[labels])

    @property
    def undiscovered_branches(self) -> int:
        """Number of branches without a verified design."""
        sizes = np.bincount(self.branches)
        found = np.bincount(self.branches, self.covered.astype(float))
        return int(((sizes >= _LEAST_BRANCH) & (found == 0.0)).sum())

    def gain(self, candidates: Array, pending: Array) -> Array:
        """Return the share ``(c,)`` of the mass that each candidate ``(c, d)`` alone would cover.

        Points ``pending`` ``(p, d)`` count as verified.
        """
        left = self.points[~self.covered & ~within(self.points, pending, self.radius)]
        if not len(left):
            return np.zeros(len(candidates))
        found = cKDTree(left).query_ball_point(candidates, self.radius, return_length=True)
        return np.asarray(found) / len(self.points)


def within(points: Array, others: Array, radius: float) -> Mask:
    """Return a mask ``(n,)`` of points ``(n, d)`` within a radius of any of others ``(m, d)``."""
    if not len(others):
        return np.zeros(len(points), dtype=bool)
    return np.asarray(cKDTree(others).query(points)[0] <= radius)
