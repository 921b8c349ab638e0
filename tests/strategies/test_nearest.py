"""Tests of the least change of a design that reaches a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration
from bo_invert.spaces.base import Space
from bo_invert.types import Array

MIXED = {
    "a": bi.Float(0.0, 2.0), "n": bi.Int(0, 4), "kind": bi.Choice(["x", "y", "z"]),
    "b": bi.Float(1.0, 100.0, log=True),
}  # fmt: skip
START = {"a": 0.5, "n": 1, "kind": "x", "b": 10.0}


def output(design: dict[str, Any]) -> float:
    bonus = {"x": 0.0, "y": 0.3, "z": 1.1}[design["kind"]]
    return float(design["a"] + 0.2 * design["n"] + bonus + 0.3 * np.log10(design["b"]))


def problem(few: bool = False, **options: Any) -> bi.Problem:
    target = bi.Target(2.1, tolerance=0.05)
    return bi.Problem(bi.Box(MIXED), output, bi.Nearest(START, target, few=few, **options))


def exhaustive(goal: bi.Nearest) -> float:
    """Return the least loss of a million draws and of their mixtures with x0."""
    rng, change = np.random.default_rng(0), goal.change
    assert change is not None
    domain = change.domain
    points = domain.sample(rng, 200_000)
    for own in change.columns:
        back = rng.random(len(points)) < 0.5
        points[back, own] = change.origin[own]
    points = domain.project(points)
    y = np.array([output(design) for design in domain.values(points)])
    return float(change(points[np.abs(y - 2.1) <= 0.05]).min())


@pytest.mark.parametrize("few", [False, True])
def test_the_least_change_of_a_mixed_design_is_found(few: bool) -> None:
    study = bi.Study.create("s", problem(few), "auto", seed=1).run(60)
    goal = study.problem.objective
    assert isinstance(goal, bi.Nearest)
    assert abs(study.best.y[0] - 2.1) <= 0.05
    assert study.best.loss <= 1.05 * exhaustive(goal)
    assert study.best.loss == pytest.approx(float(goal.change(study.best.point)[0]))
    changed = {name: after for name, _, after in goal.table(study.best.point)}
    assert all(study.best.design[name] == value for name, value in changed.items())
    same = [name for name in START if name not in changed]
    assert all(study.best.design[name] == pytest.approx(START[name]) for name in same)
    if few:
        assert len(changed) == int(study.best.loss) == 1


def test_changes_are_measured_in_ranges_and_choices_count_once() -> None:
    goal = problem(weights={"n": 2.0, "b": 0.0}).objective
    assert isinstance(goal, bi.Nearest)
    assert goal.change is not None
    space = bi.Box(MIXED)
    other = {"a": 0.9, "n": 2, "kind": "z", "b": 100.0}
    points = space.encode([START, other, {**START, "kind": "y"}])
    expected = np.sqrt(0.2**2 + (2.0 * 0.25) ** 2 + 1.0)
    assert goal.change(points) == pytest.approx([0.0, expected, 1.0])
    fewer = problem(True, weights={"b": 0.0}).objective
    assert isinstance(fewer, bi.Nearest)
    assert fewer.change is not None
    assert np.floor(fewer.change(points)).tolist() == [0.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("parameter", "before", "after", "share"),
    [
        (bi.Int(0, 4), 0, 4, 1.0),
        (bi.Int(0, 4), 1, 2, 0.25),
        (bi.Int(1, 8, log=True), 2, 4, 1 / 3),
        (bi.Float(0.0, 1.0, step=0.5), 0.0, 0.5, 0.5),
        (bi.Float(1.0, 4.0, log=True, step=1.0), 1.0, 2.0, 0.5),
        (bi.Float(-2.0, 2.0), -2.0, 1.0, 0.75),
    ],
)
def test_the_unit_of_a_change_is_the_distance_of_the_bounds(
    parameter: bi.Float | bi.Int, before: float, after: float, share: float
) -> None:
    space = bi.Box({"p": parameter})
    goal = bi.Nearest({"p": before}, bi.Target(1.0, 0.1)).located(space.domain, space.encode)
    assert goal.change is not None
    assert goal.change(space.encode([{"p": after}])) == pytest.approx([share])


def test_a_parameter_that_becomes_active_is_one_change() -> None:
    space = bi.Box({
        "kind": bi.Choice(["x", "y"]), "n": bi.When("kind", "y", bi.Float(0.0, 1.0)),
    })  # fmt: skip
    goal = bi.Nearest({"kind": "x"}, bi.Target(1.0, tolerance=0.1)).located(
        space.domain, space.encode
    )
    points = space.encode([{"kind": "x"}, {"kind": "y", "n": 0.3}])
    assert goal.change is not None
    assert goal.change(points) == pytest.approx([0.0, np.sqrt(2.0)])


def test_a_miss_is_no_solution_and_a_hit_at_x0_ends_the_search() -> None:
    study = bi.Study.create("s", problem(), "auto", seed=0)
    study.add([START, {**START, "a": 2.0}], [output(START), output({**START, "a": 2.0})])
    assert study.best is None
    reached = bi.Problem(
        bi.Box(MIXED), output, bi.Nearest(START, bi.Target((None, 9.0), output="y"))
    )
    done = bi.Study.create("s", reached, "auto", seed=0).run(30)
    assert done.best.loss == 0.0
    assert done.spent.calls < 12


def test_the_search_resumes_and_is_declared_exactly(tmp_path: Path) -> None:
    nearest = {"name": "nearest", "options": {"initial": 6}}
    whole = bi.Study.create("s", problem(), nearest, seed=0).run(14)
    url = f"sqlite:///{tmp_path / 's.db'}"
    bi.Study.create("s", problem(), nearest, seed=0, storage=url).run(10)
    resumed = bi.Study.open("s", url, problem()).run(14)
    assert np.array_equal([t.point for t in resumed.trials], [t.point for t in whole.trials])
    declared = json.loads(json.dumps(declaration_of(problem())))
    rebuilt = problem_from_declaration(declared, "box")
    assert rebuilt.statement.to_json() == problem().statement.to_json()
    again = objective_from_json(declared["objective"])
    assert isinstance(again, bi.Nearest)
    assert again.located(rebuilt.domain, rebuilt.space.encode) == problem().objective


class NoEncoder(Space):
    """Latent without an encoder."""

    domain = gaussian_domain(2, 3.0)

    def decode(self, points: Array) -> Any:
        return points


def test_latents_measure_codes_and_need_an_encoder_or_a_point() -> None:
    target = bi.Target(1.0, tolerance=0.05)
    with pytest.raises(bi.InvalidInputError, match=r"x0 must be a design .* has no encoder"):
        bi.Problem(NoEncoder(), lambda x: float(x[0]), bi.Nearest([0.2, 0.5], target))
    goal = bi.Nearest(None, target, point=[0.2, 0.5])
    aimed = bi.Problem(NoEncoder(), lambda x: float(x[0]), goal)
    study = bi.Study.create("s", aimed, "auto", seed=0).run(30)
    assert study.best.point == pytest.approx([0.95, 0.5], abs=0.03)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: bi.Nearest(START, bi.Target(1.0)), "must have a tolerance"),
        (lambda: bi.Nearest(START, bi.Target({"y": 1.0}, 0.1, avoid={"y": (2, 3)})), "avoid"),
        (lambda: bi.Nearest(START, bi.Minimize()), "must be a Target"),  # type: ignore[arg-type]
        (lambda: problem(weights={"q": 1.0}), "weights must have names"),
        (lambda: problem(weights=[1.0, -1.0, 1.0, 1.0]), ">= 0"),
        (lambda: bi.Problem(bi.Box(MIXED), output, bi.Nearest({"a": 1.0}, bi.Target(1.0, 0.1))),
         "x0 must be a design"),
        (lambda: bi.Pareto(bi.Nearest(START, bi.Target(1.0, 0.1)), bi.Minimize()), "Pareto"),
        (lambda: bi.Study.create("s", bi.Problem(bi.Box(MIXED), output, bi.Minimize()), "nearest"),
         "needs the objective Nearest"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(build: Any, message: str) -> None:
    with pytest.raises(bi.BoInvertError, match=message):
        build()


@pytest.mark.parametrize("strategy", ["auto", "nearest"])
def test_a_search_that_stops_by_itself_says_why(strategy: str) -> None:
    space = bi.Box({"a": bi.Float(0.0, 1.0)})
    goal = bi.Nearest({"a": 0.2}, bi.Target(0.6, tolerance=0.05))
    problem = bi.Problem(space, lambda design: design["a"], goal)
    study = bi.Study.create("s", problem, strategy, seed=0).run(100)
    assert study.spent.calls < 100
    assert study.ended == "no query is expected to find a smaller change that reaches the target"


def test_noise_of_the_inputs_is_refused() -> None:
    goal = bi.Nearest(START, bi.Target(2.1, tolerance=0.05))
    with pytest.raises(bi.InvalidInputError, match="input_noise must be None with the objective"):
        bi.Problem(bi.Box(MIXED), output, goal, input_noise={"a": 0.1})
