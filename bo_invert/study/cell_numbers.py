"""Numbers in texts of tables: decimal points and commas, groups of thousands.

A sign before three digits, as in ``1,234``, is a decimal sign or separates groups. It is read as a
decimal sign if other numbers of the column, then of the file, have this decimal sign, and as a
separator if they contain unambiguous groups, such as ``1,234.5``. Without any other number with a
sign, the delimiter decides for a decimal sign only: files with semicolons have decimal commas,
others decimal points. A text that all this does not decide is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bo_invert.errors import InvalidInputError, require

SEPARATORS = (".", ",", " ", "'", "")
"""Separators of groups; the empty one stands for numbers without groups."""
_SPACES = str.maketrans({"−": "-", "\u00a0": "", "\u202f": "", "\u2009": ""})
_PLAIN = re.compile(r"[+-]?\d+(?:[eE][+-]?\d+)?$")
_DECIMAL = {
    sign: re.compile(rf"[+-]?(?:\d*{re.escape(sign)}\d+|\d+{re.escape(sign)})(?:[eE][+-]?\d+)?$")
    for sign in ".,"
}
_OTHER = {".": ",", ",": "."}
_GROUPS = {
    sign: re.compile(
        rf"[+-]?[1-9]\d{{0,2}}(?:{re.escape(sign)}\d{{3}})+(?:{re.escape(_OTHER[sign])}\d*)?$"
    )
    for sign in ".,"
}


@dataclass(frozen=True)
class Signs:
    """Signs that the numbers of some texts show without doubt.

    Args:
        decimal: decimal signs.
        groups: separators of groups.
    """

    decimal: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()

    @staticmethod
    def of(texts: Iterable[str]) -> Signs:
        """Return the signs of texts."""
        decimal, groups = set[str](), set[str]()
        for text in texts:
            for sign in ".,":
                single, grouped = bool(_DECIMAL[sign].match(text)), bool(_GROUPS[sign].match(text))
                if single and not grouped:
                    decimal.add(sign)
                if grouped and not single:
                    groups.add(sign)
                    decimal.add(_OTHER[sign])
        return Signs(frozenset(decimal), frozenset(groups))

    def __or__(self, other: Signs) -> Signs:
        return Signs(self.decimal | other.decimal, self.groups | other.groups)

    def decide(self, sign: str) -> str | None:
        """Return ``"decimal"`` or ``"groups"``, the role of a sign before three digits, or None."""
        if sign in self.groups:
            return None if sign in self.decimal else "groups"
        return "decimal" if self.decimal == {sign} else None


@dataclass(frozen=True)
class NumberReader:
    """Reader of numbers in the texts of one table.

    Args:
        decimal: decimal sign that the user gives; None to decide by the numbers.
        thousands: separator of groups that the user gives; empty for none, None to decide.
        delimiter: delimiter of the file; empty for other tables.
        columns: signs of each column by name.
        whole: names of the columns that decide for the others.

    Raises:
        InvalidInputError: a sign of the user is none, or both are equal.
    """

    decimal: str | None = None
    thousands: str | None = None
    delimiter: str = ""
    columns: Mapping[str, Signs] = field(default_factory=dict)
    whole: Sequence[str] = ()

    def __post_init__(self) -> None:
        require(
            self.decimal in (None, ".", ","),
            f"decimal must be '.' or ',', got {self.decimal!r:.80}",
        )
        require(
            self.thousands is None or self.thousands in SEPARATORS,
            f"thousands must be one of {SEPARATORS}, got {self.thousands!r:.80}",
        )
        require(
            self.decimal is None or self.decimal != self.thousands,
            f"decimal and thousands must differ, got {self.decimal!r} for both",
        )

    @cached_property
    def _file(self) -> Signs:
        signs = Signs()
        for name in self.whole:
            signs |= self.columns.get(name, Signs())
        return signs

    @cached_property
    def _decimal(self) -> str | None:
        """Decimal sign that follows from the options of the user."""
        return self.decimal or _OTHER.get(self.thousands or "")

    def number(self, cell: object, column: str = "") -> float | None:
        """Return a number in text; None for another cell.

        Args:
            cell: the cell.
            column: name of its column.

        Raises:
            InvalidInputError: the text is a number in two ways, or contradicts an option.
        """
        text = plain_text(cell) if isinstance(cell, str) else ""
        if self.thousands in (" ", "'"):
            text = re.sub(rf"(?<=\d){self.thousands}(?=\d{{3}}(?!\d))", "", text)
        if _PLAIN.match(text):
            return float(text)
        if text.lower().lstrip("+-") in ("inf", "infinity", "∞"):
            return -math.inf if text.startswith("-") else math.inf
        readings = {
            sign: value
            for sign in ".,"
            if (value := _with_decimal(text, sign, self.thousands)) is not None
        }
        if self._decimal is not None:
            if self._decimal in readings:
                return readings[self._decimal]
            require(not readings, f"{text!r} is no number with decimal={self._decimal!r}")
            return None
        if len(set(readings.values())) < 2:
            return next(iter(readings.values()), None)
        return readings[self._decided(text, column, readings)]

    def _decided(self, text: str, column: str, readings: Mapping[str, float]) -> str:
        """Return the decimal sign of a text with two readings."""
        sign = "." if "." in text else ","
        own = self.columns.get(column, Signs())
        role = own.decide(sign) or (self._file | own).decide(sign)
        if role is None and not (self._file | own).decimal:
            usual = "," if self.delimiter == ";" else "."
            role = "decimal" if sign == usual else None
        if role is None:
            other = _OTHER[sign]
            raise InvalidInputError(
                f"{text!r} can be read as {readings[sign]:.12g} or as {readings[other]:.12g}, and "
                f"the other numbers do not decide. Give decimal={sign!r} for "
                f"{readings[sign]:.12g}, or decimal={other!r} for {readings[other]:.12g}"
            )
        return sign if role == "decimal" else _OTHER[sign]


AS_WRITTEN = NumberReader()
"""Reader without options of the user."""


def plain_text(cell: str) -> str:
    """Return the text of a number without blanks, with a plain minus sign."""
    return cell.strip().translate(_SPACES)


def _with_decimal(text: str, decimal: str, thousands: str | None) -> float | None:
    """Return the number in a text with this decimal sign; None if it is none.

    Args:
        text: text without blanks.
        decimal: decimal sign, the other one separates groups.
        thousands: separator of groups; None for the other sign of the two.
    """
    separator = _OTHER[decimal]
    if thousands in (None, separator) and _GROUPS[separator].match(text):
        return float(text.replace(separator, "").replace(decimal, "."))
    return float(text.replace(decimal, ".")) if _DECIMAL[decimal].match(text) else None
