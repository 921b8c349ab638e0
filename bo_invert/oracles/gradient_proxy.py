"""Oracle without gradients, with a differentiable approximation for descents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bo_invert.errors import require
from bo_invert.hashing import Digest, joined
from bo_invert.oracles.base import OracleWrapper, as_oracle
from bo_invert.oracles.raw_outputs import in_order, output_positions
from bo_invert.types import JSON, Array

if TYPE_CHECKING:
    import torch


class GradientProxy(OracleWrapper):
    """Oracle with the gradients of a differentiable approximation, its twin.

    A descent of k steps costs k - 1 values of the twin and one of the oracle, which verifies the
    last point.

    Args:
        oracle: oracle, estimator or callable that gives the outputs.
        twin: differentiable oracle or ``torch.nn.Module`` with the same outputs.
        outputs: names of the outputs; default: those of ``oracle``, else of ``twin``.

    Raises:
        InvalidInputError: the twin is not differentiable.
    """

    differentiable = True
    exact_forward = False

    def __init__(self, oracle: object, twin: object, outputs: Sequence[str] | None = None) -> None:
        super().__init__(oracle, outputs)
        self.twin = as_oracle(twin)
        require(
            self.twin.differentiable,
            f"GradientProxy: twin must be differentiable, got {type(twin).__name__}",
        )
        if self.twin is not twin:  # a module: its outputs have these names, or are in this order
            self.twin.outputs = self.outputs
        self.outputs = self.outputs or self.twin.outputs
        self._order = output_positions("GradientProxy: twin", self.twin.outputs, self.outputs or ())

    @property
    def placement(self) -> Mapping[str, Any]:
        return self.twin.placement

    def passes_gradients(
        self, points: Array, decode: Callable[[torch.Tensor], torch.Tensor]
    ) -> bool:
        return self.twin.passes_gradients(points, decode)

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = in_order(self.twin.forward(designs), self._order)
        return outputs

    @contextmanager
    def forwarding(self) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        with self.twin.forwarding() as forward:
            yield lambda designs: in_order(forward(designs), self._order)

    def digest(self) -> Digest | None:
        return joined([self.oracle.digest(), self.twin.digest()])

    def interrupt(self) -> None:
        super().interrupt()
        self.twin.interrupt()

    def to_json(self) -> JSON:
        return {"type": "twin", "oracle": self.oracle.to_json(), "twin": self.twin.to_json()}
