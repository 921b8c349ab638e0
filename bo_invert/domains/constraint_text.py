"""Constraints from texts and arrays: ``"a + 2 b <= 1"``, ``{"A": ..., "b": ...}``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.domains.input_constraints import Count, InputConstraint, Linear, constraint_from_json
from bo_invert.errors import InvalidInputError
from bo_invert.user_data import real_array

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_SIGNS = {"≤": "<=", "≥": ">=", "−": "-", "·": "*", "×": "*"}
_COUNT = re.compile(r"^\s*(at most|at least|exactly)\s+(\d+)\s+of\s+(.+?)\s*$", re.IGNORECASE)
_ARRAYS = {"A", "b", "A_eq", "b_eq", "A_ub", "b_ub", "lower", "upper"}

Form = dict[str, float]
"""Linear form: coefficients by name; the key ``""`` holds the constant."""


def read_constraints(given: object, names: Sequence[str]) -> tuple[InputConstraint, ...]:
    """Return the constraints of a box from their texts, arrays, dicts and objects.

    Args:
        given: one constraint or a sequence of them. A text is a comparison of linear expressions
            (``"a + b <= 1"``, ``"0.2 <= a <= b"``) or ``"at most 3 of a, b, c, d"``. A dict is
            ``{"A": (m, p), "b": (m,)}`` for ``A x <= b``, ``{"A_eq": ..., "b_eq": ...}``,
            ``{"A": ..., "lower": ..., "upper": ...}``, or ``to_json`` of a constraint.
        names: names of the parameters, in the order of the columns of ``A``.

    Raises:
        InvalidInputError: a constraint is none of these, or names an unknown parameter.
    """
    one = isinstance(given, (str, Mapping, InputConstraint)) or hasattr(given, "A")
    listed: list[Any] = [given] if one else list(given)  # type: ignore[call-overload]
    found: list[InputConstraint] = []
    for number, item in enumerate(listed):
        where = f"Box: constraint {number}" + (f" {item!r}" if isinstance(item, str) else "")
        try:
            found += _read(item, names)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from None
    for item in found:
        unknown = [name for name in item.names if name not in names]
        if unknown:
            raise InvalidInputError(
                f"Box: constraint '{item}' names {unknown[0]!r}, but the parameters are "
                f"{list(names)}"
            )
    return tuple(found)


def _read(item: object, names: Sequence[str]) -> list[InputConstraint]:
    if isinstance(item, InputConstraint):
        return [item]
    if isinstance(item, str):
        return parse(item, names)
    if isinstance(item, Mapping) and "type" in item:
        known = constraint_from_json(item)
        if known is None:
            raise InvalidInputError(
                f"function {item.get('name')!r} is code; write Feasible(fn) in Python"
            )
        return [known]
    if isinstance(item, Mapping) and item and set(item) <= _ARRAYS:
        return list(_from_arrays(item, names))
    if hasattr(item, "A") and hasattr(item, "lb") and hasattr(item, "ub"):  # scipy.optimize
        return list(_from_arrays({"A": item.A, "lower": item.lb, "upper": item.ub}, names))
    raise InvalidInputError(
        "must be a text such as 'a + b <= 1', arrays {'A': ..., 'b': ...}, AtMost(...) or "
        f"Feasible(fn), got {item!r:.200}"
    )


def _from_arrays(given: Mapping[str, Any], names: Sequence[str]) -> Iterator[Linear]:
    """Yield one constraint for each row of the arrays."""
    count = 0
    for matrix, lower, upper in (
        ("A", "lower", "upper"), ("A", "", "b"), ("A_ub", "", "b_ub"), ("A_eq", "b_eq", "b_eq")
    ):  # fmt: skip
        if matrix not in given or (upper not in given and lower not in given):
            continue
        rows = np.atleast_2d(real_array(matrix, given[matrix]))
        if rows.shape[1] != len(names):
            raise InvalidInputError(
                f"{matrix} must have {len(names)} columns, one for each parameter, got shape "
                f"{rows.shape}"
            )
        low = _bounds(given.get(lower), -math.inf, lower, len(rows))
        high = _bounds(given.get(upper), math.inf, upper, len(rows))
        for row, least, most in zip(rows.tolist(), low, high, strict=True):
            count += 1
            terms = {name: c for name, c in zip(names, row, strict=True) if c != 0.0}
            yield Linear(terms, least, most)
    if not count:
        raise InvalidInputError("arrays must be {'A', 'b'}, {'A_eq', 'b_eq'} or {'A', 'lower'}")


def _bounds(given: object, missing: float, name: str, count: int) -> list[float]:
    if given is None:
        return [missing] * count
    values = np.asarray(given, dtype=float).reshape(-1)
    if len(values) not in (1, count) or np.isnan(values).any():
        raise InvalidInputError(f"{name} must have {count} numbers, got {given!r:.200}")
    return [*np.broadcast_to(values, count).tolist()]


def parse(text: str, names: Sequence[str]) -> list[InputConstraint]:
    """Parse one text; a chain of comparisons yields one constraint for each sign."""
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    counted = _COUNT.match(text)
    if counted is not None:
        return [_count(counted, names)]
    parser = _Parser(text, names)
    sides, signs = parser.comparisons()
    found: list[InputConstraint] = []
    for left, sign, right in zip(sides, signs, sides[1:], strict=False):
        difference = {n: left.get(n, 0.0) - right.get(n, 0.0) for n in {**left, **right}}
        bound = -difference.pop("", 0.0) + 0.0  # no negative zero
        terms = {name: difference[name] for name in names if difference.get(name)}
        if not terms:
            raise InvalidInputError("a comparison must depend on a parameter")
        low = -math.inf if sign in ("<=", "<") else bound
        high = math.inf if sign in (">=", ">") else bound
        if all(c < 0 for c in terms.values()):  # -a <= -1 is a >= 1
            terms, low, high = {name: -c for name, c in terms.items()}, 0.0 - high, 0.0 - low
        found.append(Linear(terms, low, high))
    return found


def _count(found: re.Match[str], names: Sequence[str]) -> Count:
    """Return the constraint of a text ``at most 3 of a, b, c``."""
    number, listed = int(found[2]), found[3].strip()
    if listed.startswith(("(", "[")):
        listed = listed[1:-1]
    of = tuple(part.strip().strip("`'\"") for part in listed.split(","))
    unknown = [name for name in of if name not in names]
    if unknown:
        raise InvalidInputError(f"no parameter is named {unknown[0]!r}; names are {list(names)}")
    kind = found[1].lower()
    if not number:
        remedy = (
            "Leave out the constraint" if kind == "at least"
            else f"Write bi.Fixed(0) for {', '.join(of)}"
        )  # fmt: skip
        raise InvalidInputError(f"the number of parameters must be >= 1, got 0. {remedy}")
    most = len(of) if kind == "at least" else number
    return Count(of, most, 0 if kind == "at most" else number)


class _Parser:
    """Recursive-descent parser of comparisons of linear expressions."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.names = names
        self.tokens = list(self._tokens(text))
        self.at = 0

    def _tokens(self, text: str) -> Iterator[tuple[str, str]]:
        # Longer names first, so that "flow rate" is not read as "flow".
        known = sorted(self.names, key=len, reverse=True)
        quoted = "|".join(f"`{re.escape(name)}`" for name in known)
        plain = "|".join(
            (r"(?<!\w)" if name[:1].isalnum() else "")
            + re.escape(name)
            + (r"(?!\w)" if name[-1:].isalnum() else "")
            for name in known
        )
        pattern = re.compile(
            rf"\s*(?:(?P<name>{quoted}|{plain})|(?P<number>{_NUMBER})"
            r"|(?P<sign><=|>=|==|=|<|>)|(?P<mark>[-+*/(),])|(?P<word>\w+))"
        )
        position = 0
        text = text.rstrip()
        while position < len(text):
            found = pattern.match(text, position)
            if found is None:
                raise InvalidInputError(
                    f"cannot read {text[position:].strip()!r}. Write a comparison of sums, such "
                    "as 'a + 2 b <= 1'; products and powers of parameters need Feasible(fn)"
                )
            kind = found.lastgroup or ""
            yield kind, found[kind].strip("`") if kind == "name" else found[kind]
            position = found.end()

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _take(self, *marks: str) -> str | None:
        """Return the next mark if it is one of these, and advance."""
        kind, text = self._peek()
        if kind == "mark" and text in marks:
            self.at += 1
            return text
        return None

    def comparisons(self) -> tuple[list[Form], list[str]]:
        """Return the sides of a chain of comparisons, and its signs."""
        sides, signs = [self._sum()], []
        while self._peek()[0] == "sign":
            signs.append(self._peek()[1])
            self.at += 1
            sides.append(self._sum())
        if self._peek()[0] != "end":
            raise InvalidInputError(f"unexpected {self._peek()[1]!r}")
        if not signs:
            raise InvalidInputError("a comparison with <=, >= or == is missing")
        return sides, signs

    def _sum(self) -> Form:
        total = self._product()
        while sign := self._take("+", "-"):
            factor = 1.0 if sign == "+" else -1.0
            for name, c in self._product().items():
                total[name] = total.get(name, 0.0) + factor * c
        return total

    def _product(self) -> Form:
        value = self._factor()
        while True:
            mark = self._take("*", "/")
            kind, text = self._peek()
            if mark is None and kind not in ("name", "number") and text != "(":
                return value
            value = _multiplied(value, self._factor(), mark == "/")

    def _factor(self) -> Form:
        if sign := self._take("+", "-"):
            return {name: c if sign == "+" else -c for name, c in self._factor().items()}
        if self._take("("):
            inner = self._sum()
            if not self._take(")"):
                raise InvalidInputError("a closing bracket is missing")
            return inner
        kind, text = self._peek()
        self.at += 1
        if kind == "name":
            return {text: 1.0}
        if kind == "number":
            return {"": float(text)}
        if kind == "word" and text == "sum" and self._take("("):
            total = self._sum()
            while self._take(","):
                for name, c in self._sum().items():
                    total[name] = total.get(name, 0.0) + c
            if not self._take(")"):
                raise InvalidInputError("a closing bracket is missing")
            return total
        if kind == "word":
            raise InvalidInputError(f"no parameter is named {text!r}; names are {list(self.names)}")
        raise InvalidInputError(f"a number or a parameter must follow, got {text or 'the end'!r}")


def _multiplied(left: Form, right: Form, divide: bool) -> Form:
    constant = set(right) <= {""}
    if divide:
        if not constant or not right.get("", 0.0):
            raise InvalidInputError("only division by a number other than 0 is linear")
        return {name: c / right[""] for name, c in left.items()}
    if not constant:
        left, right = right, left
    if not set(right) <= {""}:
        raise InvalidInputError(
            "a product of parameters is not linear; write Feasible(fn) with a function"
        )
    return {name: c * right.get("", 0.0) for name, c in left.items()}
