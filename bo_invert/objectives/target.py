"""Objective of an inversion: distance of outputs from a target."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.rounding import snapped
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.base import Objective, Tensor, output_columns, output_position
from bo_invert.types import JSON
from bo_invert.user_code import DeviceConstants
from bo_invert.user_data import real, real_vector
from bo_invert.user_tables import record, require_names


@dataclass(frozen=True, init=False)
class Target(Objective):
    """Objective of an inversion: mean squared distance from a target.

    ``loss(y) = mean_i ((y_i - value_i) / scale_i)^2``.

    Args:
        value: a number, a vector, or ``{"output name": number}``.
        tolerance: largest ``|y_i - value_i|`` of every output at which a run stops, in units of
            the outputs; 0 to use the whole budget.
        scale: unit of the distance, one number or one per output.
        output: name of the output of a single number.
    """

    value: tuple[float, ...]
    tolerance: float
    scale: tuple[float, ...]
    outputs: tuple[str, ...]
    indices: tuple[int, ...]
    structured = True

    def __init__(
        self,
        value: ArrayLike | Mapping[str, float],
        tolerance: float = 0.0,
        scale: ArrayLike = 1.0,
        output: str | None = None,
    ) -> None:
        named, units = record(value), record(scale)
        names = tuple(named or (() if output is None else (output,)))
        if named is not None and output is not None:
            require_names("Target: output", [output], named)
        if units is not None:
            require_names("Target: scale", names, units)
            scale = [units[name] for name in names]
        if named is not None:
            value = [real("Target", f"value of {name!r}", one) for name, one in named.items()]
        values = real_vector("Target", "value", value)
        scales, tolerance = (
            real_vector("Target", "scale", scale),
            real("Target", "tolerance", tolerance),
        )
        if scales.size not in (1, values.size):
            raise InvalidInputError(
                f"Target: scale must be one number or {len(values)} numbers, got {scale!r}"
            )
        scales = np.broadcast_to(scales, values.shape)
        if not (scales > 0).all() or tolerance < 0:
            raise InvalidInputError(
                f"Target: scale must be > 0 and tolerance >= 0, got {scale!r}, {tolerance!r}"
            )
        if names and len(names) != len(values):
            raise InvalidInputError(
                f"Target: output={output!r} names one output, the target has {len(values)} values"
            )
        # The class is frozen, so attributes are set in its dictionary.
        vars(self).update(
            value=tuple(values.tolist()), tolerance=tolerance, scale=tuple(scales.tolist()),
            outputs=names, indices=tuple(range(len(values))),
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        return self.outputs

    @property
    def size(self) -> int | None:
        return len(self.value)

    def bind(self, outputs: Sequence[str]) -> Target:
        if not self.outputs and len(self.value) != len(outputs):
            raise InvalidInputError(
                f"{self}: the target has {len(self.value)} value{'s' * (len(self.value) != 1)}, "
                f"the oracle has outputs {list(outputs)}; give one value per output, or name the "
                "outputs you mean: Target({'name': value})"
            )
        bound = copy.copy(self)  # ``replace`` fails, because fields differ from arguments
        if self.outputs:
            positions = tuple(output_position(name, outputs, str(self)) for name in self.outputs)
            vars(bound)["indices"] = positions
        return bound

    def residuals(self, y: Tensor) -> Tensor:
        """Compute the residuals ``(y - value) / scale`` of k outputs, shape ``(..., k)``."""
        if isinstance(y, np.ndarray):
            return (y[..., list(self.indices)] - np.asarray(self.value)) / np.asarray(self.scale)
        value, scale = self._constants.like(y)
        return (output_columns(y, self.indices) - value) / scale

    @cached_property
    def _constants(self) -> DeviceConstants:
        return DeviceConstants(np.array(self.value), np.array(self.scale))

    def loss(self, y: Tensor) -> Tensor:
        return (self.residuals(y) ** 2).mean(-1)

    def distance(self, y: Tensor) -> Tensor:
        """Compute the distance ``(...)``, the square root of the loss, of outputs ``(..., m)``."""
        loss = self.loss(y)
        # The gradient of a root is infinite at 0.
        return np.sqrt(loss) if isinstance(loss, (np.ndarray, float)) else (loss + 1e-24).sqrt()

    def satisfied(self, y: Tensor) -> bool:
        ends = [(v - self.tolerance, v + self.tolerance) for v in self.value]
        return self.tolerance > 0 and all(
            low <= snapped(float(y[i]), low, high) <= high
            for i, (low, high) in zip(self.indices, ends, strict=True)
        )

    def to_json(self) -> JSON:
        return {
            "type": "target", "value": list(self.value), "tolerance": self.tolerance,
            "scale": list(self.scale), "outputs": list(self.outputs),
        }  # fmt: skip

    def __str__(self) -> str:
        shown = self.value if len(self.value) < 6 else (*self.value[:5], "...")
        return f"Target({', '.join(str(v) for v in shown)})"
