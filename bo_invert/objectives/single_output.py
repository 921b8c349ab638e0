"""Minimisation and maximisation of one output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from bo_invert.errors import printable
from bo_invert.objectives.base import Objective, Tensor, output_position
from bo_invert.types import JSON


@dataclass(frozen=True)
class _OneOutput(Objective):
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


class Minimize(_OneOutput):
    """Objective with the loss ``y_i``: minimisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return y[..., self.index]


class Maximize(_OneOutput):
    """Objective with the loss ``-y_i``: maximisation of an output."""

    def loss(self, y: Tensor) -> Tensor:
        return -y[..., self.index]
