"""Parsers of a program's output: JSON, CSV, or a pattern with named groups."""

from __future__ import annotations

import csv
import io
import re
from contextlib import suppress
from typing import Any

from bo_invert.errors import FailedError, require
from bo_invert.oracles.io.json_codec import JsonPath, extract, quoted, read_json, row_of, rows_of
from bo_invert.types import JSON

OutputFormat = str | re.Pattern[str]
"""Format of the output: ``"json"``, ``"csv"``, or a pattern with named groups."""


def read_rows(text: str, form: OutputFormat, path: JsonPath, count: int | None) -> list[Any]:
    """Parse one row of outputs, or an error, per design.

    Args:
        text: output of the program.
        form: format of the output.
        path: path of the outputs in JSON.
        count: number of designs of a batch; None for a single design.

    Raises:
        FailedError: the text has another format; the message quotes its end.
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
    require(
        len(lines) >= 2,
        f"the output must be CSV with a header and lines of numbers, got {quoted(text)}",
        FailedError,
    )
    names, body = [name.strip() for name in lines[0]], lines[1:]
    wanted = 1 if count is None else count
    require(
        len(body) == wanted,
        f"the output must have one line of numbers per design ({wanted}), got {len(body)}",
        FailedError,
    )
    return [
        {name: _number(word) for name, word in zip(names, row, strict=True)}
        if len(row) == len(names)
        else FailedError(f"a line must have one number per name of the header, got {row!r:.120}")
        for row in body
    ]


def _matched(text: str, pattern: re.Pattern[str], count: int | None) -> list[Any]:
    rows = [
        {name: word for name, word in match.groupdict().items() if word is not None}
        for match in pattern.finditer(text)
    ]
    require(rows, f"no match of {pattern.pattern!r:.120} in {quoted(text, end=True)}", FailedError)
    if count is None:  # iterations print the same line again; the last one counts
        rows, count = [{name: word for row in rows for name, word in row.items()}], 1
    require(
        len(rows) == count,
        f"the output must have {count} matches of {pattern.pattern!r:.120}, got {len(rows)}",
        FailedError,
    )
    return [_matched_numbers(row) for row in rows]


def _matched_numbers(row: dict[str, str]) -> dict[str, float | str] | FailedError:
    """Convert groups, or return an error; Fortran prints stars for overflow."""
    numbers = {name: _number(word) for name, word in row.items()}
    text = {name: value for name, value in numbers.items() if isinstance(value, str)}
    return FailedError(f"the output must be numbers, got {text!r:.120}") if text else numbers


def _number(word: str) -> float | str:
    """Convert a word to a number, also with a Fortran exponent such as 1.5D-3.

    Other words stay text, which is an error only for outputs.
    """
    with suppress(ValueError):
        return float(re.sub(r"(?<=[\d.])[dD](?=[+-]?\d+$)", "e", word.strip()))
    return word
