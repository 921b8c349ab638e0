"""Oracle without gradients, with a differentiable approximation for descents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bo_invert.errors import InvalidInputError
from bo_invert.hashing import Digest, joined
from bo_invert.oracles.base import Oracle, OracleResult, RawOutputs, as_oracle
from bo_invert.types import JSON, Design

if TYPE_CHECKING:
    import torch


class GradientProxy(Oracle):
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

    def __init__(self, oracle: object, twin: object, outputs: Sequence[str] | None = None) -> None:
        self.oracle, self.twin = as_oracle(oracle), as_oracle(twin)
        if not self.twin.differentiable:
            raise InvalidInputError(
                f"GradientProxy: twin must be differentiable, got {type(twin).__name__}"
            )
        names = tuple(outputs) if outputs is not None else None
        self.outputs = names or self.oracle.outputs or self.twin.outputs
        self.batched = self.oracle.batched
        self.waits = self.oracle.waits

    @property
    def exact_forward(self) -> bool:
        return False

    @property
    def placement(self) -> Mapping[str, Any]:
        return self.twin.placement

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        return self.oracle(designs)

    def answers(self, designs: Sequence[Design], outputs: Sequence[str]) -> list[OracleResult]:
        return self.oracle.answers(designs, outputs)

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        return self.twin.forward(designs)

    @property
    def implementation(self) -> object:
        return self.oracle.implementation

    def digest(self) -> Digest | None:
        return joined([self.oracle.digest(), self.twin.digest()])

    def interrupt(self) -> None:
        self.oracle.interrupt()
        self.twin.interrupt()

    def to_json(self) -> JSON:
        return {"type": "twin", "oracle": self.oracle.to_json(), "twin": self.twin.to_json()}
