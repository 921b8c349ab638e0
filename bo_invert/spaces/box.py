"""Box space: vectors between bounds, or named typed parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError
from bo_invert.generators.data_plausibility import fit_data_prior
from bo_invert.parameters import Choice, Float, Int, Parameter
from bo_invert.search_domain import box_domain
from bo_invert.spaces.base import Space
from bo_invert.spaces.box_data import bounds_of, checked, read_columns, rows_of
from bo_invert.types import JSON, Array, Design, Designs
from bo_invert.user_code import DeviceConstants

if TYPE_CHECKING:
    import torch


class Box(Space):
    """Box of parameters between bounds.

    ``Box(lower, upper)`` has vectors as designs; ``Box({"name": Float(0, 1), ...})`` has dicts.
    ``Box(data=X)`` has the bounds of the data.

    With ``data``, such as the training inputs of a regressor, the data are the reference measure.
    ``plausibility`` ranks points among held-out rows, draws resemble rows, and strategies search
    the most plausible part, by default 95 % (``Problem(realism=)``). Without data, the reference
    measure is uniform and every point has plausibility 1. The log stores a hash of the data.

    Args:
        lower: lower bounds, shape ``(d,)``; or a mapping from names to ``Float``, ``Int``,
            ``Choice`` or ``(low, high)``. Default: the least values of ``data``.
        upper: upper bounds, shape ``(d,)``; omitted with a mapping. Default: the largest values of
            ``data``.
        names: names of a vector's coordinates; default: the columns of a data frame, or
            ``x0, x1, ...``.
        data: real designs, at least 10: an array ``(n, d)``, a data frame, or a list of n dicts.

    Raises:
        InvalidInputError: a bound pair is not an interval, shapes do not match, or data are not
            finite, outside the bounds, too few, or constant without bounds.
    """

    def __init__(
        self,
        lower: ArrayLike | Mapping[str, Parameter | tuple[float, float]] | None = None,
        upper: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        data: Designs | None = None,
    ) -> None:
        self.named = isinstance(lower, Mapping)
        columns = None
        if data is not None:
            expected = [str(name) for name in lower] if isinstance(lower, Mapping) else names
            columns = read_columns(data, expected)
            if not isinstance(lower, Mapping):
                names = list(columns)
                lower, upper = bounds_of(columns, lower, upper)
        if not isinstance(lower, Mapping):
            lower = _bounds(lower, upper, names)
        elif upper is not None:
            raise InvalidInputError(
                "Box: upper must be omitted with named parameters. Remove upper."
            )
        parameters = {str(name): _parameter(str(name), value) for name, value in lower.items()}
        if not parameters:
            raise InvalidInputError("Box: at least one parameter is required")
        self.domain = box_domain(parameters)
        self._data_digest = None
        if columns is not None:
            columns, self._data_digest = checked(columns, parameters)
            points = self.domain.encode(rows_of(columns))
            self.domain = box_domain(parameters, fit_data_prior(points))
        self.differentiable = not self.named and self.domain.continuous
        self.discrete = not any(isinstance(parameter, Float) for parameter in parameters.values())

    def decode(self, points: Array) -> Sequence[Design]:
        values = self.domain.values(np.atleast_2d(points))
        if self.named:
            return values
        return cast("Sequence[Design]", np.array([[*row.values()] for row in values], dtype=float))

    def encode(self, designs: Sequence[Design]) -> Array:
        if self.named:
            if not all(isinstance(design, Mapping) for design in designs):
                raise InvalidInputError(
                    f"Box: designs must be dicts with the keys {list(self.domain.parameters)}"
                )
            return self.domain.encode(designs)
        array = np.asarray(designs, dtype=float)
        if array.ndim != 2 or array.shape[1] != self.domain.dim:
            raise InvalidInputError(
                f"Box: designs must have shape (n, {self.domain.dim}), got {array.shape}"
            )
        return self.domain.encode(
            [dict(zip(self.domain.parameters, row, strict=True)) for row in array]
        )

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Bytes of the projected point as a name; None if any parameter is a ``Float``."""
        return (
            (lambda points: [row.tobytes().hex() for row in self.domain.project(points)])
            if self.discrete
            else None
        )

    @cached_property
    def _scales(self) -> tuple[DeviceConstants, bool]:
        """Lower bounds, widths and masks of logarithms; True if any coordinate is logarithmic."""
        floats = [p for p in self.domain.parameters.values() if isinstance(p, Float)]
        ends = np.array([(p.low, p.high) for p in floats])
        log = np.array([p.log for p in floats])
        ends[log] = np.log(ends[log])
        return DeviceConstants(ends[:, 0], ends[:, 1] - ends[:, 0], log), bool(log.any())

    def decode_tensor(self, points: torch.Tensor) -> torch.Tensor:
        if not self.differentiable:
            return super().decode_tensor(points)
        # The points of a descent lie inside, so the clip needs no gradient of its own.
        inside = points.detach()
        unit = points + inside.clamp(0.0, 1.0).sub_(inside)
        scales, logarithmic = self._scales
        lower, width, log = scales.like(points)
        linear = lower.addcmul(unit, width)
        if not logarithmic:
            return linear
        # Logarithmic coordinates: low^(1 - u) high^u.
        return (linear * log).exp().where(log, linear)

    def to_json(self) -> JSON:
        described = super().to_json()
        return described if self._data_digest is None else {**described, "data": self._data_digest}


def _parameter(name: str, value: object) -> Parameter:
    if isinstance(value, (Float, Int, Choice)):
        return value
    try:
        low, high = cast("tuple[float, float]", value)
        return Float(float(low), float(high))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"parameter {name!r} must be Float, Int, Choice or (low, high), got {value!r} ({error})"
        ) from None


def _bounds(
    lower: ArrayLike | None, upper: ArrayLike | None, names: Sequence[str] | None
) -> dict[str, tuple[float, float]]:
    """Return the bounds of each coordinate by name."""
    if lower is None or upper is None:
        raise InvalidInputError(
            f"Box: {'lower' if lower is None else 'upper'} is missing. Write Box(lower, upper), "
            "Box({'name': Float(0, 1)}) or Box(data=X)."
        )
    low, high = np.atleast_1d(np.asarray(lower, float)), np.atleast_1d(np.asarray(upper, float))
    if low.ndim != 1 or low.shape != high.shape:
        raise InvalidInputError(
            f"Box: lower and upper must be vectors of equal length, got {low.shape}, {high.shape}"
        )
    names = [f"x{i}" for i in range(len(low))] if names is None else [str(name) for name in names]
    if len(names) != len(low) or len(set(names)) != len(names):
        raise InvalidInputError(f"Box: names must be {len(low)} different names, got {names}")
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
