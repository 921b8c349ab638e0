"""Problem declarations: domain, outputs, objective and constraints as JSON, without code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from bo_invert.domains.constrained_box import constrained_box
from bo_invert.domains.constraint_text import read_constraints
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.input_constraints import Feasible, InputConstraint
from bo_invert.domains.named_points import named_rows
from bo_invert.domains.parameters import parameter_from_json
from bo_invert.domains.reference_measure import DataPrior, Reference
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space, exact_rows
from bo_invert.types import JSON, Array, Design, frozen
from bo_invert.user_data import real_array

_PARTS = ("weights", "means", "factors", "quantiles")
"""Arrays of a reference measure, in the order of the arguments of ``Reference``."""


class DeclaredSpace(Space):
    """A domain without a decoder.

    Designs are dicts of named parameters, vectors of their values, or latent points.

    Args:
        domain: domain of the points.
        vector: designs of a box are vectors instead of dicts.
        identity: JSON that identifies the space in a log; default: that of the box or latent.
    """

    def __init__(self, domain: Domain, vector: bool = False, identity: JSON = None) -> None:
        self.domain = domain
        self.vector = vector
        self._identity = identity

    def decode(self, points: Array) -> Sequence[Design]:
        if self.domain.latent:
            return cast("Sequence[Design]", np.atleast_2d(points))
        values = self.domain.values(np.atleast_2d(points))
        if not self.vector:
            return values
        return cast("Sequence[Design]", np.array([list(row.values()) for row in values]))

    def encode(self, designs: Sequence[Design]) -> Array:
        if self.domain.latent:
            return self.domain.project(real_array("designs", designs))
        return self.domain.encode(named_rows(self.domain.parameters, designs, vectors=True))

    def exact(self, designs: Sequence[Design], points: Array) -> list[JSON]:
        if self.domain.latent:
            return super().exact(designs, points)
        rows = named_rows(self.domain.parameters, designs, vectors=True)
        return exact_rows(self.domain, rows, points, self.vector)

    def to_json(self) -> JSON:
        kind = "latent" if self.domain.latent else "box"
        return self._identity or {"type": kind, "domain": self.domain.to_json()}


class DeclaredProblem(Problem):
    """A problem without an oracle, for ``ask`` and ``tell``; another process evaluates it."""

    def __init__(self, *arguments: Any, differentiable: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._differentiable = differentiable

    @property
    def differentiable(self) -> bool:
        return self._differentiable


def declaration_of(problem: Problem, limit: int = 100_000) -> JSON:
    """Return the declaration of a problem.

    Args:
        problem: problem to declare.
        limit: largest reference measure, in numbers, that is included. Without one, the standard
            normal distribution of whitened codes is the reference measure of a latent.

    Raises:
        InvalidInputError: the objective is a ``Composite``, which is code, or the data of a box
            exceed ``limit``.
    """
    objective = problem.objective.to_json()
    if objective["type"] == "composite":
        raise InvalidInputError(
            f"problem {problem.name!r}: objective must not be a Composite, because code is not "
            "sent. Register the problem on the server, or make the loss an output and minimise it."
        )
    domain = problem.space.domain
    space: dict[str, JSON]
    if not domain.latent:
        space = {
            "type": "box",
            "parameters": {name: one.to_json() for name, one in domain.parameters.items()},
            "vector": not getattr(problem.space, "named", True),
        }
        if domain.constraints:
            space["constraints"] = [_declared(problem.name, one) for one in domain.constraints]
        if isinstance(domain.reference, DataPrior):
            if domain.reference.factors.size > limit:
                raise InvalidInputError(
                    f"problem {problem.name!r}: the measure of the data has "
                    f"{domain.reference.factors.size} numbers, more than {limit}. Register the "
                    "problem on the server, or omit data."
                )
            space["data"] = _listed(domain.reference, (*_PARTS, "rows"))
    else:
        radius = domain.radius if math.isfinite(domain.radius) else None
        space = {"type": "latent", "dim": domain.dim, "radius": radius}
        if domain.reference is not None and domain.reference.factors.size <= limit:
            space["reference"] = _listed(domain.reference, _PARTS)
    return {
        "space": space,
        "identity": problem.space.to_json(),
        "outputs": list(problem.output_names.oracle),
        "objective": objective,
        "constraints": [constraint.to_json() for constraint in problem.constraints],
        "differentiable": problem.differentiable,
        "realism": problem.realism or 1.0,
        **({"units": problem.units} if problem.units else {}),
        **({"input_noise": problem.input_noise.to_json()} if problem.input_noise else {}),
    }


def _declared(name: str, constraint: InputConstraint) -> JSON:
    """Return an input constraint as JSON.

    Raises:
        InvalidInputError: it is a function.
    """
    if isinstance(constraint, Feasible):
        raise InvalidInputError(
            f"problem {name!r}: input constraint '{constraint}' is a function, and code is not "
            "sent. Register the problem on the server, or write a linear constraint."
        )
    return constraint.to_json()


def problem_from_declaration(data: JSON, name: str) -> Problem:
    """Return the problem of a declaration.

    Args:
        data: result of ``declaration_of``. Optional keys: ``identity``, ``constraints``,
            ``differentiable``, ``realism``, ``units`` and ``input_noise``.
        name: name of the problem.

    Raises:
        InvalidInputError: the declaration is inconsistent.
    """
    space = _space(data["space"], data.get("identity"))
    domain = space.domain.to_json()
    if space.to_json().get("domain", domain) != domain:  # logs are read with the identity's domain
        raise InvalidInputError("space: identity must have the domain of the parameters")
    return DeclaredProblem(
        space,
        None,
        objective_from_json(data["objective"]),
        constraints=data.get("constraints", ()),
        outputs=data.get("outputs") or None,
        name=name,
        differentiable=bool(data.get("differentiable", False)),
        realism=float(data.get("realism") or space.realism),
        units=data.get("units"),
        input_noise=data.get("input_noise"),
    )


def stored_declaration(header: JSON) -> JSON:
    """Return the declaration of a stored problem; None if only code can rebuild it."""
    problem = header["problem"]
    if header.get("declared") is not None:
        return header["declared"]
    if problem["space"].get("type") != "box" or problem["objective"].get("type") == "composite":
        return None
    domain = problem["space"]["domain"]
    constraints = domain.get("constraints", [])
    if any(one["type"] == "feasible" for one in constraints):
        return None
    space = {"type": "box", "parameters": domain["parameters"]}
    space |= {"constraints": constraints} if constraints else {}
    units = {"units": header["units"]} if header.get("units") else {}
    return {**problem, "space": space, "identity": problem["space"], **units}


def declared_problem(header: JSON) -> Problem | None:
    """Return the problem of a stored study without its oracle; None if only code can rebuild it."""
    declaration = stored_declaration(header)
    if declaration is None:
        return None
    return problem_from_declaration(declaration, header["problem_name"])


def _space(data: JSON, identity: JSON) -> Space:
    if data["type"] == "box":
        if not data["parameters"]:
            raise InvalidInputError("space: parameters must have at least one entry, got {}")
        parameters = {name: parameter_from_json(one) for name, one in data["parameters"].items()}
        constraints = read_constraints(data.get("constraints") or (), list(parameters))
        domain, known = constrained_box(parameters, constraints), data.get("data")
        if domain.conditional and data.get("vector"):
            raise InvalidInputError(
                "space: vectors have all parameters, so none may be conditional. Remove 'vector'."
            )
        if known is not None:
            prior = _data_prior(known, domain.dim)
            domain = constrained_box(parameters, constraints, None, prior)
        return DeclaredSpace(domain, bool(data.get("vector", False)), identity)
    dim, radius, known = int(data["dim"]), data.get("radius"), data.get("reference")
    if radius is None:
        from scipy.stats import chi2

        radius = math.sqrt(chi2.ppf(0.99, dim))  # 99 % of N(0, I) lie within it
    reference = None if known is None else _reference(known, dim)
    return DeclaredSpace(gaussian_domain(dim, float(radius), reference), False, identity)


def _listed(reference: Reference, parts: Sequence[str]) -> dict[str, JSON]:
    return {name: getattr(reference, name).tolist() for name in parts}


def _data_prior(data: JSON, dim: int) -> DataPrior:
    mixture = _reference(data, dim)
    try:
        rows = frozen(data["rows"])
    except ValueError:  # rows of different lengths
        rows = frozen([])
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != dim:
        raise InvalidInputError(f"space: rows of data must fit {dim} coordinates")
    return DataPrior(mixture.weights, mixture.means, mixture.factors, mixture.quantiles, rows)


def _reference(data: JSON, dim: int) -> Reference:
    try:
        measure = Reference(*(frozen(data[part]) for part in _PARTS))
    except ValueError as error:  # rows of different lengths
        raise InvalidInputError(f"space: reference must be a mixture: {error}") from None
    count = len(measure.weights)
    shapes = (measure.means.shape, measure.factors.shape, measure.quantiles.ndim)
    if shapes != ((count, dim), (count, dim, dim), 1) or not len(measure.quantiles) or not count:
        raise InvalidInputError(f"space: reference must fit {dim} dimensions")
    scales = np.diagonal(measure.factors, axis1=1, axis2=2)
    if (
        (measure.weights <= 0).any()
        or (scales <= 0).any()
        or not abs(measure.weights.sum() - 1.0) <= 1e-8
    ):
        raise InvalidInputError(
            "space: weights of reference must be positive and sum to 1, and its scales positive"
        )
    return measure
