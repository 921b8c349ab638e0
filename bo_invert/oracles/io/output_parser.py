"""Outputs out of what a program wrote: JSON, CSV, or numbers between words."""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from typing import Any

from bo_invert.errors import FailedError
from bo_invert.oracles.io.json_codec import Where, beginning, found, read_json, row_of, rows_of

Form = str | re.Pattern[str]
"""How outputs are written: ``"json"``, ``"csv"``, or a pattern with named groups."""


def read_rows(text: str, form: Form, where: Where, count: int | None) -> list[Any]:
    """Rows of outputs or verdicts, one per design; ``count`` is None for one design outside any batch.

    Raises:
        FailedError: the text holds no such rows; the message shows what was seen.
    """
    if isinstance(form, re.Pattern):
        return _matched(text, form, count)
    if form == "csv":
        return _tabled(text, count)
    value = found(_document(text), where)
    return [row_of(value)] if count is None else rows_of(value, count)


def _document(text: str) -> Any:
    """JSON: the whole text or, behind lines of a log, its last line."""
    try:
        return read_json(text)
    except FailedError:
        _, line, last = text.strip().rpartition("\n")
        with suppress(FailedError):
            if line:
                return read_json(last)
        raise


def _tabled(text: str, count: int | None) -> list[Any]:
    lines = [
        row
        for row in csv.reader(io.StringIO(text.replace("\0", "")), skipinitialspace=True)
        if any(row)
    ]
    if len(lines) < 2:
        raise FailedError(
            f"this is not CSV with a line of names and lines of numbers: {beginning(text)}"
        )
    names, body = [name.strip() for name in lines[0]], lines[1:]
    wanted = 1 if count is None else count
    if len(body) != wanted:
        raise FailedError(f"{wanted} designs were answered with {len(body)} lines of numbers")
    return [_numbers(dict(zip(names, row, strict=False)), len(row) == len(names)) for row in body]


def _matched(text: str, pattern: re.Pattern[str], count: int | None) -> list[Any]:
    rows = [{name: said for name, said in match.groupdict().items() if said is not None}
            for match in pattern.finditer(text)]  # fmt: skip
    if not rows:
        raise FailedError(f"nothing matches {pattern.pattern!r:.120}: {_end(text)}")
    if count is None:  # iterations print the same line again: the last one counts
        rows = [{name: said for row in rows for name, said in row.items()}]
        count = 1
    if len(rows) != count:
        raise FailedError(
            f"{count} designs were answered with {len(rows)} matches of {pattern.pattern!r:.120}"
        )
    return [_worded(_numbers(row, True)) for row in rows]


def _worded(row: dict[str, Any]) -> Any:
    """A group that caught no number is an answer about the design: solvers write stars where digits do not fit."""
    words = {name: said for name, said in row.items() if isinstance(said, str)}
    return FailedError(f"where a number should be there is {words!r:.120}") if words else row


def _numbers(row: dict[str, str], whole: bool) -> Any:
    """Numbers where the words are numbers. What is none stays text, which is an error only if it is an output."""
    if not whole:
        return FailedError(
            f"a line of numbers is shorter or longer than the line of names: {row!r:.120}"
        )
    return {name: _number(said) for name, said in row.items()}


def _number(said: str) -> float | str:
    try:
        return float(said)
    except ValueError:
        pass
    try:
        return float(
            re.sub(r"(?<=[\d.])[dD](?=[+-]?\d+$)", "e", said.strip())
        )  # as Fortran writes it
    except ValueError:
        return said


def _end(text: str, length: int = 200) -> str:
    if not text.strip():
        return "there is nothing"
    return (
        f"the text ends with {text[-length:]!r}" if len(text) > length else f"the text is {text!r}"
    )
