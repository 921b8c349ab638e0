"""What users hand to a study, checked: designs or points, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import Failed, InvalidInput
from bo_invert.oracles.base import MISFIT, shaped_outputs
from bo_invert.spaces.base import Space
from bo_invert.types import Array

FARTHEST = 1e6
"""Of a coordinate from 0. Points live within a few units of it; beyond, models would compute with infinities."""


def given_points(space: Space, designs: Any, points: Any) -> Array:
    """Points ``(n, d)`` of designs or of points, one of which is None.

    Raises:
        InvalidInput: both or neither are given, shapes are wrong, numbers are not finite, or the space has no way back.
    """
    if (designs is None) == (points is None):
        raise InvalidInput("give either designs or points=..., one of the two")
    coordinates = space.encode(designs) if points is None else np.asarray(points, dtype=float)
    if coordinates.ndim != 2 or coordinates.shape[1] != space.domain.dim:
        raise InvalidInput(
            f"points must have shape (n, {space.domain.dim}), got {coordinates.shape}; write one point as [point]"
        )
    if not (np.abs(coordinates) <= FARTHEST).all():
        raise InvalidInput(f"points must be finite numbers, of at most {FARTHEST:g}; they are coordinates, not designs")
    return coordinates


def given_answers(Y: Any, alone: bool) -> list[Any]:
    """One answer for each design. A number, a dict or a verdict is a single one; so is a vector for one alone."""
    if Y is None:
        return []
    if isinstance(Y, Mapping):
        return [Y]
    try:
        rows = list(Y)
    except TypeError:  # a number or a verdict
        return [Y]
    return [Y] if alone and len(rows) > 1 else rows


def refuse_shape(answer: Any, outputs: Sequence[str]) -> None:
    """Outputs of the wrong shape or name are the caller's slip, not news about a design."""
    unknown = [str(name) for name in answer if name not in outputs] if isinstance(answer, Mapping) else []
    try:
        shaped_outputs(answer, outputs)
    except Failed as failure:
        raise InvalidInput(
            f"{failure.reason.removeprefix(MISFIT).rstrip('?.')}. For each design give a number, a vector or a dict "
            f"with {', '.join(outputs)}; or say that it failed, or is infeasible"
        ) from None
    if unknown:
        raise InvalidInput(f"there are no outputs {unknown} in this problem; it has {list(outputs)}")
