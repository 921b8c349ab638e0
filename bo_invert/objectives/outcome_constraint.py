"""Outcome constraints: bounds on outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bo_invert.errors import InvalidInputError, printable
from bo_invert.objectives.base import Tensor, output_position
from bo_invert.types import JSON
from bo_invert.user_code import guard_methods
from bo_invert.user_data import real

_CONSTRAINT = re.compile(r"^\s*(?P<output>.+?)\s*(?P<sense><=|>=)\s*(?P<bound>[-+0-9.eE]+)\s*$")


@dataclass(frozen=True)
class OutcomeConstraint:
    """Outcome constraint: an upper or lower bound on a named output."""

    output: str
    sense: str
    bound: float
    index: int = 0

    def __init_subclass__(cls) -> None:
        guard_methods(cls, ("excess",))

    def __post_init__(self) -> None:
        vars(self)["bound"] = real("constraint", "bound", self.bound)  # the class is frozen
        if self.sense not in ("<=", ">="):
            raise InvalidInputError(
                f"constraint must be 'output <= number' or 'output >= number', got {self}"
            )

    @staticmethod
    def parse(text: str | JSON | OutcomeConstraint) -> OutcomeConstraint:
        """Parse ``"confidence >= 0.9"`` or a ``to_json`` dict; return a constraint as it is."""
        if isinstance(text, OutcomeConstraint):
            return text
        if not isinstance(text, str):
            return OutcomeConstraint(text["output"], text["sense"], float(text["bound"]))
        match = _CONSTRAINT.match(text)
        try:
            if match is None or "<=" in match["output"] or ">=" in match["output"]:
                raise ValueError
            return OutcomeConstraint(match["output"], match["sense"], float(match["bound"]))
        except ValueError:
            raise InvalidInputError(
                f"cannot parse the constraint {text!r}; write 'output <= number' or "
                "'output >= number'"
            ) from None

    def bind(self, outputs: Sequence[str]) -> OutcomeConstraint:
        return replace(self, index=output_position(self.output, outputs, str(self)))

    def excess(self, y: Tensor) -> Tensor:
        """Compute the excess ``(...)`` of outputs ``(..., m)``; <= 0 if the constraint holds."""
        value = y[..., self.index]
        return value - self.bound if self.sense == "<=" else self.bound - value

    def to_json(self) -> JSON:
        return {"output": self.output, "sense": self.sense, "bound": self.bound}

    def __str__(self) -> str:
        return printable(f"{self.output} {self.sense} {self.bound:g}")
