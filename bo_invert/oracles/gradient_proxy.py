"""An oracle without gradients and a differentiable stand-in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bo_invert.errors import InvalidInputError
from bo_invert.hashing import Digest, joined
from bo_invert.oracles.base import Answer, Oracle, as_oracle
from bo_invert.types import JSON

if TYPE_CHECKING:
    import torch


class GradientProxy(Oracle):
    """Values come from ``oracle``, gradients from ``twin``; what a descent finds is verified by ``oracle``.

    A descent of k steps spends k - 1 values of the twin and one of the oracle, all of them billed.

    Args:
        oracle: the truth: an ``Oracle``, a callable, an estimator.
        twin: a differentiable ``Oracle`` or a ``torch.nn.Module`` with the same outputs.
        outputs: names of the outputs; default: those of ``oracle``, otherwise of ``twin``.

    Raises:
        InvalidInputError: the twin is not differentiable.
    """

    differentiable = True

    def __init__(self, oracle: Any, twin: Any, outputs: Sequence[str] | None = None) -> None:
        self.oracle, self.twin = as_oracle(oracle), as_oracle(twin)
        if not self.twin.differentiable:
            raise InvalidInputError(
                f"Twin: the stand-in must be differentiable, and {type(twin).__name__} is not"
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

    def __call__(self, designs: Sequence[Any]) -> Any:
        return self.oracle(designs)

    def answers(self, designs: Sequence[Any], outputs: Sequence[str]) -> list[Answer]:
        return self.oracle.answers(designs, outputs)

    def forward(self, designs: torch.Tensor) -> torch.Tensor:
        return self.twin.forward(designs)

    @property
    def inside(self) -> Any:
        return self.oracle.inside

    def digest(self) -> Digest | None:
        return joined([self.oracle.digest(), self.twin.digest()])

    def interrupt(self) -> None:
        self.oracle.interrupt()
        self.twin.interrupt()

    def to_json(self) -> JSON:
        return {"type": "twin", "oracle": self.oracle.to_json(), "twin": self.twin.to_json()}
