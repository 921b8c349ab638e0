"""Open quotes in CSV files: without a check, the rest of the file would become one cell."""

from __future__ import annotations

import re

from bo_invert.errors import InvalidInputError

_LINE = re.compile(r"\r\n|\r|\n")
_NUMBER = re.compile(r"\"?\s*[+\-−]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?\s*\"?$")


def check_quotes(text: str, delimiter: str, width: int, first: int) -> None:
    """Check that all quoted cells of a CSV file end.

    A quote is open if no other one ends the cell; if text follows the quote that ends it after
    several lines; or if one of these lines has the cells of a row, with numbers in the columns in
    which the first one has them. Other cells of several lines are valid.

    Args:
        text: Text of the file.
        delimiter: Its delimiter.
        width: Number of columns.
        first: Number of the first row.

    Raises:
        InvalidInputError: A quote is open; the message names the row.
    """
    if '"' not in text:
        return
    sign, blanks = re.escape(delimiter), "" if delimiter == "\t" else " *"
    cell = re.compile(
        rf'{blanks}(?:(?P<open>")(?P<quoted>[^"]*(?:""[^"]*)*)(?P<close>"?))?'
        rf"(?P<rest>[^{sign}\r\n]*)(?P<end>{sign}|\r\n|\r|\n|\Z)"
    )
    position, row = 0, first
    while position < len(text):
        found = cell.match(text, position)
        assert found is not None  # an unquoted cell may hold any text
        quoted = found["quoted"] or ""
        if found["open"] and (
            not found["close"]
            or (
                _LINE.search(quoted)
                and (found["rest"].strip() or _holds_rows(text, found, delimiter, width))
            )
        ):
            raise InvalidInputError(
                f"table: row {row} has a cell with an open quote: "
                f"'\"{_LINE.split(quoted)[0]:.40}'. End the cell with a quote, or write it without"
                ' quotes. A quote inside of a quoted cell is written twice, as in "5"" pipe"'
            )
        row += found["end"] not in ("", delimiter)
        position = found.end()


def _holds_rows(text: str, cell: re.Match[str], delimiter: str, width: int) -> bool:
    """Return True if a cell of several lines holds a line with the cells of a row."""
    before = _LINE.split(text[: cell.start("open")][-10_000:])[-1]
    after = _LINE.split(text[cell.end("close") : cell.end("close") + 10_000])[0]
    first, *others = _LINE.split(f"{before}{cell['quoted']}{after}")
    pattern = _numeric(first, delimiter, width)
    return bool(pattern) and any(pattern <= _numeric(one, delimiter, width) for one in others)


def _numeric(line: str, delimiter: str, width: int) -> set[int]:
    """Return the positions of numbers in a line with the cells of a row; none for other lines."""
    cells = line.split(delimiter)
    if len(cells) != width:
        return set()
    return {i for i, cell in enumerate(cells) if _NUMBER.match(cell.strip())}
