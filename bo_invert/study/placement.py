"""Points of designs of the user, also of designs outside the search domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, time
from typing import Any, Literal, cast

import numpy as np

from bo_invert.domains.measured_values import read_measured
from bo_invert.domains.named_points import named_rows
from bo_invert.domains.parameters import Float, Int, Parameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, require
from bo_invert.problems.problem import Problem
from bo_invert.report.dataframe import trial_values
from bo_invert.spaces.base import Space, exact_rows
from bo_invert.study.input_validation import (
    LARGEST_COORDINATE,
    MAX_ROUNDING,
    POINT_ROUNDING,
    listed_designs,
    outcomes_of,
    user_query,
)
from bo_invert.types import JSON, Array, Cost, Outcome, Query, Trial
from bo_invert.user_data import number, scalar
from bo_invert.user_tables import read_once, record

Outside = Literal["error", "model", "skip"]
"""Treatment of designs outside the search domain: report them, record them for the models only, or
leave them out."""


@dataclass(frozen=True)
class Place:
    """Point of a design of the user.

    Args:
        point: Coordinates, shape ``(d,)``; those of a box are beyond [0, 1] outside of it.
        design: Exact design as JSON, if the decoding of the point would round it.
        outside: The design lies outside the search domain.
        suggested: It is the suggested point of a trial.
    """

    point: Array
    design: JSON = None
    outside: bool = False
    suggested: bool = False

    def of_outcome(self, outcome: Outcome, extra: Mapping[str, JSON] | None = None) -> Outcome:
        """Return an outcome that was observed here, with further measured values if given."""
        point, design = (None, None) if self.suggested else (self.point, self.design)
        return replace(
            outcome, point=point, design=design, outside=self.outside,
            extra=outcome.extra if extra is None else extra,
        )  # fmt: skip

    def compared(self, trial: Trial) -> Place:
        """Return the place, marked if it is the suggested point of a trial apart from rounding."""
        gap = float(np.abs(self.point - trial.query.point).max())
        descent = trial.query.descent is not None  # its point is the start
        return replace(self, suggested=gap <= MAX_ROUNDING and not descent)


def place(space: Space, row: Mapping[str, Any], outside: bool) -> Place:
    """Return the point of a design of a box.

    A coordinate u = (x - low) / (high - low) of a value x beyond its range lies beyond [0, 1], on
    the log scale of the parameter if it has one.

    Args:
        space: Space of named parameters; its designs may be vectors.
        row: Value of each parameter.
        outside: Accept values beyond the range of a parameter, and broken input constraints.

    Raises:
        InvalidInputError: A value is not one of its parameter.
    """
    domain = space.domain
    inside, beyond = _divided(domain.parameters, row) if outside else (row, {})
    point = domain.encode([inside])[0]
    vectors = getattr(space, "vector", not getattr(space, "named", True))
    if beyond:
        for name, value in beyond.items():
            point[domain.columns[name]] = domain.parameters[name].coordinates([value])[0]
        require(
            bool((np.abs(point) <= LARGEST_COORDINATE).all()),
            f"the design must be at most {LARGEST_COORDINATE:g} ranges away from the box",
        )
        values = {name: beyond.get(name, value) for name, value in inside.items()}
        return Place(point, list(values.values()) if vectors else values, True)
    broken = domain.violated(point)
    if broken and not outside:
        raise InvalidInputError(f"the design violates an input constraint: {broken}")
    (design,) = exact_rows(domain, [row], point[None], vectors)
    return Place(point, design, bool(broken))


def _divided(
    parameters: Mapping[str, Parameter], row: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a design with the nearest values in range, and the numbers that are out of range."""
    inside, beyond = dict(row), dict[str, Any]()
    for name, parameter in parameters.items():
        if name not in row or not isinstance(parameter, (Float, Int)):
            continue
        with suppress(InvalidInputError):
            (inside[name],) = read_measured(parameter, [row[name]])
            continue
        try:
            found = number(row[name])
        except TypeError:
            continue  # the encoding reports it
        whole = isinstance(parameter, Float) or found == np.floor(found)
        if np.isfinite(found) and whole and (found > 0 or not parameter.log):
            beyond[name] = int(found) if isinstance(parameter, Int) else found
            inside[name] = parameter.nearest(min(max(found, parameter.low), parameter.high))
    return inside, beyond


def conditions(
    space: Space, trial: Trial, at: object, outside: Outside = "error", *, recorded: bool = False
) -> Place:
    """Return the place at which the user ran a trial instead of the suggested one.

    Args:
        space: Space of the problem.
        trial: Trial of the study.
        at: Some or all parameters by name, the others are the suggested ones; or a design.
        outside: ``"model"`` accepts a design outside the search domain.
        recorded: The other parameters are those that the log holds now, as in an amendment.

    Raises:
        InvalidInputError: A name is unknown, or a value is not one of its parameter.
    """
    require(
        outside in ("error", "model"), f"outside must be 'error' or 'model', got {outside!r:.80}"
    )
    domain, given = space.domain, record(at)
    known = trial if recorded else trial.evolved(outcome=None)
    if given is None or (domain.latent and not set(given) <= set(domain.axes)):
        query = user_query(space, at, None)
        return Place(query.point, query.design).compared(trial)
    axes = list(domain.parameters or domain.axes)
    unknown = [name for name in given if name not in axes]
    require(not unknown, f"at: the names must be among {axes}, got {unknown}")
    if domain.latent:
        point = np.array(known.point)
        for name, value in given.items():
            point[axes.index(name)] = number(value)
        return Place(point).compared(trial)
    # A changed condition may activate parameters that the suggestion lacks, and vice versa.
    row = {**trial_values(known, domain), **given}
    try:
        return place(space, row, outside == "model").compared(trial)
    except InvalidInputError as error:
        hint = ". Write outside='model' to record it for the models only"
        raise InvalidInputError(f"at: {error}{hint if lies_outside(space, row) else ''}") from None


def lies_outside(space: Space, row: Mapping[str, Any]) -> bool:
    """Return True if a design can be recorded, but lies outside the search domain."""
    with suppress(InvalidInputError):
        return place(space, row, True).outside
    return False


def outside_observations(
    problem: Problem, X: object, Y: object, points: object, costs: Sequence[Cost] | None
) -> tuple[list[Query], list[Outcome]]:
    """Return queries and outcomes of designs and outputs, also outside the search domain.

    The arguments are those of ``observations``.
    """
    require(
        points is None and not problem.space.domain.latent,
        "add: outside='model' needs designs of a Box",
    )
    X = read_once(X)
    rows = named_rows(problem.space.domain.parameters, listed_designs(X), vectors=True)
    places = [place(problem.space, row, True) for row in rows]
    queries = [Query(one.point, origin="data", design=one.design) for one in places]
    outcomes = outcomes_of(problem, queries, Y, X, costs)
    marked = zip(outcomes, places, strict=True)
    return queries, [replace(outcome, outside=one.outside) for outcome, one in marked]


def stored_place(space: Space, point: Array, design: JSON, outside: bool) -> Place:
    """Return the place of a point from another process, after a check.

    Raises:
        InvalidInputError: The point lies outside of a box without the mark, or the design is not at
            the point.
    """
    domain = space.domain
    if domain.latent:
        return Place(point, design)
    low, high = domain.limits
    beyond = bool(((point < low - POINT_ROUNDING) | (point > high + POINT_ROUNDING)).any())
    require(
        outside or not beyond,
        f"coordinates of point must be in [{low:g}, {high:g}]. Points beyond it need outside: true",
    )
    if design is not None:
        row = (
            design
            if isinstance(design, dict)
            else dict(zip(domain.parameters, design, strict=False))
        )
        require(
            set(row) == set(domain.parameters),
            f"design must have the parameters {list(domain.parameters)}, got {sorted(row)}",
        )
        distance = float(np.abs(place(space, row, True).point - point).max())
        require(
            distance <= MAX_ROUNDING, f"design must be at its point, got a distance {distance:g}"
        )
    require(not beyond or design is not None, "a point outside the box needs its design")
    return Place(point, design, outside and (beyond or bool(domain.violated(point))))


def read_extra(extra: object, taken: Mapping[str, str]) -> dict[str, JSON]:
    """Return further measured values as JSON; missing ones are left out, dates become texts.

    Args:
        extra: Values by name, or None.
        taken: Kind (parameter, output) of each name that is in use.

    Raises:
        InvalidInputError: A name is in use, or a value is not a text, number or boolean.
    """
    given = record(extra)
    require(
        extra is None or given is not None, f"extra must be a dict of values, got {extra!r:.200}"
    )
    found = {}
    for name, value in (given or {}).items():
        require(bool(name.strip()), "extra: names must not be blank")
        require(name not in taken, f"extra: {name!r} is {taken.get(name)} of the problem")
        plain = value.isoformat() if isinstance(value, (date, time)) else scalar(value)
        if isinstance(plain, float) and np.isnan(plain):
            continue
        if not isinstance(plain, (str, bool, int, float)) or (
            isinstance(plain, float) and not np.isfinite(plain)
        ):
            raise InvalidInputError(
                f"extra: {name!r} must be a text, a finite number or a boolean, got {value!r:.200}"
            )
        found[name] = cast("JSON", plain)
    return found


def used_names(domain: Domain, outputs: tuple[str, ...]) -> dict[str, str]:
    """Return the kind of each name that further measured values must not have."""
    return dict.fromkeys(domain.parameters, "a parameter") | dict.fromkeys(outputs, "an output")
