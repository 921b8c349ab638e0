"""Python callable as an oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bo_invert.errors import require
from bo_invert.oracles.base import Oracle, RawOutputs, estimator_of
from bo_invert.types import JSON, Design


class Function(Oracle):
    """Oracle that calls a Python function.

    Args:
        fn: function of one design, or of a batch if ``batched``. It returns a number, a vector of m
            numbers, or a dict from output names to numbers. It may raise any exception, and
            ``InfeasibleError`` if the design can never be evaluated.
        outputs: names of the outputs; required if ``fn`` returns a vector of several.
        batched: ``fn`` takes n designs and returns n rows. A method of an estimator that was fitted
            on a data frame gets a data frame.

    Raises:
        InvalidInputError: ``fn`` is not callable.
    """

    def __init__(
        self, fn: Callable[[Any], Any], outputs: Sequence[str] | None = None, batched: bool = False
    ) -> None:
        require(callable(fn), f"Function: fn must be callable, got {fn!r}")
        self.fn = fn
        self._estimator = estimator_of(fn, outputs) if batched else None
        self.outputs = None if outputs is None else tuple(outputs)
        self.batched = batched

    @property
    def input_names(self) -> tuple[str, ...] | None:
        return None if self._estimator is None else self._estimator.input_names

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        if self._estimator is not None:
            return self._estimator(designs)
        return self.fn(designs) if self.batched else [self.fn(design) for design in designs]

    @property
    def implementation(self) -> object:
        return self.fn

    def to_json(self) -> JSON:
        name = getattr(self.fn, "__qualname__", type(self.fn).__name__)
        return {"type": "function", "name": f"{getattr(self.fn, '__module__', '')}.{name}"}
