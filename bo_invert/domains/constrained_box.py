"""Box with input constraints or fixed values: a domain whose points satisfy them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bo_invert.domains.conditions import checked_conditions, has_conditions
from bo_invert.domains.input_constraints import InputConstraint, constraint_from_json
from bo_invert.domains.parameters import Parameter, parameter_from_json
from bo_invert.domains.reference_measure import DataPrior, plausible_draws
from bo_invert.domains.search_domain import BoxDomain, Domain, box_domain
from bo_invert.types import JSON, Array, Mask

if TYPE_CHECKING:
    from bo_invert.domains.feasible_draws import FeasibleDraws
    from bo_invert.domains.feasible_set import FeasibleSet


@dataclass(frozen=True, eq=False)
class ConstrainedBox(BoxDomain):
    """Unit cube of typed parameters with constraints on their values.

    All points that it draws or projects satisfy the constraints.

    Args:
        fixed: values of parameters that do not vary, by name; not part of ``to_json``.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def draws(self) -> FeasibleDraws:
        """Sampler of the points that satisfy the constraints.

        Raises:
            InvalidInputError: there is no point, or the set is too thin; the message names the
                constraints.
        """
        # scipy takes a tenth of a second to load, and most problems have no constraints.
        from bo_invert.domains.feasible_draws import feasible_draws

        return feasible_draws(self.parameters, self.constraints, self.fixed)

    @property
    def feasible(self) -> FeasibleSet:
        """Set of the points that satisfy the constraints."""
        return self.draws.within

    @property
    def size(self) -> float:
        return math.inf if self.has_real else math.floor(super().size * self.draws.share) + 1.0

    def satisfied(self, points: Array) -> Mask:
        return self.feasible.satisfied(self._valid(np.atleast_2d(points)))

    def violated(self, point: Array) -> str:
        return self.feasible.violated(self._valid(point))

    def with_fixed(self, fixed: Mapping[str, Any]) -> Domain:
        if not fixed:
            return self
        whole = {**self.fixed, **fixed}
        reference = cast("DataPrior | None", self.reference)
        return constrained_box(self.parameters, self.constraints, whole, reference, self.floor)

    def project(self, points: Array) -> Array:
        points = np.asarray(points, dtype=np.float64)
        flat = points.reshape(-1, self.dim)
        inside = self._confined(flat)
        if self.floor and isinstance(self.reference, DataPrior):
            inside = self.reference.confine(inside, self.floor, self._confined)
        return inside.reshape(points.shape)

    def _confined(self, points: Array) -> Array:
        return self.feasible.project(points, lambda: self.draws.pool)

    def sample(self, rng: np.random.Generator, n: int) -> Array:
        reference = self.reference
        if reference is None:
            return self.draws.draw(rng, n)
        found = plausible_draws(
            self.plausibility, self.floor, lambda k: self._confined(reference.sample(rng, k)), n
        )
        return self.project(found)

    def uniform(self, rng: np.random.Generator, n: int) -> Array:
        return self.draws.draw(rng, n)

    def sobol(self, rng: np.random.Generator, n: int, skip: int = 0) -> Array:
        if self.reference is None:
            return self.draws.sequence(rng, n, skip)
        return super().sobol(rng, n, skip)

    def candidates(self, rng: np.random.Generator, n: int) -> Array:
        return self.sample(rng, n)

    def to_json(self) -> JSON:
        described = super().to_json()
        if self.constraints:
            described["constraints"] = [one.to_json() for one in self.constraints]
        return described


def constrained_box(
    parameters: Mapping[str, Parameter],
    constraints: tuple[InputConstraint, ...],
    fixed: Mapping[str, Any] | None = None,
    reference: DataPrior | None = None,
    floor: float = 0.0,
) -> Domain:
    """Return the unit cube of named parameters with constraints and fixed values.

    Raises:
        InvalidInputError: no point satisfies them, or the set is too thin to sample.
    """
    if not constraints and not fixed:
        return box_domain(parameters, reference, floor)
    box = _unchecked(parameters, constraints, fixed or {}, reference, floor)
    _ = box.draws
    return box


def _unchecked(
    parameters: Mapping[str, Parameter],
    constraints: tuple[InputConstraint, ...],
    fixed: Mapping[str, Any],
    reference: DataPrior | None = None,
    floor: float = 0.0,
) -> ConstrainedBox:
    dim = sum(p.width for p in parameters.values())
    parameters = checked_conditions(parameters) if has_conditions(parameters) else dict(parameters)
    return ConstrainedBox(
        "box", dim, parameters, math.inf, reference, floor, constraints, dict(fixed)
    )


def stored_domain(problem: JSON) -> Domain | None:
    """Return the box of a stored problem, None for a latent. The problem itself is not needed.

    Functions of the user among its constraints are code and are left out.
    """
    described = problem["space"].get("domain", {})
    known = described.get("parameters")
    if not known:
        return None
    found = [constraint_from_json(one) for one in described.get("constraints", ())]
    parameters = {name: parameter_from_json(one) for name, one in known.items()}
    constraints = tuple(one for one in found if one is not None)
    return _unchecked(parameters, constraints, {}) if constraints else box_domain(parameters)
