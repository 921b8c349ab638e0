"""Parameter with one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bo_invert.domains.rounding import Value, equal_value
from bo_invert.errors import InvalidInputError
from bo_invert.types import JSON, Array
from bo_invert.user_data import plain_options


@dataclass(frozen=True)
class Fixed:
    """Parameter with one value: it is part of every design and is not searched.

    Args:
        value: a str, bool, int or float.
        when: conditions under which the parameter exists; see ``When``.
    """

    value: Value
    when: tuple[Any, ...] = ()

    width: ClassVar[int] = 0
    """Number of coordinates in the unit cube."""
    levels: ClassVar[int] = 1
    """Number of different values."""
    continuous: ClassVar[bool] = False
    """True if values are real numbers."""

    def __post_init__(self) -> None:
        value = plain_options(self.value)
        if not isinstance(value, (str, bool, int, float)) or value != value:
            raise InvalidInputError(f"Fixed: value must be str, bool, int or float, got {value!r}")
        vars(self)["value"] = value  # the class is frozen

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"

    def under(self, conditions: tuple[Any, ...]) -> Fixed:
        """Return this parameter with other conditions."""
        return replace(self, when=conditions)

    def decode(self, u: Array) -> list[Any]:
        return [self.value] * len(u)

    def read(self, value: object) -> Value:
        """Return the value; raise ``InvalidInputError`` for another one."""
        if equal_value(value, (self.value,)) is None:
            raise InvalidInputError(f"{value!r:.200} is not the fixed value {self.value!r}")
        return self.value

    def read_all(self, values: Sequence[object]) -> Sequence[object]:
        """Return values of the user as ``read`` does."""
        return [self.read(value) for value in values]

    def nearest(self, value: object) -> Value:
        """Return the value."""
        del value
        return self.value

    def encode(self, values: Sequence[Any]) -> Array:
        return self.coordinates(self.read_all(values))

    def coordinates(self, values: Sequence[Any]) -> Array:
        """Return an array ``(n, 0)``: a fixed value has no coordinates."""
        return np.empty((len(values), 0))

    def project(self, u: Array) -> Array:
        return u

    def to_json(self) -> JSON:
        described: dict[str, JSON] = {"type": "fixed", "value": self.value}
        if self.when:
            described["when"] = [one.to_json() for one in self.when]
        return described
