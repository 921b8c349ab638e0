"""Problem statement: domain, outputs, objective and outcome constraints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bo_invert.domains.input_noise import InputNoise
from bo_invert.domains.search_domain import Domain
from bo_invert.objectives.base import Objective
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.types import JSON, Array


@dataclass(frozen=True, eq=False)
class ProblemStatement:
    """Domain, outputs, objective and constraints of a problem, and access to gradients.

    Args:
        name: name of the problem, for messages.
        domain: search domain.
        outputs: names of the m outputs of the oracle.
        objective: objective bound to the outputs.
        constraints: outcome constraints bound to the outputs.
        differentiable: True if descents and gradient queries are possible.
        features: pure function from points ``(n, d)`` to numeric features ``(n, p)`` of their
            designs, without oracle calls; None if the space has no features. Not in ``to_json``.
        identify: pure function from points ``(n, d)`` to n names of designs, equal for equal
            designs; None if the space cannot compare designs. Not in ``to_json``.
        input_noise: deviations of manufactured designs; None or empty without any.
    """

    name: str
    domain: Domain
    outputs: tuple[str, ...]
    objective: Objective
    constraints: tuple[OutcomeConstraint, ...] = ()
    differentiable: bool = False
    features: Callable[[Array], Array] | None = None
    identify: Callable[[Array], list[str]] | None = None
    input_noise: InputNoise | None = None

    def to_json(self) -> JSON:
        return {
            "domain": self.domain.to_json(),
            "outputs": list(self.outputs),
            "objective": self.objective.to_json(),
            "constraints": [constraint.to_json() for constraint in self.constraints],
            **({"input_noise": self.input_noise.to_json()} if self.input_noise else {}),
        }
