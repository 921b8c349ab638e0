"""Conditions of parameters as values, JSON and text."""

from __future__ import annotations

from dataclasses import dataclass

from bo_invert.domains.rounding import Value
from bo_invert.types import JSON


@dataclass(frozen=True)
class Condition:
    """Condition of a parameter: it exists where another parameter has one of some values.

    Args:
        parameter: name of the other parameter.
        values: its values.
    """

    parameter: str
    values: tuple[Value, ...]

    def __str__(self) -> str:
        several = len(self.values) > 1
        value = f"in {list(self.values)!r}" if several else f"= {self.values[0]!r}"
        return f"{self.parameter} {value}"

    def to_json(self) -> JSON:
        return {"parameter": self.parameter, "values": list(self.values)}


def conditions_to_json(conditions: tuple[Condition, ...]) -> dict[str, JSON]:
    """Return the JSON entry of conditions; none without conditions."""
    return {"when": [one.to_json() for one in conditions]} if conditions else {}


def conditions_from_json(data: JSON) -> tuple[Condition, ...]:
    """Return the conditions in the JSON of a parameter."""
    return tuple(
        Condition(one["parameter"], tuple(one["values"])) for one in data.get("when") or ()
    )


def conditions_text(conditions: tuple[Condition, ...]) -> str:
    """Return conditions as the end of a text, such as ``, if solver = 'sgd'``."""
    return "".join(f", if {one}" for one in conditions)
