"""Raw outputs of an oracle or a user as arrays: by name if they have names, else by position."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from bo_invert.errors import EvaluationError, FailedError, InvalidInputError, require
from bo_invert.types import Array
from bo_invert.user_data import number, vector
from bo_invert.user_tables import record, require_names, row_labels, table, without_names

#: Prefix of failure reasons that concern names, shapes and types instead of one design.
MISMATCH = "mismatch with the problem: "
#: Prefixes of such reasons in logs; version 0.1 wrote the second one.
MISMATCHES = (MISMATCH, "it does not fit the problem: ")

RANGE_HINT = (
    "Two numbers in a Target are values of two outputs. Write a range of one output with its name: "
    "Target({'y': (low, high)})"
)
"""Remedy for a range that was read as two outputs."""

Tensor = Any
"""Array of numpy or tensor of torch."""


def answer_rows(answers: object, count: int, outputs: Sequence[str]) -> list[Any]:
    """Return answers to ``count`` designs as a list of rows.

    Args:
        answers: rows; a table; a column with the name of the only output; or one record.
        count: number of designs.
        outputs: names of the outputs.

    Raises:
        InvalidInputError: the column has another name, or names are ambiguous.
    """
    named = record(answers)
    if isinstance(answers, EvaluationError) or (
        count == 1 and named is not None and set(outputs) <= set(named)
    ):
        return [answers]
    listed = named is None and isinstance(answers, (list, tuple))
    rows: list[Any] | None = None if listed else table(answers if named is None else named)
    labels = row_labels(answers)
    if rows is None and named is not None and (count == 1 or labels is None):
        rows = [answers]
    if rows is None:
        name = getattr(answers, "name", None)  # of a column of pandas, polars or xarray
        if name and isinstance(name, str) and len(outputs) == 1:
            require_names("outputs", outputs, [name])
        rows = list(cast("Iterable[Any]", without_names(answers)))
    return rows


def in_order_of_labels(rows: list[Any], answers: object) -> list[Any]:
    """Return rows in the order of their labels, if the labels are positions 0, 1, ... in pandas."""
    labels = row_labels(answers)
    if labels is None or set(labels) != set(range(len(rows))):
        return rows
    return [rows[labels.index(i)] for i in range(len(rows))]


def output_positions(
    where: str, own: Sequence[str] | None, outputs: Sequence[str]
) -> list[int] | None:
    """Return the positions of ``outputs`` among an oracle's ``own``; None if nothing changes.

    Raises:
        InvalidInputError: the oracle has other outputs.
    """
    if own is None or tuple(own) == tuple(outputs):
        return None
    missing = [name for name in outputs if name not in own]
    require(
        not missing,
        f"{where}: the oracle has outputs {list(own)}, got {list(outputs)}: missing {missing}. Use "
        "the names of the oracle",
    )
    return [list(own).index(name) for name in outputs]


def in_order(outputs: Tensor, positions: Sequence[int] | None) -> Tensor:
    """Return the columns of outputs ``(n, m)`` at these positions; None for all in their order."""
    return outputs if positions is None else outputs[:, list(positions)]


def as_outputs(raw: object, outputs: Sequence[str], own: Sequence[str] | None = None) -> Array:
    """Convert the raw outputs of one design to a finite array ``(m,)`` in the order of ``outputs``.

    Args:
        raw: raw outputs: a record by name, a vector by position.
        outputs: names of the m outputs.
        own: names of the positions of a vector; default: ``outputs``.

    Raises:
        FailedError: a name is missing, the shape is not ``(m,)``, or a value is missing, not
            finite, complex, or has a unit.
        EvaluationError: ``raw`` itself.
    """
    y = shaped_outputs(raw, outputs, own)
    if not all(np.isfinite(y).tolist()):
        raise FailedError(f"an output is not finite: {dict(zip(outputs, y.tolist(), strict=True))}")
    return y


def shaped_outputs(raw: object, outputs: Sequence[str], own: Sequence[str] | None = None) -> Array:
    """Convert raw outputs as ``as_outputs``, but allow NaN and infinities."""
    if isinstance(raw, EvaluationError):
        raise raw
    require(
        raw is not None,
        f"{MISMATCH}outputs must be numbers, got None; is a return missing?",
        FailedError,
    )
    try:
        named = record(raw)
        positions = None if named is not None else output_positions("outputs", own, outputs)
    except InvalidInputError as error:
        raise FailedError(f"{MISMATCH}{error}") from None
    try:
        if named is not None:
            return np.array([number(value) for value in _selected(named, outputs)])
        y = vector(raw)
    except TypeError as error:
        raise FailedError(
            f"{MISMATCH}outputs must be a number, a vector or a dict of numbers, got "
            f"{raw!r:.80}, which {error}"
        ) from None
    width = len(outputs if positions is None or own is None else own)
    if y.shape == (1, width):  # one row, as ``predict`` returns
        y = y[0]
    if y.shape != (width,):
        hint = ""
        if y.ndim == 1 and len(y) > width:
            names = ["a", "b", "c"][: len(y)]
            listed = ", ".join(map(repr, names)) + (", ..." if len(y) > len(names) else "")
            hint = f". Name all {len(y)} in Problem(outputs=[{listed}]). "
            hint += _naming(names, len(outputs))
        elif y.size == 1 and tuple(outputs) == ("y0", "y1"):  # names of ``Target((low, high))``
            hint = f". {RANGE_HINT}"
        raise FailedError(
            f"{MISMATCH}outputs must have shape ({width},) for {list(own or outputs)}, "
            f"got {y.shape}{hint}"
        )
    return y if positions is None else y[positions]


def _selected(named: Mapping[str, Any], outputs: Sequence[str]) -> list[Any]:
    """Return the values of the outputs in a record.

    Raises:
        FailedError: a name is missing.
    """
    missing = [name for name in outputs if name not in named]
    if missing:
        given = list(named)
        near = difflib.get_close_matches(missing[0], given, n=1)
        hint = f"Rename {near[0]!r} to {missing[0]!r}" if near else _naming(given, len(outputs))
        raise FailedError(
            f"{MISMATCH}outputs {missing} are missing, got {sorted(given)}. {hint}. "
            "Objective and constraints name the outputs."
        )
    return [named[name] for name in outputs]


def _naming(given: Sequence[str], count: int) -> str:
    """Return a hint how an objective names its outputs."""
    if not given:
        return "The oracle must return them"
    if count == 1:
        name = repr(given[0])
        examples = f"bi.Minimize({name}), bi.Maximize({name}) or bi.Target({{{name}: number}})"
        return f"Name the output, as in {examples}"
    shown = ", ".join(f"{name!r}: number" for name in given[:2])
    return f"Name the outputs, as in bi.Target({{{shown}}})"
