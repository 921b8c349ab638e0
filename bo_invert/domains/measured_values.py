"""Values of designs that were really run: steps and digits bind proposals, not measurements.

A balance shows 0.437 where ``Float(0, 1, step=0.1)`` asked for 0.4. Such a value has the coordinate
of the real number between those of its neighbours, so that models use what was run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bo_invert.domains.parameters import Float, Parameter
from bo_invert.types import Array


def read_measured(parameter: Parameter, values: Sequence[object]) -> Sequence[Any]:
    """Return values of the user in the range of a parameter; its step does not bind them.

    Raises:
        InvalidInputError: a value is out of range, no whole number, or no value of a choice.
    """
    if not isinstance(parameter, Float) or parameter.grid is None:
        return parameter.read_all(values)
    return [parameter.measured(value) for value in values]


def decode_measured(parameter: Parameter, u: Array) -> list[Any]:
    """Return the values at unit coordinates ``(n, w)``, of a real parameter without its step."""
    if not isinstance(parameter, Float) or parameter.grid is None:
        return parameter.decode(u)
    low, high = parameter.edges()
    t = low + u[:, 0] * (high - low)
    inside = np.clip(np.exp(t) if parameter.log else t, parameter.low, parameter.high)
    # Coordinates are rounded; 15 digits return the number that the user wrote.
    return [parameter.measured(float(f"{value:.15g}")) for value in inside.tolist()]
