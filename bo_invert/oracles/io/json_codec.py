"""Designs as JSON, and answers out of JSON that others wrote. numpy only."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import EvaluationError, FailedError, InfeasibleError, InvalidInputError
from bo_invert.oracles.base import MISFIT
from bo_invert.types import JSON

Where = str | Mapping[str, str] | None
"""Where in a JSON document the answer is: a path such as ``"result.scores[0]"``, or one per output."""

_STEP = re.compile(r"\.?(?P<name>[^.\[\]]+)|\[(?P<index>-?\d+|\*)\]")


def plain(value: Any) -> JSON:
    """A design as JSON has it: arrays and tensors as nested lists, numpy's numbers as Python's.

    Raises:
        InvalidInputError: it holds an object JSON has no word for.
        FailedError: it holds a number that is not finite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise FailedError(f"the design holds {value}, which JSON has no word for")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise InvalidInputError(
        f"a design is or holds {type(value).__name__}, which JSON has no word for; let the space make arrays, "
        "numbers, text, or lists and dicts of these"
    )


def as_json(designs: Sequence[Any]) -> tuple[dict[int, JSON], list[Any]]:
    """Designs as JSON, by their positions; and a row for each design: a verdict for those that cannot be sent."""
    sendable: dict[int, JSON] = {}
    rows: list[Any] = [None] * len(designs)
    for i, design in enumerate(designs):
        try:
            sendable[i] = plain(design)
        except FailedError as verdict:
            rows[i] = verdict
        except InvalidInputError as error:
            rows[i] = FailedError(f"{MISFIT}{error}")
    return sendable, rows


def as_csv(rows: Sequence[JSON]) -> str:
    """Designs as CSV: the columns are the names of dict designs, otherwise x0, x1, ...

    Raises:
        InvalidInputError: a design has parts that are no single values, or other names than the first.
    """
    listed = [row if isinstance(row, (dict, list)) else [row] for row in rows]
    named = [
        row if isinstance(row, dict) else {f"x{i}": v for i, v in enumerate(row)} for row in listed
    ]
    if any(isinstance(value, (list, dict)) for row in named for value in row.values()):
        raise InvalidInputError(
            "CSV has one value per column, and a design has deeper parts; use JSON"
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(named[0]), lineterminator="\n")
    writer.writeheader()
    try:
        writer.writerows(named)
    except ValueError as error:
        raise InvalidInputError(f"designs of one batch have different names: {error}") from None
    return text.getvalue()


def checked_where(where: Where, what: str) -> Where:
    """The same, if every path can be read.

    Raises:
        InvalidInputError: one cannot; the message begins with ``what``.
    """
    for path in [] if where is None else where.values() if isinstance(where, Mapping) else [where]:
        if not isinstance(path, str) or _STEP.sub("", path):
            raise InvalidInputError(
                f"{what}: answer is a path such as 'result.scores[0]', or one per output, got {path!r}"
            )
    return where


def found(document: JSON, where: Where) -> JSON:
    """What stands at a path of a JSON document: names behind dots, positions in brackets, ``[*]`` for every item.

    Raises:
        FailedError: there is no such place; the message says where the path ends and what is there.
    """
    if isinstance(where, Mapping):
        return {name: found(document, path) for name, path in where.items()}
    steps = [] if where is None else list(_STEP.finditer(where))
    return _walked(
        document, [step["name"] if step["name"] else f"[{step['index']}]" for step in steps], ""
    )


def _walked(value: JSON, steps: Sequence[str], trail: str) -> JSON:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if step == "[*]" and isinstance(value, list):
        return [_walked(item, rest, f"{trail}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping) and step in value:
        return _walked(value[step], rest, f"{trail}.{step}".lstrip("."))
    index = step[1:-1]
    if (
        isinstance(value, list)
        and step[0] == "["
        and index != "*"
        and -len(value) <= int(index) < len(value)
    ):
        return _walked(value[int(index)], rest, trail + step)
    there = f"names {sorted(value)[:12]}" if isinstance(value, Mapping) else f"{_seen(value)}"
    raise FailedError(f"the answer has no {step!r} at {trail or 'its top'}; there is {there}")


def rows_of(value: JSON, count: int) -> list[Any]:
    """One row of outputs (or a verdict) for each of ``count`` designs.

    ``value`` is a list of as many rows, or an object of columns, each a list of as many numbers. A row is a number, a
    list, an object of outputs; ``null``, or an object with the only name ``"infeasible"`` or ``"failed"``, is a
    verdict.

    Raises:
        FailedError: it is neither, or of another length.
    """
    if (
        isinstance(value, Mapping)
        and value
        and all(isinstance(c, list) and len(c) == count for c in value.values())
    ):
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise FailedError(
            f"{count} designs were answered with {_seen(value)}, expected a list of {count} rows"
        )
    if len(value) != count:
        raise FailedError(f"{count} designs were answered with {len(value)} rows")
    return [row_of(row) for row in value]


def row_of(value: JSON) -> Any:
    """The outputs of one design as they are, or the verdict that JSON says instead; see ``rows_of``."""
    if value is None:
        return FailedError("the answer is null")
    if isinstance(value, str):
        return FailedError(f"the answer is text, not numbers: {value!r:.200}")
    if isinstance(value, Mapping) and len(value) == 1:
        kinds: dict[str, type[EvaluationError]] = {
            "infeasible": InfeasibleError,
            "failed": FailedError,
        }
        ((name, reason),) = value.items()
        if name in kinds and isinstance(reason, str):
            return kinds[name](reason)
    return value


def read_json(text: str) -> JSON:
    """A JSON document.

    Raises:
        FailedError: it is none; the message shows how it begins.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FailedError(f"this is not JSON ({error!s:.80}): {beginning(text)}") from None


def beginning(text: str, length: int = 200) -> str:
    """How a text begins, quoted, for a reason."""
    return (
        repr(text[:length]) + (" and so on" if len(text) > length else "")
        if text.strip()
        else "nothing"
    )


def _seen(value: JSON) -> str:
    kind = {dict: "an object", list: "a list", str: "text", type(None): "null"}.get(
        type(value), "a number"
    )
    return f"{kind} ({value!r:.80})"
