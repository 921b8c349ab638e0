"""Conditional parameters: designs, points, data, JSON, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bo_invert as bi
from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.conditions import design_count
from bo_invert.domains.constrained_box import stored_domain


def solver_box() -> bi.Box:
    """A box with two conditions on one choice, a nested one, and one on an integer."""
    return bi.Box(
        {
            "solver": bi.Choice("sgd", "adam", "exact"),
            "layers": bi.Int(1, 3),
            "options of sgd": bi.When(
                "solver",
                "sgd",
                {
                    "momentum": bi.Float(0, 1),
                    "nesterov": bi.Choice(True, False),
                    "damping": bi.When("nesterov", True, bi.Float(0, 1, step=0.1)),
                },
            ),
            "rate": bi.When("solver", ["sgd", "adam"], bi.Float(1e-4, 1, log=True)),
            "width": bi.When("layers", range(2, 4), (8, 64)),
        }
    )


def expected_names(design: dict[str, Any]) -> set[str]:
    names = {"solver", "layers"}
    if design["solver"] == "sgd":
        names |= {"momentum", "nesterov"} | ({"damping"} if design["nesterov"] else set())
    if design["solver"] != "exact":
        names |= {"rate"}
    return names | ({"width"} if design["layers"] > 1 else set())


def test_designs_hold_active_parameters_only() -> None:
    space = solver_box()
    points = space.sample(np.random.default_rng(0), 300)
    designs = list(space.decode(points))
    assert {frozenset(design) for design in designs} >= {
        frozenset({"solver", "layers"}),
        frozenset({"solver", "layers", "momentum", "nesterov", "damping", "rate", "width"}),
    }
    for design in designs:
        assert set(design) == expected_names(design)
    assert np.allclose(space.encode(designs), points, atol=1e-12)
    assert np.array_equal(space.domain.project(points), points)


def test_inactive_coordinates_do_not_matter() -> None:
    domain, rng = solver_box().domain, np.random.default_rng(1)
    points = domain.project(rng.random((200, domain.dim)))
    inactive = domain.inactive(points)
    assert inactive.any()
    other = np.where(inactive, rng.random(points.shape), points)
    assert np.array_equal(domain.project(other), points)
    assert domain.values(other) == domain.values(points)


def test_rows_of_users_may_leave_out_inactive_values() -> None:
    space = solver_box()
    rows = [
        {"solver": "exact", "layers": 1},
        {"solver": "adam", "layers": 2, "rate": 0.1, "width": 16},
        {"solver": "sgd", "layers": 1, "momentum": 0.5, "nesterov": False, "rate": 0.1},
    ]
    points = space.encode(rows)
    table = pd.DataFrame(rows)  # empty cells are NaN
    assert np.array_equal(space.encode(table), points)
    extra = [{**rows[0], "momentum": 0.9, "rate": None}]
    assert np.array_equal(space.encode(extra), points[:1])
    assert [set(design) for design in space.decode(points)] == [set(row) for row in rows]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"solver": "adam", "layers": 1}, r"'rate' is missing, .* solver in \['sgd', 'adam'\]"),
        ({"solver": "exact"}, "'layers' is missing"),
        ({"solver": "exact", "layers": 1, "speed": 2}, r"got \['speed'\]"),
        ({"solver": "none", "layers": 1}, "not one of"),
    ],
)
def test_missing_and_unknown_names_are_errors(row: dict[str, Any], message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        solver_box().encode([row])


def test_json_round_trip() -> None:
    domain = solver_box().domain
    problem = {"space": {"domain": domain.to_json()}}
    again = stored_domain(problem)
    assert again is not None
    assert again.to_json() == domain.to_json()
    assert dict(again.parameters) == dict(domain.parameters)
    plain = box_domain({"a": bi.Float(0, 1)}).to_json()
    assert plain["parameters"] == {"a": {"type": "float", "low": 0, "high": 1, "log": False}}


def test_number_of_designs() -> None:
    space = bi.Box(
        {
            "a": bi.Choice("x", "y", "z"),
            "b": bi.When("a", "x", {"k": bi.Int(1, 4), "c": bi.When("k", [1, 2], bi.Int(1, 5))}),
            "n": bi.Int(1, 2),
        }
    )
    # a = x: 2 values of k with 5 of c, 2 without; a = y, z: one design each.
    assert space.domain.size == 2 * (2 * 5 + 2 + 2)
    names = space.identify
    assert names is not None
    drawn = space.domain.uniform(np.random.default_rng(0), 3000)
    assert len(set(names(drawn))) == space.domain.size
    assert design_count({"a": bi.Int(1, 3), "b": bi.Choice("u", "v")}) == 6


def test_conditions_of_an_outer_group_hold_inside() -> None:
    space = bi.Box(
        {
            "a": bi.Choice("x", "y"),
            "b": bi.Choice("u", "v"),
            "group": bi.When("a", "x", {"c": bi.When("b", "u", bi.Float(0, 1))}),
        }
    )
    for design in space.decode(space.sample(np.random.default_rng(0), 50)):
        assert ("c" in design) == (design["a"] == "x" and design["b"] == "u")


def test_data_with_empty_cells() -> None:
    rng = np.random.default_rng(0)
    kind = np.where(rng.random(40) < 0.5, "x", "y")
    table = pd.DataFrame({"a": kind, "b": np.where(kind == "x", rng.random(40), np.nan)})
    space = bi.Box({"a": bi.Choice("x", "y"), "b": bi.When("a", "x", bi.Float(0, 1))}, data=table)
    drawn = space.sample(rng, 30)
    for design in space.decode(drawn):
        assert ("b" in design) == (design["a"] == "x")
    table.loc[np.flatnonzero(kind == "x")[0], "b"] = np.nan
    with pytest.raises(bi.InvalidInputError, match="'b' of data is empty in row"):
        bi.Box({"a": bi.Choice("x", "y"), "b": bi.When("a", "x", bi.Float(0, 1))}, data=table)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bi.When("a", [], {"b": bi.Float(0, 1)}), "at least one value"),
        (lambda: bi.When("a", "x", {}), "one parameter"),
        (lambda: bi.When("a", "x", 3), "Write When"),
        (lambda: bi.When(bi.Choice("a", "b"), "x", {"b": (0, 1)}), "name of another"),  # type: ignore[arg-type]
        (lambda: bi.Box({"b": bi.When("a", "x", (0, 1))}), "no parameter 'a'"),
        (
            lambda: bi.Box({"a": bi.Float(0, 1), "b": bi.When("a", 0.5, (0, 1))}),
            "must be a Choice, an Int or a Float with a step",
        ),
        (
            lambda: bi.Box({"a": bi.Choice("x", "y"), "b": bi.When("a", "z", (0, 1))}),
            "'z' is not one of",
        ),
        (
            lambda: bi.Box(
                {
                    "a": bi.When("b", 1, bi.Int(1, 2)),
                    "b": bi.When("a", 1, bi.Int(1, 2)),
                }
            ),
            "depends on itself",
        ),
        (
            lambda: bi.Box({"a": bi.Choice("x", "y"), "b": bi.When("a", "x", {"a": (0, 1)})}),
            "declared twice",
        ),
        (
            lambda: bi.Box({"a": bi.Choice("x", "y"), "b": bi.When("a", "x", {"c": "text"})}),
            "must be Float, Int, Choice",
        ),
    ],
)
def test_conditions_that_cannot_hold_are_errors(make: Any, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        make()


def test_fixed_values_of_an_ask_imply_those_that_decide_on_them() -> None:
    problem = bi.Problem(solver_box(), lambda p: float(p["layers"]), bi.Minimize())
    study = bi.Study.create("s", problem, "random", seed=0)
    for trial in study.ask(3, fixed={"damping": 0.5}):
        assert trial.design["solver"] == "sgd"
        assert trial.design["nesterov"] is True
        assert trial.design["damping"] == 0.5
    for trial in study.ask(3, fixed={"rate": 0.1, "solver": "adam"}):
        assert trial.design["solver"] == "adam"
        assert trial.design["rate"] == pytest.approx(0.1)
    for wrong in {"rate": 0.1}, {"momentum": 0.1, "solver": "adam"}, {"width": 9, "layers": 1}:
        with pytest.raises(bi.InvalidInputError, match=r"exists only if .* Fix"):
            study.ask(fixed=wrong)


def test_inactive_parameters_have_their_defaults_inside_constraints() -> None:
    box = bi.Box(
        {
            "a": bi.Float(0, 1), "b": bi.Float(0, 1), "s": bi.Choice("w", "d"),
            "s_d": bi.When("s", "d", {"dose": bi.Float(0, 1)}),
        },
        constraints=["a + b == 1", "dose <= a"],
    )  # fmt: skip
    domain, rng = box.domain, np.random.default_rng(0)
    raw = rng.random((50, domain.dim))
    drawn = [domain.sample(rng, 50), domain.sobol(rng, 50), domain.project(raw)]
    for points in drawn:
        assert domain.satisfied(points).all()
        assert 0 < domain.inactive(points).any(1).sum() < 50
        # A design that is written down and read again is the same point.
        assert np.array_equal(points, domain.encode(domain.values(points)))
