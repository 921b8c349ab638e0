"""Designs put into text, and nothing else put into it."""

from __future__ import annotations

import numpy as np
import pytest

from bo_invert.errors import InvalidInputError
from bo_invert.oracles.io.templates import fill, fill_json, names_in, values_of

MIXED = values_of(
    {
        "temperature": np.float64(300.5),
        "steps": np.int64(7),
        "kind": "a b",
        "fast": True,
        "grid": [[1, 2]],
    }
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("T={temperature} n={steps}", "T=300.5 n=7"),
        ("{temperature:.3e}|{steps:04d}|{kind:>5}", "3.005e+02|0007|  a b"),
        ("{kind} {kind:json} {fast}", 'a b "a b" true'),
        ("{grid[0][1]} {grid[-1]} {x[steps]}", "2 [1, 2] 7"),
        ('{"t": {temperature}, "n": {"m": {steps}}}', '{"t": 300.5, "n": {"m": 7}}'),  # JSON
        (
            "solver\n{\n    tol {temperature};\n}\n{}",
            "solver\n{\n    tol 300.5;\n}\n{}",
        ),  # OpenFOAM, C
        (r"\frac{1}{2} ${ x } {{temperature}}", r"\frac{1}{2} ${ x } {temperature}"),
    ],
)
def test_values_are_shown_and_other_braces_stay(text: str, shown: str) -> None:
    assert fill(text, MIXED) == shown


def test_numbers_read_back_to_the_same_numbers() -> None:
    for number in (0.1, 1e-310, 1.0 / 3.0, -2.5e300):
        assert float(fill("{x[0]}", values_of(np.array([number])))) == number


@pytest.mark.parametrize(
    "text",
    [
        "{x.__class__}",
        "{x[0].__class__.__init__.__globals__}",
        "{x!r}",
        "{0}",
        "{}",
        "{t.real}",
        "{x[0]!s:>5}",
    ],
)
def test_attributes_and_conversions_are_no_placeholders(text: str) -> None:
    assert fill(text, {"x": [1.5], "t": 2.0}) == text
    assert names_in(text) == []


def test_a_format_has_no_fields_of_its_own() -> None:
    assert fill("{x:{t}}", {"x": 1.5, "t": 2.0}) == "{x:2.0}"


def test_what_a_design_says_is_not_filled_again() -> None:
    assert fill("{x} {{x}}", {"x": "{secret} {{x}}", "secret": "!"}) == "{secret} {{x}} {x}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "{pressure}",
            r"one of \['fast', 'grid', 'kind', 'steps', 'temperature', 'x'\], got 'pressure'",
        ),
        ("{grid[1]}", "from 0 to 0, got '1'"),
        ("{steps[0]}", "no items"),
        ("{kind[0]}", "no items"),
        ("{x[pressure]}", "got 'pressure'"),
        ("{kind:.3f}", "format must suit"),
        ("{grid:.3f}", "format must suit"),
    ],
)
def test_missing_values_are_reported(text: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        fill(text, MIXED)


def test_json_keeps_the_type_of_a_placeholder_alone() -> None:
    body = {
        "instances": ["{x}"],
        "note": "at {steps}",
        "{kind}": 1,
        "n": "{steps}",
        "kept": [None, 2],
    }
    filled = fill_json(body, {**MIXED, "x": np.arange(2.0)})
    assert filled == {
        "instances": [[0.0, 1.0]],
        "note": "at 7",
        "a b": 1,
        "n": 7,
        "kept": [None, 2],
    }
