"""A problem as it can be sent: domain, outputs, objective and constraints as JSON; no decoder, no oracle, no code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.latent_prior import Reference
from bo_invert.objectives import Maximize, Minimize, Objective, OutcomeConstraint, Target
from bo_invert.parameters import parameter_from_json
from bo_invert.problems.problem import REALISM, Problem
from bo_invert.search_domain import Domain, box_domain
from bo_invert.spaces.base import Space
from bo_invert.types import JSON, Array, frozen

_MANY = 100_000
"""A reference measure of more numbers than this is not sent; the standard normal of whitened codes stands for it."""


class DeclaredSpace(Space):
    """A domain without a decoder: designs are dicts of named parameters, vectors of values, or points of a latent.

    Args:
        domain: where points live.
        vector: whether designs of a box are vectors instead of dicts.
        identity: what the space calls itself in a log; default: what a box of these parameters would.
    """

    def __init__(self, domain: Domain, vector: bool = False, identity: JSON = None) -> None:
        self.domain = domain
        self.vector = vector
        self._identity = identity

    def decode(self, points: Array) -> Sequence[Any]:
        points = np.atleast_2d(points)
        if self.domain.geometry == "gaussian":
            return cast("Sequence[Any]", points)
        values = self.domain.values(points)
        return (
            cast("Sequence[Any]", np.array([list(row.values()) for row in values]))
            if self.vector
            else values
        )

    def encode(self, designs: Sequence[Any]) -> Array:
        if self.domain.geometry == "gaussian":
            return self.domain.project(np.asarray(designs, dtype=np.float64))
        names = list(self.domain.parameters)
        rows = [
            dict(zip(names, row, strict=True)) if not isinstance(row, Mapping) else row
            for row in designs
        ]
        return self.domain.encode(rows)

    def to_json(self) -> JSON:
        if self._identity is not None:
            return self._identity
        return {
            "type": "box" if self.domain.geometry == "box" else "latent",
            "domain": self.domain.to_json(),
        }


class DeclaredProblem(Problem):
    """A problem that somebody else evaluates; ``ask`` and ``tell`` only."""

    def __init__(self, *arguments: Any, differentiable: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._differentiable = differentiable

    @property
    def differentiable(self) -> bool:
        return self._differentiable


def declare(problem: Problem) -> JSON:
    """What of a problem can be sent.

    Raises:
        InvalidInputError: its objective is a function of the user's own.
    """
    objective = problem.objective.to_json()
    if objective["type"] == "composite":
        raise InvalidInputError(
            f"problem {problem.name!r}: a Composite objective is code, and code is not sent. Let the operator register "
            "the problem on the server, or make the loss an output and minimise it"
        )
    domain = problem.space.domain
    space: dict[str, JSON]
    if domain.geometry == "box":
        parameters = {name: parameter.to_json() for name, parameter in domain.parameters.items()}
        space = {
            "type": "box",
            "parameters": parameters,
            "vector": not getattr(problem.space, "named", True),
        }
    else:
        radius = domain.radius if math.isfinite(domain.radius) else None
        space = {"type": "latent", "dim": domain.dim, "radius": radius}
        if domain.reference is not None and domain.reference.factors.size <= _MANY:
            names = ("weights", "means", "factors", "quantiles")
            space["reference"] = {name: getattr(domain.reference, name).tolist() for name in names}
    return {
        "space": space,
        "identity": problem.space.to_json(),
        "outputs": list(problem.outputs),
        "objective": objective,
        "constraints": [constraint.to_json() for constraint in problem.constraints],
        "differentiable": problem.differentiable,
        "realism": problem.realism or 1.0,
    }


def declared(data: JSON, name: str) -> Problem:
    """The problem that ``declare`` described.

    Args:
        data: of ``declare``; parts that may be left out: identity, constraints, differentiable, realism.
        name: of the problem.

    Raises:
        InvalidInputError: it describes no problem.
    """
    space = _space(data["space"], data.get("identity"))
    described = space.to_json().get("domain", space.domain.to_json())
    if described != space.domain.to_json():  # whoever reads the log takes the parameters from there
        raise InvalidInputError("space: its identity is of another domain than its parameters")
    constraints = [_constraint(one) for one in data.get("constraints", ())]
    outputs = data.get("outputs") or None
    return DeclaredProblem(
        space,
        None,
        _objective(data["objective"]),
        constraints=constraints,
        outputs=outputs,
        name=name,
        differentiable=bool(data.get("differentiable", False)),
        realism=float(data.get("realism", REALISM)),
    )


def _space(data: JSON, identity: JSON) -> Space:
    if data["type"] == "box":
        if not data["parameters"]:
            raise InvalidInputError("space: at least one parameter is needed")
        parameters = {
            name: parameter_from_json(known) for name, known in data["parameters"].items()
        }
        return DeclaredSpace(box_domain(parameters), bool(data.get("vector", False)), identity)
    dim, radius, known = int(data["dim"]), data.get("radius"), data.get("reference")
    if radius is None:
        from scipy.stats import chi2

        radius = math.sqrt(chi2.ppf(0.99, dim))
    reference = None if known is None else _reference(known, dim)
    return DeclaredSpace(Domain("gaussian", dim, {}, float(radius), reference), False, identity)


def _reference(data: JSON, dim: int) -> Reference:
    try:
        found = Reference(
            *(frozen(data[name]) for name in ("weights", "means", "factors", "quantiles"))
        )
    except ValueError as error:  # rows of different lengths
        raise InvalidInputError(f"space: the reference measure is no mixture: {error}") from None
    count = len(found.weights)
    shapes = (found.means.shape, found.factors.shape, found.quantiles.ndim)
    if shapes != ((count, dim), (count, dim, dim), 1) or not len(found.quantiles) or not count:
        raise InvalidInputError(f"space: the reference measure does not fit {dim} dimensions")
    scales = np.diagonal(found.factors, axis1=1, axis2=2)
    if (found.weights <= 0).any() or abs(found.weights.sum() - 1.0) > 1e-8 or (scales <= 0).any():
        raise InvalidInputError(
            "space: weights of a reference measure are positive and sum to 1, and its scales are positive"
        )
    return found


def _objective(data: JSON) -> Objective:
    kind = data["type"]
    if kind == "target":
        names = data.get("outputs") or ()
        if names and len(names) != len(data["value"]):
            raise InvalidInputError(
                f"objective: a target has one value for each of {names}, got {len(data['value'])}"
            )
        value = dict(zip(names, data["value"], strict=True)) if names else data["value"]
        scale = data.get("scale")
        return Target(value, data.get("tolerance", 0.0), 1.0 if scale is None else scale)
    plain: dict[str, Callable[[str | None], Objective]] = {
        "minimize": Minimize,
        "maximize": Maximize,
    }
    return plain[kind](data.get("output"))


def _constraint(data: JSON) -> OutcomeConstraint:
    if isinstance(data, str):
        return OutcomeConstraint.parse(data)
    return OutcomeConstraint(data["output"], data["sense"], float(data["bound"]))
