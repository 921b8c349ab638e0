"""Tests of the statements of input constraints: texts, arrays, objects, JSON, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import LinearConstraint

import bo_invert as bi
from bo_invert.domains.constraint_text import read_constraints
from bo_invert.domains.input_constraints import Count, Linear, constraint_from_json

NAMES = ["a", "b", "c", "flow rate", "2-propanol", "x-1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b <= 1", [({"a": 1.0, "b": 1.0}, -np.inf, 1.0)]),
        ("a + b ≤ 1", [({"a": 1.0, "b": 1.0}, -np.inf, 1.0)]),
        ("a + b + c == 1", [({"a": 1.0, "b": 1.0, "c": 1.0}, 1.0, 1.0)]),
        ("sum(a, b, c) = 1", [({"a": 1.0, "b": 1.0, "c": 1.0}, 1.0, 1.0)]),
        ("a <= b", [({"a": 1.0, "b": -1.0}, -np.inf, 0.0)]),
        ("a <= b <= c", [({"a": 1, "b": -1}, -np.inf, 0), ({"b": 1, "c": -1}, -np.inf, 0)]),
        ("0.2 <= a", [({"a": 1.0}, 0.2, np.inf)]),
        ("2(a - b)/4 + 1 >= 3*c", [({"a": 0.5, "b": -0.5, "c": -3.0}, -1.0, np.inf)]),
        ("flow rate + 3 2-propanol >= 1e-3", [({"flow rate": 1, "2-propanol": 3}, 1e-3, np.inf)]),
        ("`x-1` - a < 2", [({"x-1": 1.0, "a": -1.0}, -np.inf, 2.0)]),
        ("a + a >= b - b + 1", [({"a": 2.0}, 1.0, np.inf)]),
    ],
)
def test_texts(text: str, expected: list[tuple[dict[str, float], float, float]]) -> None:
    found = read_constraints(text, NAMES)
    for one, (terms, low, high) in zip(found, expected, strict=True):
        assert isinstance(one, Linear)
        assert dict(one.coefficients) == pytest.approx(terms)
        assert (one.lower, one.upper) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("text", "most", "least"),
    [
        ("at most 2 of a, b, c", 2, 0),
        ("At least 1 of (a, b, c)", 3, 1),
        ("exactly 2 of a, b, `x-1`", 2, 2),
    ],
)
def test_counts(text: str, most: int, least: int) -> None:
    (one,) = read_constraints(text, NAMES)
    assert isinstance(one, Count)
    assert (one.most, one.least, len(one.of)) == (most, least, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a*b <= 1", "product of parameters is not linear"),
        ("a**2 <= 1", "must follow"),
        ("1/a <= 1", "not linear|division"),
        ("a + d <= 1", "no parameter is named 'd'"),
        ("a + b", "comparison with <=, >= or == is missing"),
        ("1 <= 2", "must depend on a parameter"),
        ("a - a <= 2", "must depend on a parameter"),
        ("a <= b <=", "the end"),
        ("(a + b <= 1", "closing bracket"),
        ("a; b", "cannot read"),
        ("at most 2 of a, q", "no parameter is named 'q'"),
    ],
)
def test_wrong_texts(text: str, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        read_constraints(text, NAMES)


@pytest.mark.parametrize(
    "given",
    [
        {"A": [[1, 2, 0]], "b": [1]},
        {"A_ub": [1, 2, 0], "b_ub": 1.0},
        LinearConstraint([[1, 2, 0]], -np.inf, 1.0),
        [{"type": "linear", "coefficients": {"a": 1, "b": 2}, "upper": 1}],
        "a + 2 b <= 1",
    ],
)
def test_arrays_are_constraints(given: object) -> None:
    (one,) = read_constraints(given, NAMES[:3])
    assert one.to_json()["coefficients"] == {"a": 1.0, "b": 2.0}
    assert one.to_json()["upper"] == 1.0
    assert constraint_from_json(one.to_json()) == one


def test_equalities_and_ranges_of_arrays() -> None:
    both = {"A": np.eye(2), "lower": [0.1, 0.2], "upper": 0.5, "A_eq": [[1, 1]], "b_eq": [0.6]}
    found = read_constraints(both, ["a", "b"])
    assert [str(one) for one in found] == ["0.1 <= a <= 0.5", "0.2 <= b <= 0.5", "a + b == 0.6"]


@pytest.mark.parametrize(
    "given", [{"A": [[1, 2]], "b": [1]}, {"A": [[1, 2, 3]]}, {"B": 1}, 3.0, [None]]
)
def test_wrong_arrays(given: Any) -> None:
    with pytest.raises((bi.InvalidInputError, TypeError)):
        read_constraints(given, NAMES[:3])


@pytest.mark.parametrize(
    "make",
    [
        lambda: bi.AtMost(3, ["a", "b"]),
        lambda: bi.AtMost(1, "ab"),
        lambda: bi.AtMost(1, ["a", "a"]),
        lambda: bi.AtMost(1, ["a", "b"], smallest=-1.0),
        lambda: bi.Exactly(0.5, ["a", "b"]),
        lambda: bi.Feasible("a + b <= 1"),
        lambda: bi.Fixed([1, 2]),
        lambda: bi.Fixed(float("nan")),
    ],
)
def test_wrong_objects(make: Any) -> None:
    with pytest.raises(bi.InvalidInputError):
        make()


def test_texts_of_constraints_can_be_read() -> None:
    for text in ("a + 2 b <= 1", "a <= b", "a + b == 1", "2 a + b <= 0.5 c"):
        (one,) = read_constraints(text, NAMES)
        assert read_constraints(str(one), NAMES) == (one,)


def branch(*constraints: str) -> bi.Box:
    return bi.Box(
        {
            "s": bi.Choice("a", "b", "c"),
            "group": bi.When("s", "a", {"x": bi.Float(0, 1)}),
            "other": bi.When("s", ["a", "b"], {"z": bi.Float(0, 1)}),
            "y": bi.Float(0, 1),
        },
        constraints=list(constraints),
    )


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        (["x + y >= 5"], r"no design with s = 'a' .*'x' never exists.*x \+ y >= 5"),
        (["x + y >= 1.5", "y <= 0.2"], r"s = 'a'.*y <= 0.2.*x \+ y >= 1.5"),
        (["x >= 0.8", "x + z <= 0.9", "z >= 0.2"], r"s = 'a'.*never exists"),
        (["z - y >= 2"], r"s in \['a', 'b'\].*'z' never exists"),
    ],
)  # fmt: skip
def test_branches_without_designs_are_refused(constraints: list[str], message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        branch(*constraints)


def test_branches_with_designs_are_accepted() -> None:
    space = branch("x + y >= 1.2", "z - y >= -0.5")
    rng = np.random.default_rng(0)
    rows = space.domain.values(space.domain.sample(rng, 200))
    assert {row["s"] for row in rows} == {"a", "b", "c"}
    branch("x + y >= 1.9", "y <= 0.95", "z <= 0.5", "z >= 0.1")


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (bi.AtMost(2, of=["a", "b", "c"], smallest=2), "leaves only 0 for parameter 'a'"),
        ("at most 0 of a, b", "must be >= 1, got 0"),
        ("exactly 0 of a, b", "must be >= 1, got 0"),
        ({"type": "count", "of": ["a", "b"], "most": 0}, "most must be a whole number >= 1, got 0"),
        ({"type": "count", "of": ["a", "b"], "most": 1.5}, "most must be a whole number"),
        ({"type": "count", "of": ["a", "b"], "most": True}, "most must be a whole number"),
        ({"type": "count", "of": ["a", "b"], "most": 3}, "between 0 and 2"),
        ({"type": "count", "of": ["a", "b"], "most": 1, "least": 2}, "between 0 and 2"),
        ({"type": "count", "of": ["a", "b"], "most": 2, "least": -1}, "least must be a whole"),
        ({"type": "count", "of": "ab", "most": 1}, "of must list names"),
        ({"A": [[1, np.nan, 0]], "b": [1]}, "coefficients must be finite"),
        ({"A": [[1, np.inf, 0]], "b": [1]}, "coefficients must be finite"),
        ({"A_eq": [[1, -np.inf, 0]], "b_eq": [1]}, "coefficients must be finite"),
        ({"A": [[1, 1, 0]], "b": [np.nan]}, "b must have 1 numbers"),
    ],
)
def test_constraints_without_meaning_are_refused(constraint: object, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Box({name: bi.Float(0, 1) for name in "abc"}, constraints=[constraint])
