"""Where strategies move: the unit cube of typed parameters, or a whitened latent. numpy only.

A point has shape ``(d,)``, a set of points ``(n, d)``. In a *box* every coordinate lies in [0, 1]. In a
*gaussian* domain the reference measure has mean 0 and covariance I, so its mass lies on the shell of radius
``sqrt(d)``; ``radius`` bounds what is still plausible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.latent_prior import Reference
from bo_invert.parameters import Choice, Float, Int, Parameter, parameter_from_json
from bo_invert.types import JSON, Array

_ROUNDS = 50
_MARGIN = 1e-5
"""Of a radius: what rounding to single precision must not cost at the edge."""


@dataclass(frozen=True, eq=False)
class Domain:
    """The geometry a strategy sees.

    Args:
        geometry: ``"box"`` or ``"gaussian"``.
        dim: number of coordinates d.
        parameters: names and types, for a box of named parameters; empty for plain vectors.
        radius: for a gaussian domain, the largest plausible norm of a point; infinite for a box.
        reference: for a gaussian domain, the measured reference measure; None stands for N(0, I).
        floor: least plausibility of a point that may be asked for, in [0, 1); 0 for any inside the radius.
    """

    geometry: Literal["box", "gaussian"]
    dim: int
    parameters: Mapping[str, Parameter]
    radius: float = math.inf
    reference: Reference | None = None
    floor: float = 0.0

    @property
    def continuous(self) -> bool:
        """Whether every coordinate is a real number."""
        return all(isinstance(p, Float) for p in self.parameters.values())

    @property
    def size(self) -> float:
        """How many designs a box of whole numbers and choices holds; infinite for anything else."""
        size = 1.0 if self.geometry == "box" else math.inf
        for parameter in self.parameters.values():
            if isinstance(parameter, Float):
                return math.inf
            size *= (
                parameter.high - parameter.low + 1
                if isinstance(parameter, Int)
                else len(parameter.values)
            )
        return size if self.parameters else math.inf

    @property
    def bounds(self) -> Array:
        """Lower and upper bounds of the coordinates, shape ``(2, d)``."""
        if self.geometry == "box":
            return np.stack([np.zeros(self.dim), np.ones(self.dim)])
        reach = min(self.radius, 3.0)
        return np.stack([np.full(self.dim, -reach), np.full(self.dim, reach)])

    @property
    def columns(self) -> dict[str, slice]:
        """Which coordinates belong to which parameter."""
        start, found = 0, {}
        for name, parameter in self.parameters.items():
            found[name] = slice(start, start + parameter.width)
            start += parameter.width
        return found

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` draws from the reference measure, those below the ``floor`` drawn again, shape ``(n, d)``."""
        if self.geometry == "box":
            return self.project(rng.random((n, self.dim)))
        points = self._drawn(rng, n)
        for _ in range(_ROUNDS if self.floor else 0):
            low = np.flatnonzero(self.plausibility(points) < self.floor)
            if not len(low):
                break
            fresh = self._drawn(rng, math.ceil(len(low) / (1.0 - self.floor)))
            fresh = fresh[np.argsort(self.plausibility(fresh) < self.floor, kind="stable")]
            points[low] = fresh[: len(low)]
        return self.project(points)

    def _drawn(self, rng: np.random.Generator, n: int) -> Array:
        return (
            rng.standard_normal((n, self.dim))
            if self.reference is None
            else self.reference.sample(rng, n)
        )

    def uniform(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` draws spread evenly between the bounds, whatever the reference measure says, shape ``(n, d)``."""
        lower, upper = self.bounds
        return self.project(lower + rng.random((n, self.dim)) * (upper - lower))

    def sobol(self, rng: np.random.Generator, n: int, skip: int = 0) -> Array:
        """Points ``skip .. skip + n`` of the scrambled Sobol sequence that ``rng`` scrambles, shape ``(n, d)``.

        In a gaussian domain the sequence is mapped through the inverse normal distribution function.
        """
        from scipy.special import ndtri
        from scipy.stats import qmc

        engine = qmc.Sobol(self.dim, scramble=True, rng=rng)
        u = engine.random(1 << max(0, math.ceil(math.log2(skip + n))))[skip : skip + n]
        if self.geometry == "box":
            return self.project(u)
        return self.project(ndtri(np.clip(u, 1e-9, 1 - 1e-9)))

    def project(self, points: Array) -> Array:
        """The nearest points that may be asked for, same shape: clipped, rounded to levels; in a latent pulled inside
        the radius, and to the edge of what the ``floor`` asks for.
        """
        points = np.asarray(points, dtype=np.float64)
        if self.geometry == "gaussian":
            inside = self._inside(points)
            if not self.floor or self.reference is None:
                return inside
            moved = self.reference.confine(inside.reshape(-1, self.dim), self.floor)
            return self._inside(moved).reshape(points.shape)
        if self.continuous:
            return np.clip(points, 0.0, 1.0)
        flat = points.reshape(-1, self.dim)
        parts = [
            self.parameters[name].project(flat[:, cols]) for name, cols in self.columns.items()
        ]
        return np.concatenate(parts, axis=1).reshape(points.shape)

    def _inside(self, points: Array) -> Array:
        norm = np.linalg.norm(points, axis=-1, keepdims=True)
        inside: Array = points * np.minimum(1.0, self.reach / np.maximum(norm, 1e-12))
        return inside

    @property
    def reach(self) -> float:
        """The largest norm a point may have: the radius, or under N(0, I) where the floor is, if that is less."""
        if not self.floor or self.geometry == "box" or self.reference is not None:
            return self.radius
        from scipy.stats import chi2

        return min(self.radius, math.sqrt(chi2.isf(self.floor, self.dim)) * (1.0 - _MARGIN))

    def values(self, points: Array) -> list[dict[str, Any]]:
        """The named parameters at points ``(n, d)``."""
        decoded = {
            name: self.parameters[name].decode(points[:, cols])
            for name, cols in self.columns.items()
        }
        return [{name: column[i] for name, column in decoded.items()} for i in range(len(points))]

    def encode(self, values: Sequence[Mapping[str, Any]]) -> Array:
        """Points ``(n, d)`` of named parameters.

        Raises:
            InvalidInputError: a name is missing or unknown, or a value lies outside its range.
        """
        for row in values:
            if set(row) != set(self.parameters):
                missing, unknown = set(self.parameters) - set(row), set(row) - set(self.parameters)
                raise InvalidInputError(
                    f"parameters do not match: missing {sorted(missing)}, unknown {sorted(unknown)}; "
                    f"expected {list(self.parameters)}"
                )
        parts = []
        for name, parameter in self.parameters.items():
            try:
                parts.append(parameter.encode([row[name] for row in values]))
            except InvalidInputError as error:
                raise InvalidInputError(f"parameter {name!r}: {error}") from None
        return np.concatenate(parts, axis=1)

    def plausibility(self, points: Array) -> Array:
        """In [0, 1], shape ``(n,)``: the share of the reference measure that is less plausible. 1 inside a box."""
        points = np.atleast_2d(points)
        if self.geometry == "box":
            return np.ones(len(points))
        if self.reference is not None:
            return self.reference.plausibility(points)
        from scipy.stats import chi2

        outside: Array = chi2.sf((points**2).sum(axis=1), self.dim)
        return outside

    def to_json(self) -> JSON:
        return {
            "geometry": self.geometry,
            "dim": self.dim,
            "parameters": {name: p.to_json() for name, p in self.parameters.items()},
            "radius": self.radius if math.isfinite(self.radius) else None,
            **({"floor": self.floor} if self.floor else {}),
        }


def box_domain(parameters: Mapping[str, Parameter]) -> Domain:
    """The unit cube of these parameters."""
    return Domain("box", sum(p.width for p in parameters.values()), dict(parameters))


def stored_domain(problem: JSON) -> Domain | None:
    """The box of a stored problem, whose parameters have names; None in a latent. The problem itself is not needed."""
    known = problem["space"].get("domain", {}).get("parameters")
    return (
        box_domain({name: parameter_from_json(one) for name, one in known.items()})
        if known
        else None
    )


__all__ = [
    "Choice",
    "Domain",
    "Float",
    "Int",
    "Parameter",
    "Reference",
    "box_domain",
    "stored_domain",
]
