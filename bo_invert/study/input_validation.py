"""What users hand to a study, checked: designs or points, and what came of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import FailedError, InvalidInputError
from bo_invert.oracles.base import MISMATCH, shaped_outputs
from bo_invert.spaces.base import Space
from bo_invert.types import Array

_POOR = 0.1
"""Share of a design that may be lost on the way into the latent before there is a warning."""
FARTHEST = 1e6
"""Of a coordinate from 0. Points live within a few units of it; beyond, models would compute with infinities."""


def validated_points(space: Space, designs: Any, points: Any) -> Array:
    """Points ``(n, d)`` of designs or of points, one of which is None.

    Raises:
        InvalidInputError: both or neither are given, shapes are wrong, numbers are not finite, or the space has no way back.
    """
    if (designs is None) == (points is None):
        raise InvalidInputError("give either designs or points=..., one of the two")
    coordinates = _encoded(space, designs) if points is None else np.asarray(points, dtype=float)
    if coordinates.ndim != 2 or coordinates.shape[1] != space.domain.dim:
        raise InvalidInputError(
            f"points must have shape (n, {space.domain.dim}), got {coordinates.shape}; write one point as [point]"
        )
    if not (np.abs(coordinates) <= FARTHEST).all():
        raise InvalidInputError(
            f"points must be finite numbers, of at most {FARTHEST:g}; they are coordinates, not designs"
        )
    return coordinates


def _encoded(space: Space, designs: Any) -> Array:
    """Points of designs, with a warning where much of one is lost on the way."""
    points = space.encode(designs)
    lost = space.lost(designs, points)
    if lost is not None and len(lost) and lost.max() > _POOR:
        many, most = int((lost > _POOR).sum()), min(float(lost.max()), 1.0)
        warnings.warn(
            f"{many} of {len(lost)} designs are not reproduced well: up to {most:.0%} of what tells designs apart is "
            "lost on the way into the latent. Answers told of them are taken for answers of what their points decode "
            "to, which they are not: enqueue() asks the oracle about that instead",
            stacklevel=4,  # whoever called add or enqueue
        )
    return points


def output_rows(Y: Any, alone: bool) -> list[Any]:
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


def check_outputs(answer: Any, outputs: Sequence[str]) -> None:
    """Outputs of the wrong shape or name are the caller's slip, not news about a design."""
    unknown = (
        [str(name) for name in answer if name not in outputs] if isinstance(answer, Mapping) else []
    )
    try:
        shaped_outputs(answer, outputs)
    except FailedError as failure:
        raise InvalidInputError(
            f"{failure.reason.removeprefix(MISMATCH).rstrip('?.')}. For each design give a number, a vector or a dict "
            f"with {', '.join(outputs)}; or say that it failed, or is infeasible"
        ) from None
    if unknown:
        raise InvalidInputError(
            f"there are no outputs {unknown} in this problem; it has {list(outputs)}"
        )
