"""Box space: vectors between bounds, or named typed parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.conditions import flattened
from bo_invert.domains.constrained_box import constrained_box
from bo_invert.domains.constraint_text import read_constraints
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.input_constraints import Feasible
from bo_invert.domains.named_points import coordinates, named_rows
from bo_invert.domains.parameters import Choice, Float, Int, Parameter
from bo_invert.errors import InvalidInputError
from bo_invert.generators.data_plausibility import fit_data_prior
from bo_invert.spaces.base import Space, exact_rows
from bo_invert.spaces.box_data import bounds_of, checked, read_columns, some_rows
from bo_invert.spaces.real_vectors import RealVectors
from bo_invert.types import JSON, Array, Design, Designs
from bo_invert.user_code import DeviceConstants
from bo_invert.user_data import real, scalar, vector
from bo_invert.user_tables import record, require_names

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
            ``Choice``, ``Fixed``, ``(low, high)`` or ``When``. Default: the least values of
            ``data``.
        upper: upper bounds, shape ``(d,)``; omitted with a mapping. Default: the largest values of
            ``data``.
        names: names of a vector's coordinates; default: the columns of a data frame, or
            ``x0, x1, ...``.
        data: real designs, at least 10: an array ``(n, d)``, a data frame, or a list of n dicts.
        constraints: input constraints, which every point that is asked satisfies. One or a list
            of texts (``"a + b + c == 1"``, ``"a <= b"``, ``"at most 3 of a, b, c, d"``), arrays
            (``{"A": ..., "b": ...}`` for ``A x <= b``, ``{"A_eq": ..., "b_eq": ...}``),
            ``AtMost``, ``AtLeast``, ``Exactly`` and ``Feasible``.

    Raises:
        InvalidInputError: a bound pair is not an interval, shapes do not match, or data are not
            finite, outside the bounds, too few, or constant without bounds. Constraints name an
            unknown parameter, or no point or a set too thin to sample satisfies them.
    """

    def __init__(
        self,
        lower: ArrayLike | Mapping[str, Parameter | tuple[float, float]] | None = None,
        upper: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        data: Designs | None = None,
        constraints: object = (),
    ) -> None:
        declared = _declared(lower, upper)
        declared = None if declared is None else flattened(declared)
        self.named = declared is not None and (upper is None or isinstance(lower, Mapping))
        order = next((list(b) for b in (declared, record(lower), record(upper)) if b), names)
        if order is not None and names is not None:
            require_names("Box: names", names, order)
            order = [str(name) for name in names]
        columns = None if data is None else read_columns(data, order)
        if declared is None:
            order = order if columns is None else list(columns)
            low, high = _in_order("lower", lower, order), _in_order("upper", upper, order)
            if columns is not None:
                low, high = bounds_of(columns, low, high)
            declared = _bounds(low, high, order)
        parameters = {name: _parameter(name, declared[name]) for name in order or declared}
        if not parameters:
            raise InvalidInputError("Box: at least one parameter is required")
        if not any(p.width for p in parameters.values()):
            raise InvalidInputError("Box: at least one parameter must not be Fixed")
        limits = read_constraints(constraints, list(parameters))
        limits = tuple(
            replace(one, vectors=not self.named) if isinstance(one, Feasible) else one
            for one in limits
        )
        self.domain = constrained_box(parameters, limits)
        parameters = dict(self.domain.parameters)
        self._data_digest = None
        if columns is not None:
            columns, self._data_digest = checked(columns, parameters)
            points = coordinates(parameters, some_rows(columns))
            points = self.domain.project(points) if self.domain.conditional else points
            self.domain = constrained_box(parameters, limits, None, fit_data_prior(points))
        self.differentiable = not self.named and self.domain.continuous
        self.unnamed = not self.named and list(parameters) == [*_default_names(len(parameters))]
        self.discrete = not self.domain.has_real

    def decode(self, points: Array) -> Sequence[Design]:
        points = np.atleast_2d(points)
        if self._reals is not None:
            return cast("Sequence[Design]", self._reals.decode(points))
        values = self.domain.values(points)
        if self.named:
            return values
        return cast("Sequence[Design]", np.array([[*row.values()] for row in values], dtype=float))

    @cached_property
    def _reals(self) -> RealVectors | None:
        """Vectors of real parameters; None if designs are of another kind."""
        reals = [one for one in self.domain.parameters.values() if isinstance(one, Float)]
        return None if self.named or not self.domain.continuous else RealVectors(reals)

    def encode(self, designs: Sequence[Design]) -> Array:
        vectors = None if self._reals is None else self._reals.valid(designs)
        if self._reals is not None and vectors is not None:
            return self._reals.encode(vectors)
        return self.domain.encode(self._rows(designs))

    def _rows(self, designs: Sequence[Design]) -> list[dict[str, Any]]:
        return named_rows(self.domain.parameters, designs, vectors=not self.named)

    def exact(self, designs: Sequence[Design], points: Array) -> list[JSON]:
        vectors = None if self._reals is None else self._reals.valid(designs)
        if self._reals is not None and vectors is not None:
            return self._reals.exact(vectors, points)
        return exact_rows(self.domain, self._rows(designs), points, vectors=not self.named)

    @property
    def identify(self) -> Callable[[Array], list[str]] | None:
        """Bytes of the projected point as a name; None if any parameter is a real number.

        A point of the user between the steps of a parameter has none.
        """
        return self._names if self.discrete else None

    def _names(self, points: Array) -> list[str]:
        off = (self.domain.measured(points) != self.domain.rounded(points)).any(axis=1)
        names = [row.tobytes().hex() for row in self.domain.project(points)]
        return ["" if between else name for name, between in zip(names, off, strict=True)]

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
    if isinstance(value, (Float, Int, Choice, Fixed)):
        return value
    try:
        low, high = cast("tuple[float, float]", value)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"parameter {name!r} must be Float, Int, Choice, Fixed, When or (low, high), got "
            f"{value!r} "
            f"({error})"
        ) from None
    where = f"Box: parameter {name!r}"
    return Float(real(where, "the lower bound", low), real(where, "the upper bound", high))


def _declared(lower: object, upper: object) -> dict[str, Any] | None:
    """Return named parameters, or pairs of named bounds; None for vectors of bounds.

    Raises:
        InvalidInputError: lower and upper have different names, or only one has names.
    """
    low, high = record(lower), record(upper)
    if (low is None) != (high is None) and lower is not None and upper is not None:
        raise InvalidInputError(
            "Box: lower and upper must both have names, or none of them, got "
            f"{lower!r:.200} and {upper!r:.200}"
        )
    if low is None:
        return None
    if upper is None:
        plain = all(isinstance(scalar(value), (int, float)) for value in low.values())
        return None if plain and not isinstance(lower, Mapping) else low
    if high is None:
        return None
    require_names("Box: upper", low, high)
    return {name: (low[name], high[name]) for name in low}


def _in_order(which: str, bound: object, order: Sequence[str] | None) -> ArrayLike | None:
    """Return a bound as a vector in this order of names.

    Raises:
        InvalidInputError: its names are not those of the order.
    """
    named = record(bound)
    if named is None or order is None:
        return cast("ArrayLike | None", bound)
    require_names(f"Box: {which}", order, named)
    return [named[name] for name in order]


def _default_names(count: int) -> list[str]:
    """Return the names of the coordinates of a vector without names."""
    return [f"x{i}" for i in range(count)]


def _bounds(
    lower: ArrayLike | None, upper: ArrayLike | None, names: Sequence[str] | None
) -> dict[str, tuple[float, float]]:
    """Return the bounds of each coordinate by name."""
    if lower is None or upper is None:
        raise InvalidInputError(
            f"Box: {'lower' if lower is None else 'upper'} is missing. Write Box(lower, upper), "
            "Box({'name': Float(0, 1)}) or Box(data=X)."
        )
    try:
        low, high = vector(lower), vector(upper)
    except TypeError as error:
        raise InvalidInputError(
            f"Box: lower and upper must be vectors of numbers, got {lower!r:.200} and "
            f"{upper!r:.200}; one of them {error}"
        ) from None
    if low.ndim != 1 or low.shape != high.shape:
        raise InvalidInputError(
            f"Box: lower and upper must be vectors of equal length, got {low.shape}, {high.shape}"
        )
    names = _default_names(len(low)) if names is None else [str(name) for name in names]
    if len(names) != len(low) or len(set(names)) != len(names):
        raise InvalidInputError(f"Box: names must be {len(low)} different names, got {names}")
    return dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
