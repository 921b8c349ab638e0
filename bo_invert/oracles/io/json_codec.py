"""Conversion of designs to JSON and CSV, and of JSON to outputs; numpy only."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bo_invert.errors import (
    FailedError,
    InfeasibleError,
    InvalidInputError,
    require,
)
from bo_invert.types import JSON, Design

JsonPath = str | Mapping[str, str] | None
"""Path in a JSON document, for example ``"result.scores[0]"``, or one path per output."""

_STEP = re.compile(r"\.?(?P<name>[^.\[\]]+)|\[(?P<index>-?\d+|\*)\]")


def plain(value: object) -> JSON:
    """Convert a design to JSON: arrays and tensors to nested lists, numpy scalars to Python's.

    Raises:
        InvalidInputError: the design holds an object without a JSON form.
        FailedError: the design holds a number that is not finite.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        raise FailedError(f"the design must be finite for JSON, got {value}")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise InvalidInputError(
        f"the design must consist of arrays, numbers, text, lists and dicts for JSON, "
        f"got {type(value).__name__}"
    )


def with_json(design: Design) -> tuple[Design, JSON]:
    """Return a design and its JSON form; raise the errors of ``plain``."""
    return design, plain(design)


def as_csv(rows: Sequence[JSON]) -> str:
    """Convert designs to CSV with the names of dict designs, or x0, x1, ..., as columns.

    Raises:
        InvalidInputError: a design is nested, or has other names than the first.
    """
    listed = [row if isinstance(row, (dict, list)) else [row] for row in rows]
    named = [
        row if isinstance(row, dict) else {f"x{i}": v for i, v in enumerate(row)} for row in listed
    ]
    require(
        not any(isinstance(value, (list, dict)) for row in named for value in row.values()),
        "designs must have one value per column for CSV, got nested designs. Use JSON.",
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(named[0]), lineterminator="\n")
    writer.writeheader()
    try:
        writer.writerows(named)
    except ValueError as error:
        raise InvalidInputError(f"designs of one batch must have the same names: {error}") from None
    return text.getvalue()


def checked_path(paths: JsonPath, where: str) -> JsonPath:
    """Return paths that are valid.

    Raises:
        InvalidInputError: a path is invalid; the message begins with ``where``.
    """
    for path in [] if paths is None else paths.values() if isinstance(paths, Mapping) else [paths]:
        require(
            isinstance(path, str) and not _STEP.sub("", path),
            f"{where}: answer must be a path such as 'result.scores[0]', got {path!r}",
        )
    return paths


def extract(document: JSON, paths: JsonPath) -> JSON:
    """Return the value at a path: names after dots, positions in brackets, ``[*]`` for every item.

    Raises:
        FailedError: the path does not exist.
    """
    if isinstance(paths, Mapping):
        return {name: extract(document, path) for name, path in paths.items()}
    steps = [] if paths is None else list(_STEP.finditer(paths))
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
    present = f"names {sorted(value)[:12]}" if isinstance(value, Mapping) else _kind(value)
    raise FailedError(f"the output has no {step!r} at {trail or 'its top'}, but {present}")


def rows_of(value: JSON, count: int) -> list[Any]:
    """Return a row of outputs, or an error, for each of ``count`` designs.

    Args:
        value: list of ``count`` rows, or object of columns of ``count`` numbers. A row is a
            number, a list or an object of outputs. ``null`` and an object with the only name
            ``"infeasible"`` or ``"failed"`` are errors.
        count: number of designs.

    Raises:
        FailedError: ``value`` has another type or length.
    """
    if (
        isinstance(value, Mapping)
        and value
        and all(isinstance(c, list) and len(c) == count for c in value.values())
    ):
        value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise FailedError(f"the output must be a list of {count} rows, got {_kind(value)}")
    require(
        len(value) == count, f"the output must have {count} rows, got {len(value)}", FailedError
    )
    return [row_of(row) for row in value]


def row_of(value: JSON) -> object:
    """Return the outputs of one design, or the error that stands for them; see ``rows_of``."""
    if value is None:
        return FailedError("the output must be numbers, got null")
    if isinstance(value, str):
        return FailedError(f"the output must be numbers, got text {value!r:.200}")
    if isinstance(value, Mapping) and len(value) == 1:
        for name, kind in (("infeasible", InfeasibleError), ("failed", FailedError)):
            if isinstance(value.get(name), str):
                return kind(value[name])
    return value


def read_json(text: str) -> JSON:
    """Parse a JSON document.

    Raises:
        FailedError: the text is not JSON; the message shows its beginning.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FailedError(f"the output must be JSON ({error!s:.80}), got {quoted(text)}") from None


def quoted(text: str, length: int = 200, end: bool = False) -> str:
    """Quote the beginning, or the end, of a text."""
    if len(text) > length:
        return f"... {text[-length:]!r}" if end else f"{text[:length]!r} ..."
    return repr(text) if text.strip() else "nothing"


def _kind(value: JSON) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", type(None): "null"}
    return f"{kinds.get(type(value), 'a number')} ({value!r:.80})"
