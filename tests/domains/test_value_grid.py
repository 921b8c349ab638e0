"""Parameters with a step or a number of decimals: exact values, levels and errors."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bo_invert.domains.parameters import Float, parameter_from_json
from bo_invert.errors import InvalidInputError


@st.composite
def stepped(draw: Any) -> tuple[Float, Decimal]:
    """A parameter with a step, and the step as a decimal number."""
    digits = draw(st.integers(0, 5))
    unit = Decimal(1).scaleb(-digits)
    step = draw(st.integers(1, 40)) * unit
    low = draw(st.integers(-1000, 1000)) * unit
    high = low + draw(st.integers(1, 5000)) * step
    log = low > 0 and draw(st.booleans())
    return Float(float(low), float(high), log=log, step=float(step)), step


@given(stepped(), st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=20))
def test_values_are_exact_decimal_multiples(case: tuple[Float, Decimal], u: list[float]) -> None:
    parameter, step = case
    low = Decimal(repr(float(parameter.low)))
    for value in parameter.decode(np.array(u)[:, None]):
        position = round((Decimal(repr(value)) - low) / step)
        assert value == float(low + position * step)
        assert parameter.low <= value <= parameter.high


@given(stepped(), st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=20))
def test_points_and_values_agree(case: tuple[Float, Decimal], u: list[float]) -> None:
    parameter, points = case[0], np.array(u)[:, None]
    values = parameter.decode(points)
    projected = parameter.project(points)
    assert parameter.decode(projected) == values
    assert np.array_equal(parameter.project(projected), projected)
    assert np.array_equal(parameter.encode(values), projected)
    assert [parameter.nearest(value) for value in values] == values
    assert parameter_from_json(parameter.to_json()) == parameter


def test_values_print_as_multiples() -> None:
    values = Float(0, 1, step=0.1).decode(np.linspace(0, 1, 101)[:, None])
    assert list(dict.fromkeys(map(repr, values))) == [
        "0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0",
    ]  # fmt: skip
    assert Float(0, 1000, digits=-2).decode(np.array([[0.52]])) == [500.0]
    assert Float(0.01, 10, digits=2, log=True).decode(np.array([[0.4]])) == [0.1]


def test_each_value_owns_an_equal_cell() -> None:
    parameter = Float(-1, 1, step=0.5)
    values = parameter.decode((np.arange(1000)[:, None] + 0.5) / 1000)
    assert [values.count(value) for value in (-1.0, -0.5, 0.0, 0.5, 1.0)] == [200] * 5
    assert parameter.levels == 5
    assert not parameter.continuous
    assert Float(-1, 1).continuous


def test_the_grid_is_a_sequence() -> None:
    grid = Float(0, 1, step=0.25).grid
    assert grid is not None
    assert list(grid) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (grid[-1], grid[1:3], grid.index(0.75)) == (1.0, [0.25, 0.5], 3)
    with pytest.raises(IndexError):
        grid[5]


def test_a_third_is_a_step() -> None:
    assert Float(0, 1, step=1 / 3).levels == 4
    assert list(Float(0, 1, step=1 / 3).grid or ())[-1] == 1.0


def test_values_of_the_user_are_read_up_to_rounding() -> None:
    parameter = Float(0, 1, step=0.1)
    given = [0.1 + 0.2, np.float32(0.7), 1, "0.5"]
    assert [parameter.read(value) for value in given[:3]] == [0.3, 0.7, 1.0]
    with pytest.raises(InvalidInputError, match="not a number"):
        parameter.read(given[3])
    with pytest.raises(InvalidInputError, match=r"0\.123 .*step is 0\.1; .* 0\.1 and 0\.2"):
        parameter.read(0.123)
    with pytest.raises(InvalidInputError, match="in"):
        parameter.read(1.1)


def test_json_of_a_parameter_without_a_step_is_unchanged() -> None:
    assert Float(0, 1).to_json() == {"type": "float", "low": 0, "high": 1, "log": False}
    assert repr(Float(0, 1)) == "Float(low=0, high=1, log=False)"


@pytest.mark.parametrize(
    ("low", "high", "options", "message"),
    [
        (0, 1, {"step": 0.3}, r"3\.33333 steps\. Write high=0\.9 or high=1\.2"),
        (0, 0.5, {"step": 1}, r"Write high=1\.0"),
        (0.005, 1, {"digits": 2}, r"at most 2 decimals.* Write 0\.0 and 1\.0"),
        (0, 1, {"digits": 15}, "at most 1e"),
        (0, 1, {"digits": 1.5}, "whole number"),
        (0, 1, {"step": 0.25, "digits": 1}, "Omit digits"),
        (0, 1, {"step": 0}, "positive"),
        (0, 1, {"step": "a"}, "finite number"),
        (0, 1, {"step": float("nan")}, "finite"),
    ],
)
def test_steps_that_do_not_fit_are_errors(
    low: float, high: float, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Float(low, high, **options)
