"""Validation of designs, points and outputs from the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from bo_invert.domains.named_points import named_rows
from bo_invert.errors import EvaluationError, FailedError, InvalidInputError, require, warn_user
from bo_invert.oracles.raw_outputs import MISMATCH, answer_rows, shaped_outputs
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.storage.journal_base import JournalBase
from bo_invert.types import JSON, Array, Cost, Design, Outcome, Query, Trial
from bo_invert.user_data import numbers, scalar, vector, whole_number
from bo_invert.user_tables import (
    columns,
    read_once,
    record,
    require_names,
    row_labels,
    table,
)

MAX_ROUNDING = 1e-9
"""Largest difference of the unit coordinates of one design, dimensionless. Engineering choice:
double precision rounds to 1e-16, single precision at a bound to 6e-8 of the bound."""
POINT_ROUNDING = 1e-6
"""Largest distance of a point from the unit cube. Engineering choice: single precision."""
LARGEST_COORDINATE = 1e6
"""Largest absolute value of a coordinate, dimensionless. Engineering choice: points lie within a
few units of 0, and squared distances of models must not overflow."""


def study_key(header: JSON) -> str:
    """Return the text that identifies a study in its trials; old headers have no id."""
    return str(header.get("id") or f"{header['created']} {header['problem_name']}")


def own_trial(where: str, trial: Trial | int, journal: JournalBase) -> Trial:
    """Return the recorded trial for a trial, or its number, from the user.

    Args:
        where: Function that received the trial.
        trial: Trial of this study, or its number.
        journal: Log of the study.

    Raises:
        InvalidInputError: There is no such trial, or it is one of another study.
    """
    if not isinstance(trial, Trial):
        return journal.trial(whole_number(where, "trial", trial, least=0))
    foreign = trial.study not in (None, study_key(journal.header))
    known = None if foreign else journal.trial(trial.number)
    same = known is not None and known.query is trial.query  # the usual case
    if known is None or not (same or np.array_equal(known.query.point, trial.query.point)):
        raise InvalidInputError(
            f"{where}: trial must be one of study {journal.name!r}, got trial {trial.number} of "
            f"another study, at {np.array2string(trial.query.point, threshold=8)}. Use the study "
            "that asked for it, or add its outcome: study.add(points=[trial.point], Y=[answer])"
        )
    return known


def user_queries(
    space: Space, designs: object, points: object, origin: str, tolerated_loss: float = 0.1
) -> list[Query]:
    """Return queries for designs or for points of the user; exactly one is given.

    Queries of designs hold them exactly; see ``Space.exact``.

    Args:
        space: Space of the problem.
        designs: Designs, or None.
        points: Points ``(n, d)``, or None.
        origin: Origin of the queries.
        tolerated_loss: Share of a design that may be lost by encoding without a warning.

    Raises:
        InvalidInputError: Both or neither are given, shapes are wrong, numbers are not finite, or
            the space cannot encode designs.
    """
    require(
        (designs is None) != (points is None),
        "give either designs or points=..., one of the two",
    )
    if points is not None:
        return [Query(point, origin=origin) for point in _coordinates(space, points)]
    coordinates = _coordinates(space, _encode(space, designs, tolerated_loss))
    exact = space.exact(cast("Sequence[Design]", designs), coordinates)
    return [
        Query(point, origin=origin, design=design)
        for point, design in zip(coordinates, exact, strict=True)
    ]


def require_constraints(space: Space, queries: Sequence[Query], where: str) -> None:
    """Check designs of the user against the input constraints of a box.

    Raises:
        InvalidInputError: A design violates one; the message names design and constraint.
    """
    if not space.domain.constraints or not queries:
        return
    points = np.array([query.point for query in queries])
    wrong = np.flatnonzero(~space.domain.satisfied(points))
    if len(wrong):
        which = f"design {wrong[0]} of {len(queries)}" if len(queries) > 1 else "the design"
        more = f" ({len(wrong)} of {len(queries)} designs)" if len(wrong) > 1 else ""
        raise InvalidInputError(
            f"{where}: {which} is outside the search domain: "
            f"{space.domain.violated(points[wrong[0]])}{more}. Correct it, or record measured "
            "designs for the models only: add(table, outside='model')"
        )


def _require_bounds(space: Space, queries: Sequence[Query]) -> None:
    """Check that points lie between the bounds of a box, up to rounding."""
    low, high = space.domain.limits
    for number, query in enumerate(queries):
        excess = max(float((low - query.point).max()), float((query.point - high).max()))
        require(
            excess <= POINT_ROUNDING,
            f"add: coordinates of point {number} must be in [{low:g}, {high:g}], got "
            f"{query.point.tolist()}. Record designs outside the domain for the models only: "
            "add(X, Y, outside='model')",
        )


def design_points(space: Space, designs: object, points: object, where: str) -> Array:
    """Return the points ``(n, d)`` of designs, or of points, of the user; exactly one is given.

    Args:
        space: Space of the problem.
        designs: Designs, one record of parameters, or None.
        points: Points ``(n, d)``, or None.
        where: Function that received them, for messages.

    Raises:
        InvalidInputError: Both or neither are given, there is none, or one is outside the space.
    """
    designs = read_once(designs)
    queries = user_queries(space, listed_designs(designs), points, where)
    require(queries, f"{where}: there must be at least one design, got none")
    coordinates = np.array([query.point for query in queries])
    if points is not None:
        return space.domain.rounded(coordinates)
    return space.domain.measured(coordinates)


def request_designs(designs: object, points: object) -> JSON:
    """Return designs or points of the user as part of a request to a server.

    Raises:
        InvalidInputError: Both or neither are given, or designs have no names.
    """
    require(
        (designs is None) != (points is None),
        "give either designs or points=..., one of the two",
    )
    if points is not None:
        return {"points": numbers(points).tolist()}
    designs = read_once(designs)
    single = record(designs)
    rows = table(designs) if single is None else [single]
    if rows is None:
        raise InvalidInputError(
            "predict: without the problem, designs must be dicts of parameters. Pass points=..., "
            "or open the study with its problem"
        )
    return {"parameters": [{name: scalar(value) for name, value in row.items()} for row in rows]}


def _coordinates(space: Space, points: object) -> Array:
    """Return points as an array ``(n, d)``; coordinates with names are matched by name."""
    axes = list(space.domain.axes)
    named = table(points)
    if named is not None:
        for row in named:
            require_names("points: coordinates", axes, row)
        points = [[row[name] for name in axes] for row in named]
    try:
        if isinstance(points, (list, tuple)):
            points = [vector(p) if isinstance(p, (list, tuple)) else p for p in points]
        coordinates = numbers(points)
    except TypeError as error:
        raise InvalidInputError(f"points must be numbers: one of them {error}") from None
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


def _coordinate_vector(point: object) -> Array:
    """Return the coordinates of a point, which may be arrays or tensors of length one."""
    try:
        return vector(point)
    except TypeError as error:
        raise InvalidInputError(f"points must be numbers: one of them {error}") from None


def _encode(space: Space, designs: object, tolerated_loss: float) -> Array:
    """Encode designs, with a warning if the encoding loses much of one."""
    points = space.encode(cast("Sequence[Design]", designs))
    lost = space.lost(cast("Sequence[Design]", designs), points)
    if lost is not None and len(lost) and lost.max() > tolerated_loss:
        count, largest = int((lost > tolerated_loss).sum()), min(float(lost.max()), 1.0)
        warn_user(
            f"{count} of {len(lost)} designs are not reproduced well: the encoding loses up to "
            f"{largest:.0%} of the differences between designs. The strategy treats their outputs "
            "as outputs of the decoded points. Use enqueue() to evaluate the decoded points",
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
    X = read_once(X)
    queries = user_queries(problem.space, listed_designs(X), points, "data")
    require_constraints(problem.space, queries, "add")
    _require_bounds(problem.space, queries)
    return queries, outcomes_of(problem, queries, Y, points if X is None else X, costs)


def listed_designs(X: object) -> object:
    """Return one design as a list of one; a mapping of columns is a table."""
    return [X] if record(X) is not None and columns(X) is None else X


def outcomes_of(
    problem: Problem,
    queries: Sequence[Query],
    Y: object,
    given: object,
    costs: Sequence[Cost] | None,
) -> list[Outcome]:
    """Return the outcomes of queries of the user.

    Args:
        problem: Problem of the study.
        queries: Queries of n designs.
        Y: n rows of outputs; errors are allowed.
        given: Designs or points of the user, whose row labels Y may have.
        costs: Cost of each design; None for none.

    Raises:
        InvalidInputError: Shapes or row labels do not match.
    """
    count, Y = len(queries), read_once(Y)
    answers = output_rows(Y, record(given) is not None, count, problem.output_names.oracle)
    require(
        len(answers) == count,
        f"add: Y must have a row for each of {count} designs, got {len(answers)}",
    )
    answers = _aligned(given, Y, answers)
    bills = [Cost()] * count if costs is None else costs
    require(
        len(bills) == count,
        f"add: costs must have an entry for each of {count} designs, got {len(bills)}",
    )
    outcomes = []
    for answer, bill, query in zip(answers, bills, queries, strict=True):
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, problem.output_names.reported(answer))
        outcomes.append(problem.outcome(answer, bill, query.point))
    return outcomes


def _aligned(X: object, Y: object, answers: list[Any]) -> list[Any]:
    """Return answers in the order of the designs, by the row labels of pandas if both have them.

    Raises:
        InvalidInputError: The labels differ; the message lists both.
    """
    rows, labels = row_labels(X), row_labels(Y)
    if rows is None or labels is None or rows == labels or len(labels) != len(answers):
        return answers
    if len(rows) != len(answers):  # a series that is one design
        return answers
    require(
        set(rows) == set(labels) and len(set(rows)) == len(rows),
        f"add: X and Y must have the same row labels, got {rows[:20]} and {labels[:20]}. Use "
        "reset_index(drop=True) on both to match rows by position",
    )
    return [answers[labels.index(row)] for row in rows]


def exact_query(space: Space, point: Array, design: JSON, origin: str) -> Query:
    """Return a query for a point and its exact design as JSON; None if the decoding is exact.

    Raises:
        InvalidInputError: The design is not at the point; in a latent, this is not known here.
    """
    if design is not None and not space.domain.latent:
        (row,) = named_rows(space.domain.parameters, [design], vectors=True)
        distance = np.abs(space.domain.encode([row])[0] - point).max()
        require(
            distance <= MAX_ROUNDING, f"design must be at its point, got a distance {distance:g}"
        )
    return Query(point, origin=origin, design=design)


def user_query(space: Space, x: object, point: object, design: JSON = None) -> Query:
    """Return the query for the arguments of ``Study.enqueue``.

    Args:
        space: Space of the problem.
        x: Design, or None.
        point: Point ``(d,)``, or None.
        design: Exact design of the point as JSON; see ``exact_query``.

    Raises:
        InvalidInputError: Several designs, a design outside the space, or a space that cannot
            encode designs.
    """
    listed = isinstance(x, (list, tuple)) and not hasattr(x, "_fields")
    several = listed and any(record(one) is not None for one in cast("Sequence[object]", x))
    rows = None if listed or isinstance(x, Mapping) else columns(x)
    several = several or (rows is not None and record(x) is None)
    if isinstance(point, (list, tuple)) and record(point) is None:
        several = several or any(isinstance(one, (list, tuple)) for one in point)
        point = point if several else _coordinate_vector(point)
    require(
        not several and getattr(point, "ndim", 1) == 1,
        "enqueue: the argument must be one design or one point. Call it once for each",
    )
    # A batch of one: an encoder may need an array.
    designs = x[None] if isinstance(x, np.ndarray) else None if x is None else [x]
    (query,) = user_queries(space, designs, None if point is None else [point], "user")
    domain = space.domain
    low, high = domain.limits
    require(
        point is None or ((query.point >= low) & (query.point <= high)).all(),
        f"enqueue: coordinates of point must be in [{low:g}, {high:g}]",
    )
    if design is not None:
        query = exact_query(space, query.point, design, query.origin)
    require_constraints(space, [query], "enqueue")
    # Coordinates of integers and choices become those of their values, and a point that comes
    # without a design takes the steps of the parameters.
    own = x is not None or query.design is not None
    return replace(query, point=(domain.measured if own else domain.rounded)(query.point))


def output_rows(Y: object, single: bool, count: int, outputs: Sequence[str]) -> list[Any]:
    """Return a list with one answer per design.

    A number, a record or an error is one answer. A vector is one answer if there is one design.

    Args:
        Y: Outputs from the user.
        single: True if there is one design, given without brackets.
        count: Number of designs.
        outputs: Names of the outputs.
    """
    if Y is None:
        return []
    named = record(Y) is not None or columns(Y) is not None
    if getattr(Y, "ndim", 1) == 0 or not (named or isinstance(Y, Iterable)):
        return [Y]
    rows = answer_rows(Y, count, outputs)
    return [Y] if single and count == 1 and len(rows) > 1 else rows


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
    unknown = [name for name in record(answer) or () if name not in outputs]
    require(not unknown, f"outputs: the names must be among {list(outputs)}, got {unknown}")
