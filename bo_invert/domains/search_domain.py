"""Search domains: what a strategy needs to know of the space of its points.

A point has shape ``(d,)``, a set of points ``(n, d)``. In a *box* every coordinate lies in
[0, 1]. In a *gaussian* domain the reference measure has mean 0 and covariance I.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bo_invert.domains.conditions import (
    design_count,
    has_conditions,
    inactive_coordinates,
)
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.input_constraints import InputConstraint
from bo_invert.domains.named_points import (
    decode_columns,
    decode_named,
    encode_named,
    nearest_point,
    parameter_columns,
)
from bo_invert.domains.parameters import Choice, Float, Parameter, VariedParameter
from bo_invert.domains.reference_measure import (
    Reference,
)
from bo_invert.types import JSON, Array, Mask, frozen


@dataclass(frozen=True, eq=False)
class Domain(ABC):
    """Search domain of a strategy; ``box_domain`` and ``gaussian_domain`` build it.

    Args:
        geometry: ``"box"`` or ``"gaussian"``.
        dim: number of coordinates d.
        parameters: names and types of the parameters of a box; empty for plain vectors.
        radius: largest norm of a point of a gaussian domain; infinite for a box.
        reference: fitted latent prior, None for N(0, I); or data prior of a box, None for uniform.
        floor: least plausibility of a proposed point, in [0, 1); 0 allows all within the radius.
        constraints: input constraints of a box; see ``constrained_box``.
    """

    geometry: Literal["box", "gaussian"]
    dim: int
    parameters: Mapping[str, Parameter]
    radius: float = math.inf
    reference: Reference | None = None
    floor: float = 0.0
    constraints: tuple[InputConstraint, ...] = ()

    latent: ClassVar[bool]
    """True for a gaussian domain: coordinates are unbounded and have a latent prior."""
    limits: ClassVar[tuple[float, float]]
    """Bounds of each coordinate of a valid point."""
    centre: ClassVar[float]
    """Mean of each coordinate under the reference measure."""
    precision: ClassVar[float]
    """Inverse variance of each coordinate under the reference measure."""
    step: ClassVar[float]
    """Default initial step size of an evolution strategy."""
    default_rate: ClassVar[float]
    """Default learning rate of a refining descent, also the RMS distance between its starts."""
    separation: ClassVar[float]
    """RMS difference of the coordinates from which two points count as different solutions."""
    adam: ClassVar[tuple[float, float, float]]
    """Distance that a descent can move a coordinate, and the least and largest rate of Adam."""

    @property
    def parameter_count(self) -> int:
        """Number of parameters; a choice counts once, whatever its number of coordinates."""
        return sum(p.width > 0 for p in self.parameters.values()) or self.dim

    @cached_property
    def continuous(self) -> bool:
        """True if every coordinate is a real number."""
        return all(p.continuous for p in self.parameters.values() if p.width)

    @cached_property
    def conditional(self) -> bool:
        """True if some parameter is active only for some values of another one."""
        return has_conditions(self.parameters)

    @property
    def has_unordered(self) -> bool:
        """True if some parameter is a choice whose values have no order."""
        return any(isinstance(p, Choice) and not p.ordered for p in self.parameters.values())

    @property
    def has_real(self) -> bool:
        """True if some coordinate is a real number, so that gradients are of use."""
        return not self.parameters or any(p.continuous for p in self.parameters.values())

    @property
    def size(self) -> float:
        """Number of different designs; infinite if some coordinate is a real number."""
        return math.inf if self.has_real else design_count(self.parameters)

    @cached_property
    def bounds(self) -> Array:
        """Lower and upper bounds of the coordinates, shape ``(2, d)``, read-only.

        Those of a gaussian domain are 3 standard deviations or the radius, whichever is less.
        """
        reach = min(self.radius, 3.0)
        return frozen(np.clip(self.limits, -reach, reach)[:, None].repeat(self.dim, axis=1))

    @property
    def axes(self) -> Mapping[str, VariedParameter]:
        """Parameters that vary by name; ``z0, z1, ...`` between the bounds without names."""
        ranges = enumerate(self.bounds.T.tolist())
        varied = {n: p for n, p in self.parameters.items() if not isinstance(p, Fixed)}
        return varied or {f"z{i}": Float(low, high) for i, (low, high) in ranges}

    @property
    def scale(self) -> float:
        """Standard deviation of a coordinate under the reference measure."""
        return math.sqrt(1.0 / self.precision)

    @property
    def typical_distance(self) -> float:
        """Root mean squared distance between two draws: E (z - z')^2 = 2 var z per coordinate."""
        return math.sqrt(2.0 * self.dim / self.precision)

    @property
    def reach(self) -> float:
        """Largest norm of a valid point."""
        return self.radius

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of the coordinates of each parameter."""
        return parameter_columns(self.parameters)

    def with_floor(self, floor: float) -> Domain:
        """Return the domain with this least plausibility; a box without data returns itself."""
        return replace(self, floor=floor) if self.latent or self.reference is not None else self

    def satisfied(self, points: Array) -> Mask:
        """Return a mask ``(n,)`` of the points ``(n, d)`` that satisfy the input constraints."""
        return np.ones(len(np.atleast_2d(points)), dtype=bool)

    def admits(self, points: Array) -> Mask:
        """Return a mask ``(n,)`` of the points ``(n, d)`` in the domain.

        They lie within its bounds, satisfy the input constraints and reach the plausibility floor.
        """
        if self.latent:
            inside = np.linalg.norm(points, axis=1) <= self.reach
        else:
            inside = ((points >= 0.0) & (points <= 1.0)).all(1)
        if self.constraints and inside.any():
            inside[inside] = self.satisfied(points[inside])
        if self.floor and inside.any():
            inside[inside] = self.plausibility(points[inside]) >= self.floor
        return np.asarray(inside)

    def violated(self, point: Array) -> str:
        """Return a text with an input constraint that a point ``(d,)`` violates, or ``""``."""
        del point
        return ""

    def violated_constraint(self, point: Array) -> str:
        """Return the first input constraint that a point ``(d,)`` violates, as text, or ``""``."""
        del point
        return ""

    @abstractmethod
    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` valid points from the reference measure, shape ``(n, d)``."""

    def uniform(self, rng: np.random.Generator, n: int) -> Array:
        """Draw ``n`` points uniformly between the bounds, shape ``(n, d)``."""
        lower, upper = self.bounds
        return self.project(lower + rng.random((n, self.dim)) * (upper - lower))

    def sobol(self, rng: np.random.Generator, n: int, skip: int = 0) -> Array:
        """Return points ``skip .. skip + n`` of a scrambled Sobol sequence, shape ``(n, d)``.

        A gaussian domain maps the sequence through the inverse normal distribution function. A box
        has one coordinate of the sequence for each parameter, so that the values of a choice
        occur equally often.
        """
        from scipy.stats import qmc

        engine = qmc.Sobol(self.parameter_count, scramble=True, rng=rng)
        u = engine.random(1 << max(0, math.ceil(math.log2(skip + n))))[skip : skip + n]
        return self.project(self._quantiles(u))

    @abstractmethod
    def _quantiles(self, u: Array) -> Array:
        """Map uniform numbers ``(n, p)``, one for each parameter, to points ``(n, d)``."""

    @abstractmethod
    def space_filling(
        self, sequence: np.random.Generator, draws: np.random.Generator, n: int, skip: int = 0
    ) -> Array:
        """Return ``n`` points of an initial design, shape ``(n, d)``.

        A box takes points ``skip .. skip + n`` of the Sobol sequence that ``sequence`` scrambles.
        A latent, or a box with data, takes ``draws`` of its reference measure, which a Sobol
        sequence does not follow.
        """

    def candidates(self, rng: np.random.Generator, n: int) -> Array:
        """Return ``n`` points over the whole domain, for the start of a search, ``(n, d)``."""
        return self.space_filling(rng, rng, n)

    @abstractmethod
    def project(self, points: Array) -> Array:
        """Return the nearest valid points, same shape.

        A box clips coordinates and rounds them to the levels of a parameter. A gaussian domain
        moves points inside the radius. Both move points to the edge of the plausibility ``floor``.
        """

    def rounded(self, points: Array) -> Array:
        """Return points with integers, steps and choices at their nearest values."""
        return points

    def measured(self, points: Array) -> Array:
        """Return points of the user like ``rounded``, with values between steps as they are."""
        return points

    @abstractmethod
    def plausibility(self, points: Array) -> Array:
        """Return shares in [0, 1] of the reference measure that are less plausible, ``(n,)``."""

    @abstractmethod
    def centred(self, points: Array) -> Array:
        """Return points ``(n, d)`` around the origin; those of a box are scaled to [-1, 1]."""

    def descent_rate(self, steps: int) -> float:
        """Return the default learning rate of an Adam descent of this many steps.

        Adam moves a coordinate by about its rate per step, so ``reach / steps`` lets every
        coordinate cover the distance ``reach``. The rate is clipped to a stable range.
        """
        reach, low, high = self.adam
        return min(high, max(low, reach / steps))

    def inactive(self, points: Array) -> NDArray[np.bool_]:
        """Return a mask ``(n, d)`` of the coordinates of inactive parameters."""
        return inactive_coordinates(self.parameters, points)

    def values(self, points: Array, measured: bool = False) -> list[dict[str, Any]]:
        """Decode points ``(n, d)`` to named values of the active parameters.

        Args:
            points: points ``(n, d)``.
            measured: values between the steps of a parameter stay as they are.
        """
        return decode_named(self.parameters, points, measured)

    def encode(self, values: Sequence[Mapping[str, Any]]) -> Array:
        """Encode named parameters as points ``(n, d)``; steps do not bind values of the user.

        Raises:
            InvalidInputError: a name is missing or unknown, or a value is out of range.
        """
        return encode_named(self.parameters, values)

    def named(self, point: Array, measured: bool = False) -> dict[str, Any]:
        """Decode a point ``(d,)`` to values of the ``axes``, inactive ones included.

        Args:
            point: point ``(d,)``.
            measured: values between the steps of a parameter stay as they are.
        """
        if self.parameters:
            decoded = decode_columns(self.parameters, point[None], measured)
            return {name: decoded[name][0] for name in self.axes}
        return dict(zip(self.axes, point.tolist(), strict=True))

    def point(self, named: Mapping[str, Any]) -> Array:
        """Return the nearest valid point ``(d,)`` of values of the ``axes``."""
        if self.parameters:
            return self.project(nearest_point(self.parameters, named))
        return self.project(np.array([named[name] for name in self.axes], dtype=float))

    def to_json(self) -> JSON:
        """Return the JSON form that identifies the domain in a log."""
        return {
            "geometry": self.geometry,
            "dim": self.dim,
            "parameters": {name: p.to_json() for name, p in self.parameters.items()},
            "radius": self.radius if math.isfinite(self.radius) else None,
            **({"floor": self.floor} if self.floor else {}),
        }
