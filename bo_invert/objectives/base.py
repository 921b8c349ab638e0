"""Objectives and problem statement.

An objective is a function from raw outputs y ``(..., m)`` to a loss ``(...)``; lower is better.
The formulas use operators that numpy arrays and torch tensors share. They score observed outputs,
samples of a surrogate and descents on a device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON
from bo_invert.user_code import DeviceConstants, guard_methods

Tensor = Any
"""Array of numpy or tensor of torch."""


class Objective(ABC):
    """Function from named outputs to a loss."""

    exhausted_text: ClassVar[str] = "the strategy has no further proposal"
    """Reason in the log if a strategy ends a run by itself."""
    structured: bool = False
    """True unless the loss is plus or minus one output: surrogates then model y, not the loss."""

    def __init_subclass__(cls) -> None:
        guard_methods(cls, ("loss", "satisfied"))

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the outputs that it reads; empty for all outputs in their order."""

    @property
    def size(self) -> int | None:
        """Number of outputs that it reads without names; None for any number."""
        return 1

    @abstractmethod
    def bind(self, outputs: Sequence[str]) -> Objective:
        """Return a copy that holds the positions of its outputs.

        Raises:
            InvalidInputError: a named output is missing, or a name is missing and there are
                several outputs.
        """

    @abstractmethod
    def loss(self, y: Tensor) -> Tensor:
        """Compute the loss ``(...)`` of outputs ``(..., m)``. The objective must be bound."""

    @property
    def satisfiable(self) -> bool:
        """True if ``satisfied`` can be True, so that a run may stop before its budget."""
        return False

    def satisfied(self, y: Tensor) -> bool:
        """Return True if outputs ``(m,)`` lie within a tolerance, at which a run stops."""
        return False

    @abstractmethod
    def to_json(self) -> JSON:
        """Return the JSON form that identifies the objective in a log."""


def output_position(name: str | None, outputs: Sequence[str], where: str) -> int:
    """Return the position of a named output; None stands for the only output.

    Raises:
        InvalidInputError: the output is missing, or the name is missing and there are several.
    """
    if name is None:
        if len(outputs) > 1:
            example = f"bi.{where.partition('(')[0]}({outputs[0]!r})"
            raise InvalidInputError(
                f"{where}: the oracle has outputs {list(outputs)}; name the one you mean, as in "
                f"{example}"
            )
        return 0
    if name not in outputs:
        raise InvalidInputError(f"{where}: no output {name!r}; the oracle has {list(outputs)}")
    return list(outputs).index(name)


@lru_cache
def _positions(indices: tuple[int, ...]) -> DeviceConstants:
    return DeviceConstants(np.array(indices, dtype=np.int64))


def output_columns(y: Tensor, indices: tuple[int, ...]) -> Tensor:
    """Return the columns ``indices`` of ``y`` ``(..., m)``."""
    if isinstance(y, np.ndarray):
        return y[..., list(indices)]
    if indices == tuple(range(y.shape[-1])):
        return y
    return y.index_select(-1, _positions(indices).like(y)[0])
