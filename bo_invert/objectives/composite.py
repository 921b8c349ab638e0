"""Objective with any function of the outputs as its loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bo_invert.errors import printable
from bo_invert.objectives.base import Objective, Tensor, output_columns, output_position
from bo_invert.types import JSON
from bo_invert.user_code import call_user_code


@dataclass(frozen=True)
class Composite(Objective):
    """Objective with any function of the outputs as its loss.

    Args:
        fn: function from outputs ``(..., m)`` to a loss ``(...)``. Written with operators and
            methods that numpy arrays and torch tensors share, such as ``(y ** 2).sum(-1)``, it
            also works in acquisition functions and descents.
        outputs: names of the outputs in the order of ``fn``; empty for all outputs.
        name: name that identifies the function in a log.
    """

    fn: Callable[[Tensor], Tensor]
    outputs: tuple[str, ...] = ()
    name: str = ""
    indices: tuple[int, ...] | None = None
    structured = True

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.outputs)

    @property
    def size(self) -> int | None:
        return None

    def bind(self, outputs: Sequence[str]) -> Composite:
        if not self.outputs:
            return self
        return replace(
            self, indices=tuple(output_position(n, outputs, str(self)) for n in self.outputs)
        )

    def loss(self, y: Tensor) -> Tensor:
        return call_user_code(
            self.fn, y if self.indices is None else output_columns(y, self.indices)
        )

    def to_json(self) -> JSON:
        name = self.name or getattr(self.fn, "__qualname__", type(self.fn).__name__)
        return {"type": "composite", "name": name, "outputs": list(self.outputs)}

    def __str__(self) -> str:
        return printable(f"Composite({self.to_json()['name']})")
