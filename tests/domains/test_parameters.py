from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bo_invert.domains.parameters import Choice, Float, Int, Parameter, parameter_from_json
from bo_invert.errors import InvalidInputError

finite = st.floats(-1e6, 1e6)


@st.composite
def floats(draw: Any) -> Float:
    if draw(st.booleans()):
        low = draw(st.floats(1e-6, 1e3))
        return Float(low, low * draw(st.floats(1.5, 1e6)), log=True)
    low = draw(finite)
    return Float(low, low + draw(st.floats(1e-2, 1e6)))


@st.composite
def ints(draw: Any) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    return Int(low, low + draw(st.integers(1, 5000)), log=log)


@st.composite
def choices(draw: Any) -> Choice:
    values = draw(
        st.lists(
            st.sampled_from("abcdefgh") | st.integers(2, 99), min_size=2, max_size=6, unique=True
        )
    )
    return Choice(*values, ordered=draw(st.booleans()))


anything = floats() | ints() | choices()


@st.composite
def placed(draw: Any) -> tuple[Parameter, np.ndarray]:
    """A parameter and coordinates, some of them outside the unit cube."""
    parameter = draw(anything)
    u = draw(st.lists(st.floats(-0.5, 1.5), min_size=parameter.width, max_size=parameter.width))
    return parameter, np.array([u])


@pytest.mark.slow
@given(placed())
def test_a_projected_point_is_the_one_that_is_evaluated(case: tuple[Parameter, np.ndarray]) -> None:
    parameter, u = case
    nearest = parameter.project(u)
    assert nearest.shape == u.shape
    assert ((nearest >= 0) & (nearest <= 1)).all()
    assert np.array_equal(parameter.project(nearest), nearest)
    assert parameter.decode(nearest) == parameter.decode(u)


@given(placed())
def test_encode_is_the_way_back(case: tuple[Parameter, np.ndarray]) -> None:
    parameter, u = case
    (value,) = parameter.decode(u)
    if isinstance(parameter, Choice):
        assert value in parameter.values
    else:
        assert parameter.low <= value <= parameter.high
    (again,) = parameter.decode(parameter.encode([value]))
    assert (
        again == pytest.approx(value, rel=1e-9, abs=1e-9)
        if isinstance(parameter, Float)
        else again == value
    )


@given(floats())
def test_the_ends_of_the_unit_interval_are_the_bounds(parameter: Float) -> None:
    low, high = parameter.decode(np.array([[0.0], [1.0]]))
    assert low == pytest.approx(parameter.low)
    assert high == pytest.approx(parameter.high)
    assert parameter.encode([parameter.low, parameter.high])[:, 0] == pytest.approx(
        [0.0, 1.0], abs=1e-9
    )


@given(ints())
def test_every_whole_number_owns_a_cell(parameter: Int) -> None:
    values = list(range(parameter.low, min(parameter.high, parameter.low + 50) + 1))
    u = parameter.encode(values)
    assert parameter.decode(u) == values
    assert (np.diff(u[:, 0]) > 0).all()


def test_whole_numbers_and_ordered_choices_share_the_interval_evenly() -> None:
    u = (np.arange(1200)[:, None] + 0.5) / 1200
    for parameter in (Int(3, 8), Choice(*"abcdef", ordered=True)):
        counts = [parameter.decode(u).count(value) for value in dict.fromkeys(parameter.decode(u))]
        assert counts == [200] * 6


def test_a_log_scale_is_even_in_the_logarithm() -> None:
    assert Float(1e-4, 1e4, log=True).decode(np.array([[0.25], [0.5]])) == pytest.approx(
        [1e-2, 1.0]
    )
    assert Int(1, 10_000, log=True).decode(np.array([[0.5]]))[0] < 120


def test_widths() -> None:
    assert Choice("a", "b").width == 1
    assert Choice("a", "b", "c").width == 3
    assert Choice("a", "b", "c", ordered=True).width == 1
    assert Choice(["a", "b", "c"]) == Choice("a", "b", "c")


def test_unordered_choices_take_the_largest_coordinate() -> None:
    parameter = Choice("a", "b", "c")
    assert parameter.decode(np.array([[0.1, 0.7, 0.3], [0.9, 0.2, 0.4]])) == ["b", "a"]
    assert parameter.project(np.array([[0.1, 0.7, 0.3]])).tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(1.0, 1.0), "below"),
        (lambda: Float(2.0, 1.0), "below"),
        (lambda: Float(0.0, math.inf), "finite"),
        (lambda: Float(math.nan, 1.0), "finite"),
        (lambda: Float(-1.7e308, 1.7e308), "too wide"),
        (lambda: Float(0.0, 1.0, log=True), "positive"),
        (lambda: Int(4, 4), "below"),
        (lambda: Int(0, 8, log=True), "positive"),
        (lambda: Int(0.5, 3), "whole"),  # type: ignore[arg-type]
        (lambda: Choice("a"), "two different"),
        (lambda: Choice("a", "a"), "two different"),
        (lambda: Choice([1], [2]), "str, bool, int or float"),
        (lambda: Choice("a", None), "str, bool, int or float"),
    ],
)
def test_invalid_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float(0.0, 1.0), 1.5),
        (Float(0.0, 1.0), math.nan),
        (Float(0.0, 1.0), "much"),
        (Float(0.0, 1.0), None),
        (Int(0, 9), 2.5),
        (Int(0, 9), 10),
        (Int(0, 9), math.nan),
        (Int(0, 9), math.inf),
        (Int(0, 9), "many"),
        (Choice("a", "b"), "c"),
        (Choice("a", "b", "c"), None),
    ],
)
def test_values_outside_are_refused(parameter: Parameter, value: Any) -> None:
    with pytest.raises(InvalidInputError):
        parameter.encode([value])


def test_described_as_json() -> None:
    assert Float(0.1, 1.0, log=True).to_json() == {
        "type": "float",
        "low": 0.1,
        "high": 1.0,
        "log": True,
    }
    assert Int(1, 5).to_json() == {"type": "int", "low": 1, "high": 5, "log": False}
    assert Choice("a", 2, ordered=True).to_json() == {
        "type": "choice",
        "values": ["a", 2],
        "ordered": True,
    }


@given(anything)
def test_read_back_from_json(parameter: Parameter) -> None:
    assert parameter_from_json(json.loads(json.dumps(parameter.to_json()))) == parameter
