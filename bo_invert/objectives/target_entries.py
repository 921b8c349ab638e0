"""Entries of a target: points, ranges and intervals to avoid, read from data of the user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array
from bo_invert.user_data import real, real_vector
from bo_invert.user_tables import record, require_names


@dataclass(frozen=True)
class TargetEntries:
    """Entries of a target: k wanted values or ranges, then intervals to avoid.

    Args:
        names: names of the outputs of all entries; of the avoided ones only, if the wanted values
            have no names.
        lower: lower ends, -infinite at an open end; those of a point equal the upper ones.
        upper: upper ends.
        wanted: number k of wanted values.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    wanted: int

    @staticmethod
    def read(value: object, avoid: object, output: str | None) -> TargetEntries:
        """Read the arguments of ``Target``.

        Raises:
            InvalidInputError: a value is no finite number, a range is empty or open at both ends,
                an interval to avoid is not finite, or names do not match.
        """
        named = record(value)
        if named is not None and output is not None:
            require_names("Target: output", [output], named)
        if named is not None:
            names = tuple(named)
            ends = [_ends(f"value of {name!r}", one) for name, one in named.items()]
        elif _is_range(value, single=output is not None):
            names, ends = (() if output is None else (output,)), [_ends("value", value)]
        else:
            names, ends = (() if output is None else (output,)), _listed(value)
        if names and len(names) != len(ends):
            raise InvalidInputError(
                f"Target: output={output!r} names one output, the target has {len(ends)} values"
            )
        avoided = record(avoid) if avoid is not None else {}
        if avoided is None:
            raise InvalidInputError(
                f"Target: avoid must be a dict of intervals, as in {{'y': (1.0, 2.0)}}, got "
                f"{avoid!r:.80}"
            )
        intervals = [_interval(name, one) for name, one in avoided.items()]
        if not ends and not intervals:
            raise InvalidInputError("Target: value must have at least one number or range")
        lower, upper = zip(*ends, *intervals, strict=True)
        return TargetEntries((*names, *avoided), lower, upper, len(ends))

    @property
    def count(self) -> int:
        """Number of entries."""
        return len(self.lower)

    @property
    def avoided(self) -> tuple[bool, ...]:
        """True for an interval to avoid, one per entry."""
        return tuple(position >= self.wanted for position in range(self.count))

    @property
    def wanted_names(self) -> tuple[str, ...]:
        """Names of the outputs of the wanted values; empty if they have none."""
        return self.names[: len(self.names) - (self.count - self.wanted)]

    @property
    def points(self) -> bool:
        """True if every entry is a point."""
        return self.wanted == self.count and self.lower == self.upper

    def numbers(self, what: str, given: object) -> tuple[float, ...]:
        """Return one positive number per entry: one for all, one per entry, or by name.

        Args:
            what: name of the argument, for messages.
            given: number, vector, or record. A record of weights may omit names, which have 1.

        Raises:
            InvalidInputError: a number is not positive, or names or their number do not match.
        """
        named = record(given)
        if named is not None and what == "scale":
            require_names("Target: scale", tuple(dict.fromkeys(self.names)), named)
        values = self._per_entry(what, given, 1.0)
        if not (values > 0).all():
            raise InvalidInputError(f"Target: {what} must be > 0, got {given!r}")
        return tuple(values.tolist())

    def tolerances(self, given: object) -> tuple[float, ...]:
        """Return one tolerance >= 0 per entry: one for all, one per entry, or by name.

        Args:
            given: number, vector, or record. A record may omit names of ranges and of intervals to
                avoid, which have 0.

        Raises:
            InvalidInputError: a tolerance is negative, or names or their number do not match.
        """
        values = self._per_entry("tolerance", given, math.nan)
        ends = zip(self.names or ("",) * self.count, self.lower, self.upper, values, strict=False)
        missing = [name for name, low, high, value in ends if low == high and math.isnan(value)]
        if missing:
            raise InvalidInputError(
                f"Target: tolerance must have all outputs with a number, got {given!r:.80} without "
                f"{missing}. Add them; 0 requires the exact number."
            )
        values = np.nan_to_num(values)
        if not (values >= 0).all():
            raise InvalidInputError(f"Target: tolerance must be >= 0, got {given!r}")
        return tuple(values.tolist())

    def _per_entry(self, what: str, given: object, omitted: float) -> Array:
        """Return numbers ``(count,)``: one for all, one per entry, or by name."""
        named = record(given)
        if named is not None:
            unknown = [name for name in named if name not in self.names]
            if unknown or len(self.names) != self.count:
                raise InvalidInputError(
                    f"Target: {what} must have names among {list(self.names)}, got {list(named)}"
                )
            own = {name: real("Target", f"{what} of {name!r}", one) for name, one in named.items()}
            return np.array([own.get(name, omitted) for name in self.names])
        values = real_vector("Target", what, given)
        if values.size not in (1, self.count):
            raise InvalidInputError(
                f"Target: {what} must be one number or {self.count} numbers, got {given!r}"
            )
        return np.broadcast_to(values, (self.count,))

    @property
    def value_json(self) -> list[JSON]:
        """Wanted values as JSON: a number for a point, ``[low, high]`` for a range."""
        pairs = zip(self.lower[: self.wanted], self.upper[: self.wanted], strict=True)
        return [low if low == high else [*map(_finite, (low, high))] for low, high in pairs]

    @property
    def avoid_json(self) -> dict[str, JSON]:
        """Intervals to avoid as JSON; empty without any."""
        names = self.names[len(self.wanted_names) :]
        ends = zip(self.lower[self.wanted :], self.upper[self.wanted :], strict=True)
        return {name: list(pair) for name, pair in zip(names, ends, strict=True)}


def _finite(end: float) -> float | None:
    return end if math.isfinite(end) else None


def _is_range(value: object, *, single: bool) -> bool:
    """Return True for a pair of ends; two numbers are one as a tuple, for a ``single`` output."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return False
    plain = all(one is None or np.ndim(one) == 0 for one in value)
    ends = single and isinstance(value, tuple)
    return plain and (ends or any(one is None for one in value))


def _listed(value: object) -> list[tuple[float, float]]:
    """Return the ends of a number, or of a list of numbers and ranges."""
    items: Sequence[Any] = value if isinstance(value, (tuple, list)) else ()
    if any(isinstance(one, (tuple, list)) for one in items):
        return [_ends("value", one) for one in items]
    if isinstance(value, (tuple, list)) and not value:
        return []
    return [(one, one) for one in real_vector("Target", "value", value).tolist()]


def _ends(what: str, value: object) -> tuple[float, float]:
    """Return the ends of a number or of a range ``(low, high)``, None for an open end."""
    if not isinstance(value, (tuple, list)):
        point = real("Target", what, value)
        return point, point
    if len(value) != 2:
        raise InvalidInputError(f"Target: {what} must be a range (low, high), got {value!r:.80}")
    low, high = (
        open_end if end is None else real("Target", what, end)
        for end, open_end in zip(value, (-math.inf, math.inf), strict=True)
    )
    if low > high or (math.isinf(low) and math.isinf(high)):
        raise InvalidInputError(
            f"Target: {what} must be a number or a range (low, high) with low <= high and None for "
            f"one open end, got {value!r}"
        )
    return low, high


def _interval(name: str, value: object) -> tuple[float, float]:
    """Return the ends of a finite interval to avoid."""
    low, high = _ends(f"avoid of {name!r}", value)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInputError(
            f"Target: avoid of {name!r} must be an interval (low, high) with low < high, got "
            f"{value!r}. Write an open side as a range of the wanted value."
        )
    return low, high
