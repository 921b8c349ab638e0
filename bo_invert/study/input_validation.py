"""Validation of designs, points and outputs from the user."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.cost_ledger import Cost
from bo_invert.errors import EvaluationError, FailedError, InvalidInputError, require
from bo_invert.oracles.base import MISMATCH, shaped_outputs
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.types import Array, Design, Outcome, Query

LARGEST_COORDINATE = 1e6
"""Largest absolute value of a coordinate, dimensionless. Engineering choice: points lie within a
few units of 0, and squared distances of models must not overflow."""


def validated_points(
    space: Space, designs: object, points: object, tolerated_loss: float = 0.1
) -> Array:
    """Return points ``(n, d)`` from designs or from points; exactly one is given.

    Args:
        space: Space of the problem.
        designs: Designs, or None.
        points: Points, or None.
        tolerated_loss: Share of a design that may be lost by encoding without a warning.

    Raises:
        InvalidInputError: Both or neither are given, shapes are wrong, numbers are not finite, or
            the space cannot encode designs.
    """
    require(
        (designs is None) != (points is None),
        "give either designs or points=..., one of the two",
    )
    encoded = points if points is not None else _encode(space, designs, tolerated_loss)
    coordinates = np.asarray(encoded, dtype=float)
    require(
        coordinates.ndim == 2 and coordinates.shape[1] == space.domain.dim,
        f"points must have shape (n, {space.domain.dim}), got {coordinates.shape}. "
        "Write one point as [point]",
    )
    require(
        (np.abs(coordinates) <= LARGEST_COORDINATE).all(),
        f"points must be finite numbers, of at most {LARGEST_COORDINATE:g}. "
        "They are coordinates, not designs",
    )
    return coordinates


def _encode(space: Space, designs: object, tolerated_loss: float) -> Array:
    """Encode designs, with a warning if the encoding loses much of one."""
    points = space.encode(cast("Sequence[Design]", designs))
    lost = space.lost(cast("Sequence[Design]", designs), points)
    if lost is not None and len(lost) and lost.max() > tolerated_loss:
        count, largest = int((lost > tolerated_loss).sum()), min(float(lost.max()), 1.0)
        warnings.warn(
            f"{count} of {len(lost)} designs are not reproduced well: the encoding loses up to "
            f"{largest:.0%} of the differences between designs. The strategy treats their outputs "
            "as outputs of the decoded points. Use enqueue() to evaluate the decoded points",
            stacklevel=5,  # the caller of Study.add or Study.enqueue
        )
    return points


def observations(
    problem: Problem, X: object, Y: object, points: object, costs: Sequence[Cost] | None
) -> tuple[list[Query], list[Outcome]]:
    """Return queries and outcomes for the arguments of ``Study.add``.

    Raises:
        InvalidInputError: Shapes do not match, a design is outside the space, or the space cannot
            encode designs.
    """
    single = isinstance(X, Mapping)
    coordinates = validated_points(problem.space, [X] if single else X, points)
    answers = output_rows(Y, single)
    require(
        len(answers) == len(coordinates),
        f"add: Y must have a row for each of {len(coordinates)} designs, got {len(answers)}",
    )
    bills = [Cost()] * len(answers) if costs is None else costs
    require(
        len(bills) == len(answers),
        f"add: costs must have an entry for each of {len(answers)} designs, got {len(bills)}",
    )
    for answer in answers:
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, problem.outputs)
    outcomes = [problem.outcome(answer, bill) for answer, bill in zip(answers, bills, strict=True)]
    return [Query(point, origin="data") for point in coordinates], outcomes


def user_query(space: Space, x: object, point: object) -> Query:
    """Return the query for the arguments of ``Study.enqueue``.

    Raises:
        InvalidInputError: Several designs, a design outside the space, or a space that cannot
            encode designs.
    """
    several = isinstance(x, (list, tuple)) and any(isinstance(one, Mapping) for one in x)
    require(
        not several and np.ndim(cast("ArrayLike", point)) <= 1,
        "enqueue: the argument must be one design or one point. Call it once for each",
    )
    coordinates = validated_points(
        space, None if x is None else [x], None if point is None else [point]
    )
    return Query(space.domain.project(coordinates[0]), origin="user")


def output_rows(Y: object, single: bool) -> list[Any]:
    """Return a list with one answer per design.

    A number, a dict or an error is one answer. A vector is one answer if there is one design.

    Args:
        Y: Outputs from the user.
        single: True if there is one design.
    """
    if Y is None:
        return []
    if isinstance(Y, Mapping):
        return [Y]
    try:
        rows = list(cast("Iterable[Any]", Y))
    except TypeError:  # a number or an error
        return [Y]
    return [Y] if single and len(rows) > 1 else rows


def check_outputs(answer: object, outputs: Sequence[str]) -> None:
    """Check shape and names of outputs from the user.

    Outputs of a wrong shape are a mistake of the user; they do not make the design fail.

    Raises:
        InvalidInputError: The shape or a name is wrong.
    """
    try:
        shaped_outputs(answer, outputs)
    except FailedError as failure:
        raise InvalidInputError(
            f"{failure.reason.removeprefix(MISMATCH).rstrip('?.')}. For each design give a number, "
            f"a vector or a dict with {', '.join(outputs)}, or FailedError or InfeasibleError"
        ) from None
    named = answer if isinstance(answer, Mapping) else ()
    unknown = [str(name) for name in named if name not in outputs]
    require(not unknown, f"outputs: the names must be among {list(outputs)}, got {unknown}")
