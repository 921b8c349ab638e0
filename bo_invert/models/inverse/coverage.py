"""Mass and branches of the posterior of designs that verified designs cover."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from bo_invert.models.inverse.branches import by_mass, find_branches
from bo_invert.models.inverse.posterior_model import TargetModel
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
        branches: Branch of each particle, shape ``(n,)``, numbered by falling mass.
        verified_branches: Branch of each verified design, shape ``(v,)``.
    """

    points: Array
    verified: Array
    distance: float
    branches: Indices
    verified_branches: Indices

    @staticmethod
    def of(model: TargetModel, points: Array, verified: Array, distance: float) -> Coverage:
        """Return the coverage with the branches of the model.

        Outlying particles, single ones in their branch, count to that of the nearest other one.
        """
        labels = find_branches(model, np.concatenate([points, verified]))
        own, checked = labels[: len(points)].copy(), labels[len(points) :]
        outlying = np.bincount(own)[own] < _LEAST_BRANCH
        if outlying.all():  # no sample of the solutions: the model expects none
            own[:] = 0
        elif outlying.any():
            _, nearest = cKDTree(points[~outlying]).query(points[outlying])
            own[outlying] = own[~outlying][nearest]
        # Branches of outlying particles are empty now.
        own, checked = np.split(by_mass(np.concatenate([own, checked]), len(own)), [len(own)])
        return Coverage(points, verified, distance, own, checked)

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
    def masses(self) -> Array:
        """Share of the mass in each branch, shape ``(b,)``."""
        counts = np.bincount(self.branches, minlength=1 + max(self.verified_branches, default=0))
        return np.asarray(counts / len(self.points))

    @property
    def undiscovered_branches(self) -> int:
        """Number of branches with mass that have no verified design."""
        found = np.zeros(len(self.masses), dtype=bool)
        found[self.branches[self.covered]] = True
        found[self.verified_branches] = True
        return int(((self.masses > 0.0) & ~found).sum())

    def gain(self, candidates: Array, pending: Array) -> Array:
        """Return the share ``(c,)`` of the mass that each candidate ``(c, d)`` alone would cover.

        Points ``pending`` ``(p, d)`` count as verified.
        """
        left = self.points[~self.covered & ~within(self.points, pending, self.radius)]
        if not len(left):
            return np.zeros(len(candidates))
        found = cKDTree(left).query_ball_point(candidates, self.radius, return_length=True)
        return np.asarray(found) / len(self.points)

    def spread(self, first: int, apart: float) -> list[int]:
        """Return positions of verified designs: one of each branch first, then by covered mass.

        Args:
            first: Position of the design to begin with.
            apart: Least root mean square difference of the coordinates of further designs of a
                branch.
        """
        near = np.zeros((len(self.verified), len(self.points)), dtype=bool)
        found = cKDTree(self.points).query_ball_point(self.verified, self.radius)
        for row, places in zip(near, found, strict=True):
            row[places] = True
        chosen, covered = [first], near[first].copy()
        for branch in np.argsort(-self.masses, kind="stable"):
            rows = np.flatnonzero(self.verified_branches == branch)
            if len(rows) and branch != self.verified_branches[first]:
                chosen.append(int(rows[near[rows].sum(1).argmax()]))
                covered |= near[chosen[-1]]
        scale = math.sqrt(self.points.shape[1])
        while True:
            gaps = np.linalg.norm(self.verified[:, None] - self.verified[chosen], axis=2).min(1)
            gains = np.where(gaps >= apart * scale, (near & ~covered).sum(1), 0)
            if not gains.any():
                return chosen
            chosen.append(int(gains.argmax()))
            covered |= near[chosen[-1]]


def within(points: Array, others: Array, radius: float) -> Mask:
    """Return a mask ``(n,)`` of points ``(n, d)`` within a radius of any of others ``(m, d)``."""
    if not len(others):
        return np.zeros(len(points), dtype=bool)
    return np.asarray(cKDTree(others).query(points)[0] <= radius)
