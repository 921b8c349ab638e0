"""Tests of boxes with input constraints: membership, projection, draws, empty and thin sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import isotonic_regression, minimize

import bo_invert as bi
from bo_invert.domains.constrained_box import fix_values, read_fixed, stored_domain
from bo_invert.domains.dual_projection import _nearest
from bo_invert.domains.polytope import Polytope
from bo_invert.types import Array

EIGHT = [f"x{i}" for i in range(8)]


def reals(count: int, high: float = 1.0) -> dict[str, Any]:
    return {f"x{i}": bi.Float(0, high) for i in range(count)}


def disc(values: dict[str, Array]) -> Array:
    return (values["x0"] - 0.5) ** 2 + (values["x1"] - 0.5) ** 2 < 0.01


def plane(values: dict[str, Array]) -> Array:
    return (values["s"] != "w") | (values["a"] > 0.3)


def plane_of_two(values: dict[str, Array]) -> Array:
    return values["x0"] > values["x1"]


SETS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "simplex": (reals(5), ["x0 + x1 + x2 + x3 + x4 == 1"]),
    "sum": (reals(5), ["x0 + x1 + x2 + x3 + x4 <= 1"]),
    "percent": (reals(3, 100.0), ["x0 + x1 + x2 == 100", "x0 >= 2 x1"]),
    "order": (reals(6), ["x0 <= x1 <= x2 <= x3 <= x4 <= x5"]),
    "count": (reals(8), [bi.AtMost(3, EIGHT)]),
    "count of a mixture": (
        reals(8), [bi.AtMost(3, EIGHT, smallest=0.05), "sum(" + ", ".join(EIGHT) + ") == 1"]
    ),
    "exactly": (reals(4), ["exactly 2 of x0, x1, x2, x3", "x0 + x1 + x2 + x3 <= 0.5"]),
    "slab": (reals(5), ["1.999 <= x0 + x1 + x2 + x3 + x4 <= 2"]),
    "mixed": (
        {
            "a": bi.Float(0, 1), "b": bi.Float(0, 10), "n": bi.Int(0, 8), "m": bi.Int(1, 5),
            "s": bi.Choice("w", "e", "t"), "o": bi.Choice(1, 2, 4, ordered=True),
        },
        ["a + b + n == 5", "m + n <= 6", "o + m >= 4"],
    ),
    "whole": ({f"x{i}": bi.Int(0, 20) for i in range(5)}, ["sum(x0, x1, x2, x3, x4) == 20"]),
    "steps": ({f"x{i}": bi.Float(0, 1, step=0.05) for i in range(4)}, ["x0 + x1 + x2 + x3 == 1"]),
    "log": (
        {"a": bi.Float(1e-4, 1, log=True), "b": bi.Float(0, 1), "c": bi.Float(0.01, 1, log=True)},
        ["a + b + c == 1", "a <= c"],
    ),
    "function": (reals(2), [bi.Feasible(disc)]),
    "function of a mixture": (
        {"a": bi.Float(0, 1), "b": bi.Float(0, 1), "s": bi.Choice("w", "e", "t")},
        ["a + b == 1", bi.Feasible(plane)],
    ),
    "fixed": ({"a": bi.Fixed(0.3), "b": bi.Float(0, 1), "c": bi.Float(0, 1)}, ["a + b + c == 1"]),
}  # fmt: skip


@pytest.fixture(scope="module", params=SETS)
def box(request: pytest.FixtureRequest) -> bi.Box:
    parameters, constraints = SETS[request.param]
    return bi.Box(parameters, constraints=constraints)


def violation(box: bi.Box, points: Array) -> float:
    """Return the largest violation of linear constraints, relative to the range of the left side,
    from the decoded designs."""
    rows: Any = box.decode(points)
    worst = 0.0
    for one in box.domain.constraints:
        if one.to_json()["type"] != "linear":
            continue
        for row in rows:
            left = sum(c * row[name] for name, c in one.to_json()["coefficients"].items())
            low, high = one.to_json()["lower"], one.to_json()["upper"]
            worst = max(worst, 0.0 if high is None else left - high)
            worst = max(worst, 0.0 if low is None else low - left)
    return worst


def test_projections_satisfy_the_constraints(box: bi.Box) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(0.5, 0.6, (200, box.domain.dim))
    found = box.domain.project(points)
    assert box.domain.satisfied(found).all()
    assert violation(box, found) < 1e-9
    np.testing.assert_array_equal(box.domain.project(found), found)
    # A batch does not matter.
    np.testing.assert_allclose(box.domain.project(points[:3]), found[:3], atol=1e-9)
    # Designs of the points are designs of the box, and their points satisfy the constraints.
    again = box.encode(box.decode(found))
    assert box.domain.satisfied(again).all()


def test_draws_satisfy_the_constraints(box: bi.Box) -> None:
    domain = box.domain
    draws = domain.sample(np.random.default_rng(2), 300)
    assert draws.shape == (300, domain.dim)
    assert domain.satisfied(draws).all()
    assert violation(box, draws) < 1e-9
    np.testing.assert_array_equal(draws, domain.sample(np.random.default_rng(2), 300))
    assert domain.satisfied(domain.uniform(np.random.default_rng(3), 100)).all()
    # Draws fill the set: half of them have no near neighbour within a hundredth of their spread.
    assert len(np.unique(draws.round(9), axis=0)) > 0.5 * min(300, domain.size)


def test_space_filling_sequences_continue(box: bi.Box) -> None:
    def sequence(n: int, skip: int) -> Array:
        return box.domain.sobol(np.random.default_rng(4), n, skip)

    whole = sequence(90, 0)
    assert box.domain.satisfied(whole).all()
    np.testing.assert_array_equal(whole[30:70], sequence(40, 30))
    np.testing.assert_array_equal(whole[:1], sequence(1, 0))


def test_draws_of_a_simplex_are_uniform() -> None:
    domain = bi.Box(reals(5), constraints="x0 + x1 + x2 + x3 + x4 == 1").domain
    draws = domain.sample(np.random.default_rng(0), 4000)
    # The Dirichlet distribution with parameters 1: mean 1/5, standard deviation 0.1633.
    np.testing.assert_allclose(draws.mean(axis=0), 0.2, atol=0.02)
    np.testing.assert_allclose(draws.std(axis=0), 0.1633, atol=0.02)
    assert (draws.max(axis=0) > 0.8).all()


def test_draws_of_an_order_are_order_statistics() -> None:
    domain = bi.Box(reals(4), constraints="x0 <= x1 <= x2 <= x3").domain
    draws = domain.sample(np.random.default_rng(0), 4000)
    np.testing.assert_allclose(draws.mean(axis=0), [0.2, 0.4, 0.6, 0.8], atol=0.02)


def test_counts_use_all_subsets() -> None:
    domain = bi.Box(reals(4), constraints=bi.AtMost(2, EIGHT[:4])).domain
    draws = domain.sample(np.random.default_rng(0), 500)
    assert {tuple(row) for row in (draws > 0).tolist()} >= {
        tuple(i in (a, b) for i in range(4)) for a in range(4) for b in range(a)
    }


@pytest.mark.parametrize("seed", range(4))
def test_projections_are_the_nearest_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(5, 6))
    inside = rng.random(6)
    b = a @ inside + np.array([0.0, 0.0, 0.1, 0.2, 0.05])
    size = np.linalg.norm(a, axis=1)
    equal = np.array([True, True, False, False, False])
    most = (b / size)[None]
    least = np.where(equal, most, -np.inf)
    one = Polytope(a / size[:, None], least, most, np.zeros((1, 6)), np.ones((1, 6)))
    points = rng.normal(0.5, 0.7, (30, 6))
    found, done = one.project(points)
    assert done.all()
    assert one.excess(found).max() < 1e-11
    exact = np.array([_nearest(one, point) for point in points])
    np.testing.assert_allclose(found, exact, atol=1e-8)
    limits = [
        {"type": "eq", "fun": lambda x: a[:2] @ x - b[:2]},
        {"type": "ineq", "fun": lambda x: b[2:] - a[2:] @ x},
    ]
    other = minimize(
        lambda x: ((x - points[0]) ** 2).sum(), inside, bounds=[(0, 1)] * 6, constraints=limits,
        method="SLSQP", tol=1e-12,
    )  # fmt: skip
    np.testing.assert_allclose(found[0], other.x, atol=1e-5)


def order_chain(q: int) -> Polytope:
    """Return ``x0 <= x1 <= ...`` in the unit cube."""
    a = (np.eye(q) - np.eye(q, k=1))[:-1] / np.sqrt(2.0)
    bounds = np.full((1, q - 1), -np.inf), np.zeros((1, q - 1))
    return Polytope(a, *bounds, np.zeros((1, q)), np.ones((1, q)))


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_points_far_from_an_order_are_projected(size: float) -> None:
    # The isotonic regression is the projection onto the order, and its clipped values are those
    # onto the order in the cube (Barlow & Brunk 1972).
    points = np.random.default_rng(0).normal(0.5, size, (40, 6))
    found, done = order_chain(6).project(points)
    assert done.all()
    expected = np.array([isotonic_regression(point).x.clip(0.0, 1.0) for point in points])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_ties_at_bounds_stay_as_they_are() -> None:
    chain = order_chain(5)
    points = np.array([[0, 0, 0, 0.4, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=float)
    found, done = chain.project(points)
    assert done.all()
    assert (found == points).all()
    # A tie at a bound next to a violated order needs no other method.
    found, done = chain.project(points - [0, 0, 0, 0, 0.7])
    assert done.all()
    assert chain.excess(found).max() < 1e-11


def test_mixed_points_take_the_nearest_configuration() -> None:
    parameters = {"a": bi.Float(0, 1), "n": bi.Int(0, 6), "o": bi.Choice(1, 2, 4, ordered=True)}
    domain = bi.Box(parameters, constraints=["a + n == 5", "o + n >= 6"]).domain
    points = domain.project(np.random.default_rng(0).random((200, domain.dim)))
    assert domain.satisfied(points).all()
    designs = {(d["n"], d["o"]) for d in bi.Box(parameters).decode(points)}
    assert designs == {(4, 2), (4, 4), (5, 1), (5, 2), (5, 4)}


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ("x0 + x1 >= 3", r"'x0 \+ x1 >= 3' has no solution"),
        (["x0 + x1 >= 1.5", "x2 <= 0.9", "x1 <= 0.2"], "contradict one another"),
        (["x0 <= x1", "x1 <= x2", "x2 <= x0"], "too thin"),
        (["x0 + x1 <= 1", "x0 + x1 >= 0.99999999"], "Write an equality"),
        (["x0 + x1 + x2 == 1", "x0 == 0.2", "x1 == 0.3"], "single point"),
        ([bi.AtMost(1, EIGHT[:3]), "x0 + x1 >= 1.5"], "at most 1 of"),
        ([bi.Feasible(lambda v: v["x0"] > 2, name="never")], "'never' accepts none"),
        ([bi.Feasible(lambda v: 1)], "must return .* booleans"),
        ([bi.Feasible(lambda v: v["y"] > 2)], "raised KeyError"),
    ],
)
def test_empty_and_thin_sets_are_refused(constraints: object, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Box(reals(3), constraints=constraints)


def test_two_opposite_inequalities_are_an_equality() -> None:
    domain = bi.Box(reals(3), constraints=["x0 + x1 <= 1", "2 x0 + 2 x1 >= 2"]).domain
    points = domain.sample(np.random.default_rng(0), 50)
    np.testing.assert_allclose(points[:, 0] + points[:, 1], 1.0, atol=1e-9)


def test_other_wrong_boxes() -> None:
    with pytest.raises(bi.InvalidInputError, match="needs numbers"):
        bi.Box({"s": bi.Choice("a", "b"), **reals(1)}, constraints="s + x0 <= 1")
    with pytest.raises(bi.InvalidInputError, match="range contains 0"):
        bi.Box({"a": bi.Float(1, 2), **reals(1)}, constraints=bi.AtMost(1, ["a", "x0"]))
    with pytest.raises(bi.InvalidInputError, match="no solution"):
        bi.Box({"n": bi.Int(0, 5), **reals(1)}, constraints="3 n == 7")
    with pytest.raises(bi.InvalidInputError, match="must not be Fixed"):
        bi.Box({"a": bi.Fixed(1.0)})
    with pytest.raises(bi.InvalidInputError, match="exists only if"):
        bi.Box(
            {"s": bi.Choice("u", "v"), "w": bi.When("s", "u", {"p": bi.Float(0, 1)}), **reals(1)},
            constraints="p + x0 == 1",
        )


def test_boxes_of_vectors() -> None:
    box = bi.Box(
        [0, 0, -1], [1, 1, 2],
        constraints=[{"A": [[1, 1, 0]], "b": [1]}, bi.Feasible(lambda x: x[:, 2] > x[:, 0])],
    )  # fmt: skip
    designs = np.array(box.decode(box.domain.sample(np.random.default_rng(0), 100)))
    assert (designs[:, 0] + designs[:, 1] <= 1 + 1e-12).all()
    assert (designs[:, 2] > designs[:, 0]).all()
    assert box.differentiable


def test_functions_of_one_design() -> None:
    one = bi.Feasible(lambda d: d["x0"] > d["x1"], vectorized=False)
    box = bi.Box(reals(2), constraints=one)
    draws: Any = box.decode(box.domain.sample(np.random.default_rng(0), 20))
    assert all(d["x0"] > d["x1"] for d in draws)


def test_json_identifies_the_constraints() -> None:
    plain, other = bi.Box(reals(3)).domain, bi.Box(reals(3), constraints="x0 <= x1").domain
    assert "constraints" not in plain.to_json()
    assert other.to_json()["constraints"]
    read = stored_domain({"space": {"domain": other.to_json()}})
    assert read is not None
    assert read.to_json() == other.to_json()
    first, second = (
        bi.Box(reals(2), constraints=bi.Feasible(fn)).domain.to_json()
        for fn in (disc, plane_of_two)
    )
    assert first != second


def test_fixed_values_hold_in_every_point() -> None:
    domain = bi.Box(SETS["mixed"][0], constraints=SETS["mixed"][1]).domain
    restricted = fix_values(domain, read_fixed(domain, {"s": "e", "n": 3}))
    points = np.concatenate(
        [
            restricted.sample(np.random.default_rng(0), 50),
            restricted.sobol(np.random.default_rng(0), 20),
            restricted.project(np.random.default_rng(0).random((50, domain.dim))),
        ]
    )
    assert all(row["s"] == "e" and row["n"] == 3 for row in domain.values(points))
    assert domain.satisfied(points).all()
    assert restricted.to_json() == domain.to_json()
    with pytest.raises(bi.InvalidInputError, match="no point can be proposed"):
        fix_values(domain, read_fixed(domain, {"n": 7}))
    for wrong in ({"z": 1}, {"s": "q"}, "s", {**dict.fromkeys(domain.axes, 1)}):
        with pytest.raises(bi.InvalidInputError, match="ask: fixed"):
            read_fixed(domain, wrong)


def test_fixed_parameters_are_part_of_designs() -> None:
    box = bi.Box({"a": bi.Fixed("water"), "b": bi.Float(0, 1), "n": bi.Fixed(3)})
    assert box.domain.dim == 1
    (design,) = box.decode(np.array([[0.25]]))
    assert design == {"a": "water", "b": 0.25, "n": 3}
    np.testing.assert_array_equal(box.encode([design]), [[0.25]])
    with pytest.raises(bi.InvalidInputError, match="fixed value"):
        box.encode([{**design, "a": "acid"}])


def test_designs_of_the_user_need_no_fixed_values() -> None:
    space = bi.Box({"x": bi.Float(0, 1), "solvent": bi.Fixed("water")})
    problem = bi.Problem(space, lambda p: p["x"] ** 2, bi.Minimize())
    study = bi.Study.create("fixed", problem, "random").run(5)
    assert study.enqueue({"x": 0.5}).design == {"x": 0.5, "solvent": "water"}
    study.add([{"x": 0.25}], [0.0625])
    np.testing.assert_array_equal(
        study.predict([{"x": 0.5}]).loss.mean,
        study.predict([{"x": 0.5, "solvent": "water"}]).loss.mean,
    )
    with pytest.raises(bi.InvalidInputError, match="'oil' is not the fixed value 'water'"):
        study.enqueue({"x": 0.5, "solvent": "oil"})


CONDITIONAL = {
    "kind": bi.Choice("x", "y", "z"),
    "d": bi.When("kind", ["x", "z"], bi.Float(0, 1)),
    "e": bi.Float(0, 1),
    "g": bi.When("kind", "y", bi.Float(0, 1)),
}


@pytest.mark.parametrize("strategy", ["random", "gp", "cmaes", "forest"])
def test_inequalities_hold_where_their_parameters_exist(strategy: str) -> None:
    space = bi.Box(CONDITIONAL, constraints=["d + e <= 0.7", "g <= e", "0.2 <= e"])
    problem = bi.Problem(space, lambda v: v["e"] - v.get("d", 0.4), bi.Minimize())
    study = bi.Study.create("c", problem, strategy, seed=0).run(14)
    designs = [trial.design for trial in study.trials]
    assert {design["kind"] for design in designs} >= {"x", "y"}
    for design in designs:
        assert design["e"] >= 0.2 - 1e-9
        assert "d" not in design or design["d"] + design["e"] <= 0.7 + 1e-9
        assert "g" not in design or design["g"] <= design["e"] + 1e-9
    with pytest.raises(bi.InvalidInputError, match=r"d \+ e <= 0\.7"):
        study.enqueue({"kind": "x", "d": 0.5, "e": 0.3})
    study.enqueue({"kind": "y", "g": 0.1, "e": 0.9})  # without d
    stored = stored_domain(study.journal.header["problem"])
    assert stored is not None
    assert not stored.satisfied(space.encode([{"kind": "x", "d": 0.5, "e": 0.3}]))[0]


@pytest.mark.parametrize("constraint", ["d + e == 1", "at most 1 of d, e", "d + kind <= 1"])
def test_other_constraints_on_conditional_parameters_are_explained(constraint: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=r"without When|has texts"):
        bi.Box(CONDITIONAL, constraints=constraint)


@pytest.mark.parametrize(
    "constraints",
    [["sum(x0, x1, x2, x3, x4) == 1"], ["sum(x0, x1, x2, x3, x4) == 1",
     bi.AtMost(3, EIGHT[:5])], ["sum(x0, x1, x2, x3, x4) <= 1", "x0 <= x1"]],
)  # fmt: skip
def test_values_within_rounding_of_a_bound_are_the_bound(constraints: list[Any]) -> None:
    domain = bi.Box(reals(5), constraints=constraints).domain
    rng = np.random.default_rng(0)
    projected = domain.project(rng.normal(0.2, 1.0, (500, 5)))
    near = domain.project(projected + rng.normal(0.0, 1e-13, projected.shape))
    for points in (projected, near, domain.sample(rng, 200), domain.sobol(rng, 200)):
        assert domain.satisfied(points).all()
        distance = np.minimum(points, 1.0 - points)
        assert not ((distance > 0.0) & (distance <= 1e-12)).any()
