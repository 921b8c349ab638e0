"""What a strategy is told about a problem: everything but the oracle itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bo_invert.objectives import Objective, OutcomeConstraint
from bo_invert.search_domain import Domain
from bo_invert.types import JSON, Array


@dataclass(frozen=True, eq=False)
class ProblemStatement:
    """Domain, outputs, objective and constraints of a problem, and what its oracle can do.

    Args:
        name: of the problem, for messages.
        domain: where points live.
        outputs: names of the oracle's outputs, m of them.
        objective: bound to the outputs.
        constraints: bound to the outputs.
        differentiable: whether descents and gradients can be asked for.
        features: what the designs at points ``(n, d)`` look like as numbers, ``(n, p)``, where the space can tell. It
            is a pure function that calls no oracle. It is no part of what identifies the problem.
        identify: names of the designs at points ``(n, d)``, equal for equal designs,
            where the space can tell. It is pure too.
    """

    name: str
    domain: Domain
    outputs: tuple[str, ...]
    objective: Objective
    constraints: tuple[OutcomeConstraint, ...] = ()
    differentiable: bool = False
    features: Callable[[Array], Array] | None = None
    identify: Callable[[Array], list[str]] | None = None

    def to_json(self) -> JSON:
        return {
            "domain": self.domain.to_json(),
            "outputs": list(self.outputs),
            "objective": self.objective.to_json(),
            "constraints": [constraint.to_json() for constraint in self.constraints],
        }
