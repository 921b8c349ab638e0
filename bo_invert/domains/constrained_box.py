"""Box with input constraints or fixed values: a domain whose points satisfy them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bo_invert.domains.box_domain import BoxDomain, box_domain
from bo_invert.domains.conditions import checked_conditions, has_conditions, with_deciding_values
from bo_invert.domains.input_constraints import InputConstraint, constraint_from_json
from bo_invert.domains.parameters import Parameter, Value, parameter_from_json
from bo_invert.domains.reference_measure import DataPrior, plausible_draws
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array, Mask
from bo_invert.user_tables import record

if TYPE_CHECKING:
    from bo_invert.domains.feasible_draws import FeasibleDraws
    from bo_invert.domains.feasible_set import FeasibleSet

FixedValues = tuple[tuple[str, Value], ...]
"""Names and values of the fixed parameters of an ask."""


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
        return self.feasible.satisfied(self.measured(np.atleast_2d(points)), measured=True)

    def violated(self, point: Array) -> str:
        return self.feasible.violated(self.measured(point), measured=True)

    def violated_constraint(self, point: Array) -> str:
        found = self.feasible.violated_constraint(self.measured(point), measured=True)
        return "" if found is None else str(found)

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


def read_fixed(domain: Domain, fixed: object) -> FixedValues:
    """Return fixed values of the user as values of the parameters, in their order.

    Raises:
        InvalidInputError: the domain has no parameters, a name or a value is unknown, or no
            parameter is left.
    """
    values = record(fixed)
    if values is None:
        raise InvalidInputError(
            f"ask: fixed must be a dict of parameters and values, got {fixed!r:.200}"
        )
    if not domain.parameters and values:
        raise InvalidInputError(
            f"ask: fixed needs a Box of parameters, and this is a latent, got {values!r:.200}"
        )
    unknown = [name for name in values if name not in domain.parameters]
    if unknown:
        raise InvalidInputError(
            f"ask: fixed must name parameters among {list(domain.parameters)}, got {unknown[0]!r}"
        )
    found = []
    for name, parameter in domain.parameters.items():
        if name in values:
            try:
                found.append((name, parameter.read(values[name])))
            except InvalidInputError as error:
                raise InvalidInputError(f"ask: fixed value of {name!r}: {error}") from None
    if values and set(domain.axes) <= set(values):
        raise InvalidInputError(
            "ask: fixed must leave a parameter to search, got values of all. Use enqueue(design)"
        )
    return tuple(with_deciding_values(domain.parameters, dict(found)).items())


def fixed_point_test(
    domain: Domain, fixed: object
) -> tuple[FixedValues, Callable[[Array], bool] | None]:
    """Return fixed values of the user, and a function that is True of points with these values.

    Raises:
        InvalidInputError: see ``read_fixed`` and ``fix_values``.
    """
    values = read_fixed(domain, fixed)
    restricted = fix_values(domain, values)
    if restricted is domain:
        return values, None
    return values, lambda point: bool(restricted.satisfied(point[None])[0])


@lru_cache(maxsize=16)  # asks of a day have the same fixed values
def fix_values(domain: Domain, fixed: FixedValues) -> Domain:
    """Return a box with fixed values of some parameters, of ``read_fixed``.

    Raises:
        InvalidInputError: no point with these values satisfies the constraints.
    """
    varied = {n: v for n, v in fixed if domain.parameters[n].width}
    if not varied:
        return domain
    own = domain.fixed if isinstance(domain, ConstrainedBox) else {}
    reference = cast("DataPrior | None", domain.reference)
    try:
        return constrained_box(
            domain.parameters, domain.constraints, {**own, **varied}, reference, domain.floor
        )
    except InvalidInputError as error:
        raise InvalidInputError(
            f"ask: no point can be proposed with fixed={dict(fixed)}. {error}"
        ) from None


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
