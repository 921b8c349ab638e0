"""Feasible region of a descent on the device of the oracle: box or ball, and its plausible part."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.reference_measure import DataPrior, Reference
from bo_invert.domains.search_domain import Domain
from bo_invert.models.optim.feasible_box import ActiveSet, FeasibleBox, FeasibleRegion
from bo_invert.models.optim.feasible_polytope import ConstrainedCoordinates
from bo_invert.types import Array

# Relative distance from the sphere at which a point lies on it. Engineering choice: above the
# rounding error of single precision, 6e-8, in a norm of some thousand coordinates.
_SHELL = 1e-5
# Log density in nats above the floor: aim of Newton's steps, overshoot as in ``Reference``, and
# edge of the region. Engineering choice: the steps of a descent end within 0.005 of their aim.
_AIM, _DEEP, _EDGE = 0.005, 0.01, 0.02
# Count of Newton steps: the most on the CPU, a fixed one on other devices. Engineering choice: a
# descent leaves the region by one step, from where two or three suffice.
_ROUNDS, _ROUNDS_DEVICE = 12, 3
# Count of bisections between a point and a row of data. Engineering choice: as in ``DataPrior``.
_HALVINGS = 14


def feasible_region(domain: Domain, like: Tensor) -> FeasibleRegion[Tensor]:
    """Return the continuous region of a domain, with the device and dtype of ``like``."""
    if isinstance(domain, ConstrainedBox):
        return FeasibleConstraints(domain)
    if not domain.latent:
        if domain.floor and isinstance(domain.reference, DataPrior):
            return FeasibleData(domain.reference, domain.floor, like)
        return FeasibleBox(like.new_zeros(()), like.new_ones(()))
    if domain.floor and domain.reference is not None:
        return FeasibleLatent(domain.reach, domain.reference, domain.floor, like)
    return FeasibleBall(domain.reach, like.dtype)


def project(domain: Domain, points: Tensor) -> Tensor:
    """Project points onto the continuous domain, including its plausibility floor."""
    return feasible_region(domain, points).project(points)


class FeasibleConstraints:
    """Real points of a box under input constraints; the CPU computes their projections.

    The active set is that of ``FeasiblePolytope``. Directions of unit coordinates on a log scale
    are restricted like those of scaled values.
    """

    curved = False

    def __init__(self, domain: ConstrainedBox) -> None:
        self.domain = domain

    def project(self, points: Tensor) -> Tensor:
        return torch.from_numpy(self.domain.project(_host(points))).to(points)

    def active(self, points: Tensor, gradients: Tensor, scale: Tensor) -> ActiveSet[Any]:
        here, space = _host(points), ConstrainedCoordinates(self.domain)
        region = space.region(here, np.zeros_like(here), np.ones_like(here))
        face = region.active(space.straight(here), _host(gradients), _host(scale))
        return ActiveSet((region, face))

    def restrict(self, vectors: Tensor, active: ActiveSet[Any]) -> Tensor:
        region, face = active.at
        return torch.from_numpy(region.restrict(_host(vectors), face)).to(vectors)

    def select(self, rows: Tensor) -> FeasibleConstraints:
        del rows
        return self


def _host(points: Tensor) -> Array:
    return np.asarray(points.detach().cpu().double().numpy())


class FeasibleBall:
    """Ball around 0. The active set is the outward normal of a point on the sphere."""

    curved = True

    def __init__(self, radius: float, dtype: torch.dtype) -> None:
        # A few machine epsilon smaller, so that rounding does not leave the ball of the domain.
        self.radius = radius * (1.0 - 4.0 * torch.finfo(dtype).eps)

    def project(self, points: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp(min=1e-12)
        return torch.mul(points, (self.radius / norm).clamp(max=1.0))

    def active(self, points: Tensor, gradients: Tensor, scale: Tensor) -> ActiveSet[Tensor]:
        del scale
        normal = self._normal(points)
        # Only if the descent points outward.
        return ActiveSet(normal * ((normal * gradients).sum(-1, keepdim=True) < 0))

    def _normal(self, points: Tensor) -> Tensor:
        """Return unit normals ``(n, d)`` on the boundary, 0 inside."""
        norm = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp(min=1e-12)
        return torch.where(norm >= self.radius * (1.0 - _SHELL), points / norm, 0.0)

    def restrict(self, vectors: Tensor, active: ActiveSet[Tensor]) -> Tensor:
        normal = active.at
        return torch.addcmul(vectors, normal, (vectors * normal).sum(-1, keepdim=True), value=-1.0)

    def select(self, rows: Tensor) -> FeasibleBall:
        del rows
        return self


class _Density(NamedTuple):
    """Log densities ``(n, 1)``, whitened points ``(n, c, d)`` and log terms ``(n, c)``."""

    value: Tensor
    white: Tensor
    terms: Tensor


class FeasibleLatent(FeasibleBall):
    """Ball, and the set of log density at least that of the plausibility ``floor``.

    It computes ``Reference.confine`` on the device. The log density of the mixture is
    ``log sum_i exp(h_i - |W_i (z - m_i)|^2 / 2)`` with ``W_i = L_i^-1``, as one matrix product for
    all components. Points on a device other than the CPU take a fixed number of steps, so that the
    host does not wait; ``contains`` tells whether they have arrived.
    """

    def __init__(self, radius: float, reference: Reference, floor: float, like: Tensor) -> None:
        super().__init__(radius, like.dtype)
        self.reference, self.floor = reference, floor
        heights, shifts, whiteners = reference.whitened()
        self._heights, self._shifts, self._whiteners = map(
            like.new_tensor, (heights, shifts, whiteners)
        )
        self._least = reference.edge(floor)[0]
        self._aim, self._deep = self._least + _AIM, self._least + _DEEP
        self._host = like.device.type == "cpu"

    def project(self, points: Tensor) -> Tensor:
        points = super().project(points)
        density = self._density(points)
        if not self._host:
            return super().project(self._newton(points, density, _ROUNDS_DEVICE)[0])
        low = (density.value < self._least).squeeze(-1).nonzero().squeeze(-1)
        if not len(low):
            return points
        if len(low) == len(points):
            return super().project(self._confined(points, density))
        part = _Density(*(one[low] for one in density))
        return points.index_copy(0, low, super().project(self._confined(points[low], part)))

    def _confined(self, points: Tensor, density: _Density) -> Tensor:
        """Move points below the floor onto its edge; few need the exact method of the prior."""
        moved, value = self._newton(points, density, _ROUNDS)
        lost = (value < self._least).squeeze(-1)
        if lost.any():
            far = self.reference.confine(moved[lost].double().numpy(), self.floor)
            moved[lost] = torch.from_numpy(far).to(moved)
        return moved

    def contains(self, points: Tensor) -> Tensor:
        """Return True for points ``(n, d)`` above the floor, shape ``(n,)``."""
        return self._density(points).value.squeeze(-1) >= self._least

    def _normal(self, points: Tensor) -> Tensor:
        density = self._density(points)
        value, slope = density.value, self._slope(density)
        norm = torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=1e-12)
        return torch.where(value < self._least + _EDGE, -slope / norm, super()._normal(points))

    def _density(self, points: Tensor) -> _Density:
        white = torch.addmm(self._shifts, points, self._whiteners)
        white = white.reshape(len(points), len(self._heights), -1)
        terms = self._heights - 0.5 * white.square().sum(-1)
        return _Density(terms.logsumexp(-1, keepdim=True), white, terms)

    def _slope(self, density: _Density) -> Tensor:
        """Return gradients ``(n, d)`` of the log density: ``-sum_i r_i W_i' W_i (z - m_i)``."""
        shares = (density.terms - density.value).exp().unsqueeze(-1)
        return -(shares * density.white).flatten(1) @ self._whiteners.T

    def _newton(self, x: Tensor, density: _Density, rounds: int) -> tuple[Tensor, Tensor]:
        """Take Newton steps of points below the floor for ``log p = aim`` along the gradient.

        A step that ends deep inside, usually between two modes, is shortened by the secant rule.

        Returns:
            Points ``(n, d)`` and their log densities ``(n, 1)``.
        """
        before, lowest = x, density.value
        if self._host:  # all points are below the floor
            x = self._ahead(x, density)
            density = self._density(x)
        for _ in range(rounds):
            value = density.value
            outside, deep = value < self._least, (value > self._deep) & (lowest < self._least)
            if self._host and not (outside | deep).any():
                break
            secant = before + (self._aim - lowest) / (value - lowest) * (x - before)
            ahead = torch.where(deep, secant, x)
            ahead = torch.where(outside, self._ahead(x, density), ahead)
            before, lowest = torch.where(outside, x, before), torch.where(outside, value, lowest)
            x = ahead
            density = self._density(x)
        return x, density.value

    def _ahead(self, x: Tensor, density: _Density) -> Tensor:
        """Return the ends ``(n, d)`` of Newton steps of limited length."""
        slope = self._slope(density)
        steep = torch.linalg.vector_norm(slope, dim=-1, keepdim=True).clamp(min=1e-12)
        longest = 0.5 * math.sqrt(x.shape[-1])
        length = ((self._aim - density.value) / steep).clamp(max=longest)
        return torch.addcmul(x, slope, length / steep)


class FeasibleData(FeasibleLatent):
    """Unit cube, and the set of log density at least that of the plausibility ``floor``.

    Points below the floor take Newton steps towards it. Those that end outside of the cube or below
    the floor move straight to the nearest row of the data, as in ``DataPrior.confine``: the cube is
    convex, so the way lies inside.

    The active set holds two rows for each point: 1 at bounds that the descent would cross, and the
    unit normal of the edge in the other coordinates.
    """

    reference: DataPrior

    def __init__(self, reference: DataPrior, floor: float, like: Tensor) -> None:
        super().__init__(math.inf, reference, floor, like)
        self._rows, self._whitening = map(like.new_tensor, reference.plausible_rows(floor))

    def project(self, points: Tensor) -> Tensor:
        points = points.clamp(0.0, 1.0)
        density = self._density(points)
        low = density.value < self._least
        if self._host and not low.any():
            return points
        moved = self._newton(points, density, _ROUNDS if self._host else _ROUNDS_DEVICE)[0]
        moved = torch.where(low, moved.clamp(0.0, 1.0), points)
        return self._towards_rows(moved)

    def active(self, points: Tensor, gradients: Tensor, scale: Tensor) -> ActiveSet[Tensor]:
        del scale
        lower = (points <= _SHELL) & (gradients > 0)
        bound = (lower | ((points >= 1.0 - _SHELL) & (gradients < 0))).to(points)
        normal = self._normal(points) * (1.0 - bound)
        normal = normal / torch.linalg.vector_norm(normal, dim=-1, keepdim=True).clamp(min=1e-12)
        outward = (normal * gradients).sum(-1, keepdim=True) < 0
        return ActiveSet(torch.stack([bound, normal * outward], dim=-2))

    def restrict(self, vectors: Tensor, active: ActiveSet[Tensor]) -> Tensor:
        bound, normal = active.at.unbind(-2)
        inside = vectors * (1.0 - bound)
        along = (inside * normal).sum(-1, keepdim=True)
        return torch.addcmul(inside, normal, along, value=-1.0)

    def _towards_rows(self, start: Tensor) -> Tensor:
        """Move points ``(n, d)`` below the floor to its edge on the way to the nearest row."""
        low = self._density(start).value < self._least
        if self._host and not low.any():
            return start
        nearest = torch.cdist(start @ self._whitening, self._rows @ self._whitening).argmin(-1)
        way = self._rows[nearest] - start
        short, long = torch.zeros_like(start[:, :1]), torch.ones_like(start[:, :1])
        for _ in range(_HALVINGS):
            middle = 0.5 * (short + long)
            inside = self._density(torch.addcmul(start, middle, way)).value >= self._least
            short, long = torch.where(inside, short, middle), torch.where(inside, middle, long)
        return torch.where(low, torch.addcmul(start, long, way), start)
