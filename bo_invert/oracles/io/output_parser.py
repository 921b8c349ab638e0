"""Parsers of a program's output: JSON, CSV, or a pattern with named groups."""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from typing import Any

from bo_invert.errors import FailedError
from bo_invert.oracles.io.json_codec import JsonPath, beginning, extract, read_json, row_of, rows_of
from bo_invert.types import JSON

OutputFormat = str | re.Pattern[str]
"""Format of the output: ``"json"``, ``"csv"``, or a pattern with named groups."""

_Row = dict[str, float | str] | FailedError


def read_rows(text: str, form: OutputFormat, path: JsonPath, count: int | None) -> list[Any]:
    """Parse one row of outputs, or an error, per design.

    Args:
        text: output of the program.
        form: format of the output.
        path: path of the outputs in JSON.
        count: number of designs of a batch; None for a single design.

    Raises:
        FailedError: the text has another format; the message shows its beginning or end.
    """
    if isinstance(form, re.Pattern):
        return _matched(text, form, count)
    if form == "csv":
        return _tabled(text, count)
    value = extract(_document(text), path)
    return [row_of(value)] if count is None else rows_of(value, count)


def _document(text: str) -> JSON:
    """Parse the text as JSON or, after lines of a log, its last line."""
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
            f"the output must be CSV with a header and lines of numbers, got {beginning(text)}"
        )
    names, body = [name.strip() for name in lines[0]], lines[1:]
    wanted = 1 if count is None else count
    if len(body) != wanted:
        raise FailedError(
            f"the output must have one line of numbers per design ({wanted}), got {len(body)}"
        )
    return [_numbers(dict(zip(names, row, strict=False)), len(row) == len(names)) for row in body]


def _matched(text: str, pattern: re.Pattern[str], count: int | None) -> list[Any]:
    matches = [match.groupdict() for match in pattern.finditer(text)]
    rows = [{name: word for name, word in row.items() if word is not None} for row in matches]
    if not rows:
        raise FailedError(f"no match of {pattern.pattern!r:.120}: {_end(text)}")
    if count is None:  # iterations print the same line again; the last one counts
        rows, count = [{name: word for row in rows for name, word in row.items()}], 1
    if len(rows) != count:
        raise FailedError(
            f"the output must have {count} matches of {pattern.pattern!r:.120}, got {len(rows)}"
        )
    return [_without_text(_numbers(row, True)) for row in rows]


def _without_text(row: _Row) -> _Row:
    """Return the row, or an error if a group is not a number; Fortran prints stars for overflow."""
    if isinstance(row, FailedError):
        return row
    text = {name: value for name, value in row.items() if isinstance(value, str)}
    return FailedError(f"the output must be numbers, got {text!r:.120}") if text else row


def _numbers(row: dict[str, str], whole: bool) -> _Row:
    """Convert words to numbers; other words stay text, which is an error only for outputs."""
    if not whole:
        return FailedError(f"a line must have one number per name of the header, got {row!r:.120}")
    return {name: _number(word) for name, word in row.items()}


def _number(word: str) -> float | str:
    """Convert a word to a number, also with a Fortran exponent such as 1.5D-3."""
    with suppress(ValueError):
        return float(word)
    with suppress(ValueError):
        return float(re.sub(r"(?<=[\d.])[dD](?=[+-]?\d+$)", "e", word.strip()))
    return word


def _end(text: str, length: int = 200) -> str:
    if not text.strip():
        return "the output is empty"
    return (
        f"the output ends with {text[-length:]!r}"
        if len(text) > length
        else f"the output is {text!r}"
    )
