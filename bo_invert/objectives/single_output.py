"""Minimisation and maximisation of one output, or of the plausibility."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from bo_invert.errors import printable
from bo_invert.objectives.base import Objective, Tensor, output_position
from bo_invert.types import JSON

PLAUSIBILITY = "plausibility"
"""Name of the output that holds the plausibility of a point."""


@dataclass(frozen=True)
class OneOutput(Objective):
    """Objective of one output, at position ``index``; None stands for the only output."""

    output: str | None = None
    index: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.output is None else (self.output,)

    def bind(self, outputs: Sequence[str]) -> Self:
        return replace(self, index=output_position(self.output, outputs, str(self)))

    def to_json(self) -> JSON:
        return {"type": type(self).__name__.lower(), "output": self.output}

    def __str__(self) -> str:
        return printable(f"{type(self).__name__}({self.output or ''})")


class Minimize(OneOutput):
    """Objective with the loss ``y_i``: minimisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return y[..., self.index]


class Maximize(OneOutput):
    """Objective with the loss ``-y_i``: maximisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return -y[..., self.index]


class Plausibility(OneOutput):
    """Objective with the loss ``-p``: maximisation of the plausibility p of a design in [0, 1].

    The problem appends p to the outputs of the oracle as the output ``"plausibility"``, without a
    call. It is ``plausibility(designs)`` of the problem if given, otherwise that of the space: the
    share of the reference measure that is less plausible. Outcome constraints may name it.
    """

    def __init__(self) -> None:
        super().__init__(PLAUSIBILITY)

    def bind(self, outputs: Sequence[str]) -> Self:
        bound = copy.copy(self)
        vars(bound)["index"] = output_position(self.output, outputs, str(self))
        return bound

    def loss(self, y: Tensor) -> Tensor:
        return -y[..., self.index]

    def to_json(self) -> JSON:
        return {"type": "plausibility"}

    def __str__(self) -> str:
        return "Plausibility()"
