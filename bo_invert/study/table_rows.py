"""Rows of a table of the user as designs, outputs and further values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import (
    EvaluationError,
    FailedError,
    InfeasibleError,
    InvalidInputError,
    require,
)
from bo_invert.problems.problem import Problem
from bo_invert.registry import did_you_mean
from bo_invert.report.dataframe import trial_record
from bo_invert.study.csv_table import Row, Table
from bo_invert.study.pending import TRIAL
from bo_invert.study.placement import Outside, Place, lies_outside, place, read_extra
from bo_invert.types import JSON, Query, State, Trial
from bo_invert.user_data import number, scalar

_FAILURE = re.compile(r"(failed|failure|fail|infeasible|impossible)\b\s*[:,-]?\s*(.*)", re.I | re.S)
_EXPORTED = {"number", "state", "origin"}
"""Columns by which a table of ``bo-invert trials --format csv`` is recognised."""
_TRUTH = {
    **dict.fromkeys(("true", "yes", "wahr", "vrai", "verdadero", "vero"), True),
    **dict.fromkeys(("false", "no", "falsch", "faux", "falso"), False),
}
"""Truth values as spreadsheets write them, in lower case."""


@dataclass(frozen=True)
class RejectedRow:
    """Row that was not recorded.

    Args:
        row: Name of the row, such as ``row 8`` (the header of a CSV file is row 1).
        reason: Reason, with the name of the column.
    """

    row: str
    reason: str

    def __str__(self) -> str:
        return f"{self.row}: {self.reason}"


@dataclass(frozen=True)
class Observation:
    """Row of a table.

    Args:
        row: Name of the row.
        position: Position among the rows of the table, from 0.
        place: Its design; None if the table has only numbers of trials.
        answer: Outputs, or the error of a failure; None without a value.
        extra: Further measured values.
        trial: Number of its trial, in a table of results.
        given: Parameters as the user wrote them, in a table of results.
        incomplete: The answer is a failure because outputs have no value.
    """

    row: str
    position: int
    place: Place | None
    answer: dict[str, float] | EvaluationError | None
    extra: dict[str, JSON] = field(default_factory=dict)
    trial: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    incomplete: bool = False

    @property
    def placed(self) -> Place:
        """Place of the design of an observation."""
        assert self.place is not None
        return self.place


class RowReader:
    """Reader of the rows of one table.

    Args:
        problem: Problem of the study.
        table: Table of the user.
        results: The rows are results of trials, with a column ``trial``.
        outside: Treatment of designs outside the search domain.
        incomplete_fails: A row without some output is a failure.

    Raises:
        InvalidInputError: A required column is missing; the message lists similar ones.
    """

    def __init__(
        self,
        problem: Problem,
        table: Table,
        *,
        results: bool = False,
        outside: Outside = "error",
        incomplete_fails: bool = False,
    ) -> None:
        self._table, self._problem, self._results = table, problem, results
        self._outside, self._incomplete_fails = outside, incomplete_fails
        self._domain = problem.space.domain
        # Axes of a domain leave out parameters with one value.
        self._named = self._domain.parameters or self._domain.axes
        axes, names = self._named, table.names
        constant = [name for name, one in axes.items() if getattr(one, "levels", 2) == 1]
        optional = [name for name, one in axes.items() if getattr(one, "when", None)]
        required = [] if results else [n for n in axes if n not in (*constant, *optional)]
        required += [*problem.output_names.oracle, *([TRIAL] if results else [])]
        _check_columns(names, required, [*axes, *problem.output_names.oracle], problem.units)
        self._exported = set(names) >= _EXPORTED
        used = {*axes, *problem.outputs, *([TRIAL] if results else [])}
        own = _record_keys(self._domain, problem.output_names.oracle)
        hidden = own if self._exported else set()
        self._extra = [name for name in names if name not in used | hidden]
        self._taken = dict.fromkeys(used, "a column")

    def read(self) -> tuple[list[Observation], list[RejectedRow], list[RejectedRow]]:
        """Return the valid rows, the invalid ones, and the skipped ones outside the domain."""
        found, rejected, skipped = [], list[RejectedRow](), list[RejectedRow]()
        for position, row in enumerate(self._table.rows):
            try:
                found.append(self._observation(position, row))
            except _OutsideError as error:
                skipped.append(RejectedRow(row.label, str(error)))
            except InvalidInputError as error:
                rejected.append(RejectedRow(row.label, str(error)))
        return found, rejected, skipped

    def _observation(self, position: int, row: Row) -> Observation:
        if row.why:
            raise InvalidInputError(row.why)
        cells = row.values(self._named)
        answer, incomplete = self._answer(cells)
        extra = read_extra(
            {name: self._extra_value(name, cells.get(name)) for name in self._extra}, {}
        )
        given = {
            name: self._value(name, cells[name])
            for name in self._named
            if cells.get(name) is not None
        }
        if self._results:
            trial = self._trial(cells.get(TRIAL))
            return Observation(row.label, position, None, answer, extra, trial, given)
        where = self._place(given)
        return Observation(row.label, position, where, answer, extra, incomplete=incomplete)

    def _place(self, given: dict[str, Any]) -> Place:
        axes = self._named
        for name, one in axes.items():
            if name not in given and getattr(one, "levels", 2) == 1:
                given[name] = one.decode(np.full((1, one.width), 0.5))[0]
            require(name in given or bool(getattr(one, "when", None)), f"{name}: no value")
        if not self._domain.parameters:
            return Place(np.array([number(given[name]) for name in axes]))
        try:
            return place(self._problem.space, given, self._outside == "model")
        except InvalidInputError as error:
            if not lies_outside(self._problem.space, given):
                raise
            if self._outside == "skip":
                raise _OutsideError(str(error)) from None
            raise InvalidInputError(
                f"{error}. Use outside='model' to record it for the models only"
            ) from None

    def _value(self, name: str, cell: object) -> object:
        """Return the value of a parameter in a cell, text as a number if the parameter has none."""
        parameter = self._named[name]
        if not isinstance(cell, str):
            return cell
        with suppress(InvalidInputError):
            return parameter.read(cell)
        try:
            found = self._table.number(cell, name)
        except InvalidInputError as error:
            raise InvalidInputError(f"{name}: {error}") from None
        if found is not None:
            with suppress(InvalidInputError):
                return parameter.read(found)
            if hasattr(parameter, "low"):
                return found  # out of range
        values = getattr(parameter, "values", (getattr(parameter, "value", None),))
        if hasattr(parameter, "low"):
            raise InvalidInputError(f"{name}: {cell!r:.80} is not a number{_unit(cell)}")
        truth = _TRUTH.get(cell.lower())
        if truth is not None and truth in values:
            return truth
        hint = did_you_mean(cell, [str(value) for value in values])
        raise InvalidInputError(f"{name}: {cell!r:.80} is not one of {list(values)}{hint}")

    def _answer(
        self, cells: Mapping[str, Any]
    ) -> tuple[dict[str, float] | EvaluationError | None, bool]:
        """Return the answer of a row, and True if it fails because outputs have no value."""
        outputs = {name: cells.get(name) for name in self._problem.output_names.oracle}
        for cell in outputs.values():
            failure = _FAILURE.fullmatch(cell.strip()) if isinstance(cell, str) else None
            if failure is not None:
                kind = InfeasibleError if failure[1].lower()[0] == "i" else FailedError
                return kind(failure[2].strip() or failure[1].lower()), False
        if self._exported and cells.get("state") in (State.FAILED, State.INFEASIBLE):
            kind = InfeasibleError if cells["state"] == State.INFEASIBLE else FailedError
            return kind(str(cells.get("reason") or "")), False
        missing = [name for name, cell in outputs.items() if cell is None]
        found = {
            name: self._output(name, cell) for name, cell in outputs.items() if cell is not None
        }
        if not missing:
            return found, False
        measured = ", ".join(f"{name}={value:g}" for name, value in found.items())
        if self._incomplete_fails:
            return FailedError(f"no value of {', '.join(missing)}; {measured}".strip("; ")), True
        require(
            not found,
            f"{', '.join(missing)}: no value, but {measured}. Complete the row, or use "
            "blank='failed' to record a failure",
        )
        return None, False

    def _output(self, name: str, cell: object) -> float:
        try:
            found = self._table.number(cell, name) if isinstance(cell, str) else number(cell)
        except (InvalidInputError, TypeError) as error:
            raise InvalidInputError(f"{name}: {error}") from None
        if found is None:
            raise InvalidInputError(f"{name}: {cell!r:.80} is not a number{_unit(str(cell))}")
        if not math.isfinite(found):
            raise InvalidInputError(
                f"{name}: must be a finite number, got {cell!r:.80}. Write 'failed: reason' for a "
                "failure"
            )
        return found

    def _extra_value(self, column: str, cell: object) -> object:
        """Return a further measured value; text that is a number as a number, others as text."""
        if not isinstance(cell, str):
            plain = scalar(cell)
            known = cell is None or isinstance(cell, (date, time))
            return cell if known or isinstance(plain, (bool, int, float)) else str(cell)
        try:
            found = self._table.number(cell, column)
        except InvalidInputError:
            return cell
        # Names such as 007 and 12E3 are no numbers.
        name = re.match(r"0\d|.*[eE]", cell)
        if found is None or not np.isfinite(found) or name:
            return cell
        return found

    def _trial(self, cell: object) -> int:
        try:
            found = self._table.number(cell, TRIAL) if isinstance(cell, str) else number(cell)
        except (InvalidInputError, TypeError):
            found = None
        if cell is None or found is None or found != int(found) or found < 0:
            given = "no value" if cell is None else repr(cell)
            raise InvalidInputError(f"{TRIAL}: must be the number of a trial, got {given:.80}")
        return int(found)


class _OutsideError(InvalidInputError):
    """Design outside the search domain in a table that skips them."""


def _check_columns(
    names: Sequence[str],
    required: Sequence[str],
    known: Sequence[str],
    units: Mapping[str, str],
) -> None:
    """Check that a table has all required columns.

    Raises:
        InvalidInputError: One is missing; the message suggests names to change.
    """
    missing = [name for name in required if name not in names]
    if not missing:
        return
    free = [name for name in names if name not in known]
    near = {name: other for name in missing if (other := _similar(name, free)) is not None}
    hint = "".join(
        f". Column {other!r} may be {name!r}{_in_unit(units.get(name))}: rename it, or pass "
        f"columns={{{other!r}: {name!r}}}"
        for name, other in near.items()
    )
    raise InvalidInputError(
        f"table: columns {missing} are missing; it has {list(names)}{hint}"
        if len(missing) > 1
        else f"table: column {missing[0]!r} is missing; it has {list(names)}{hint}"
    )


def _in_unit(unit: str | None) -> str:
    return "" if unit is None else f", whose values must be in {unit}"


def _similar(name: str, names: Sequence[str]) -> str | None:
    """Return the column that may be a name with a unit, or in another spelling."""

    def plain(text: str) -> str:
        return re.sub(r"[\W_]+", "", re.sub(r"[\[({].*", "", text)).casefold()

    wanted = plain(name)
    for other in names:
        if plain(other) == wanted or re.match(
            rf"{re.escape(name.casefold())}[\s_/,;:.-]", other.casefold()
        ):
            return other
    return None


def _unit(text: str) -> str:
    """Return a hint for a number with a unit."""
    unit = re.match(r"[+-]?[\d.,]+(?:[eE][+-]?\d+)?\s*([^\d\s].{0,15})$", text.strip())
    return "" if unit is None else f"; write it without the unit {unit[1]!r}"


def _record_keys(domain: Domain, outputs: Sequence[str]) -> set[str]:
    """Return the columns of exported trials that are neither parameters nor outputs."""
    trial = Trial(0, Query(np.full(domain.dim, 0.5)), State.QUEUED)
    optional = {"plausibility", "expected", "suggested", "outside", "amended"}
    return {*trial_record(trial, (), None), *optional} - {
        *domain.parameters,
        *domain.axes,
        *outputs,
    }
