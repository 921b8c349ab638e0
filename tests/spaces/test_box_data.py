"""Boxes with data: plausibility, draws, the searched region, errors, logs and declarations."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.problems.feasible_region import project
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration
from bo_invert.report.dataframe import trial_record
from bo_invert.report.study_view import trial_text
from bo_invert.service.problem_schema import ProblemDeclaration
from bo_invert.types import Array


def correlated(n: int, d: int = 6, seed: int = 0) -> Array:
    """Draw rows near a plane, with a skewed column."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 2)) @ np.random.default_rng(1).standard_normal((2, d))
    rows += 0.1 * rng.standard_normal((n, d))
    rows[:, -1] = np.exp(rows[:, -1])
    return np.asarray(rows)


def recipes(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Draw designs with a choice, an integer and a number; acid ``b`` needs high temperatures."""
    rng = np.random.default_rng(seed)
    acids = rng.choice(["a", "b"], n, p=[0.7, 0.3])
    return [
        {
            "acid": str(acid),
            "steps": int(rng.integers(1, 6)),
            "temperature": float(rng.normal(80.0 if acid == "b" else 40.0, 4.0)),
        }
        for acid in acids
    ]


def recipe_box() -> bi.Box:
    return bi.Box(
        {"acid": bi.Choice("a", "b"), "steps": bi.Int(0, 9), "temperature": (0.0, 120.0)},
        data=recipes(300),
    )


@pytest.mark.parametrize(("n", "d"), [(30, 6), (400, 6), (50, 40)])
def test_plausibility_is_a_quantile_of_fresh_rows(n: int, d: int) -> None:
    rows = correlated(n + 2000, d)
    wide = [rows.min(axis=0) - 1.0, rows.max(axis=0) + 1.0]
    box = bi.Box(*wide, data=rows[:n])
    fresh = box.plausibility(box.encode(rows[n:]))
    share = (fresh < 0.2).mean()
    assert abs(share - 0.2) < 3.0 * np.sqrt(0.2 * 0.8 / n) + 0.05


def test_uniform_points_are_less_plausible_than_rows_and_draws() -> None:
    box = bi.Box(data=correlated(400))
    rng = np.random.default_rng(0)
    assert (box.plausibility(rng.random((500, 6))) < 0.05).mean() > 0.9
    assert (box.plausibility(box.sample(rng, 500)) < 0.05).mean() < 0.1


def test_bounds_and_names_are_those_of_the_data() -> None:
    rows = correlated(50)
    box = bi.Box(data=rows)
    designs = np.array(box.decode(np.array([np.zeros(6), np.ones(6)])))
    np.testing.assert_allclose(designs, [rows.min(axis=0), rows.max(axis=0)])
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rows, columns=list("abcdef"))
    assert list(bi.Box(data=frame).domain.parameters) == list("abcdef")
    assert bi.Box(data=frame).to_json()["data"] == box.to_json()["data"]


@pytest.mark.parametrize("strategy", ["prior", "random", "pcn", "auto", "cmaes"])
def test_strategies_stay_in_the_plausible_part(strategy: str) -> None:
    problem = bi.Problem(bi.Box(data=correlated(200)), lambda x: float(x.sum()), bi.Maximize())
    study = bi.Study.create("corner", problem, strategy, seed=0)
    study.run(budget=5)
    points = np.array([trial.point for trial in study.trials])
    assert problem.space.plausibility(points).min() >= 0.05
    logged = [trial.query.meta["plausibility"] for trial in study.trials]
    np.testing.assert_allclose(logged, problem.space.plausibility(points), atol=1e-4)
    assert f"plausibility {logged[0]:.2g}" in trial_text(study.trials[0])
    assert trial_record(study.trials[0], study.outputs)["plausibility"] == logged[0]


def test_auto_draws_near_data_while_asks_bring_no_gain() -> None:
    losses = itertools.count()
    box = bi.Box(data=correlated(60, 2))
    problem = bi.Problem(box, lambda _: float(next(losses)), bi.Minimize())
    study = bi.Study.create("no gain", problem, seed=0)
    study.run(budget=16)
    assert "pcn" in {trial.origin for trial in study.trials}


def test_realism_sets_the_searched_share() -> None:
    problem = bi.Problem(bi.Box(data=correlated(400)), lambda x: float(x.sum()), bi.Maximize())
    assert problem.realism == 0.95
    corners = np.ones((3, 6))
    for share in (0.99, 0.95, 0.5):
        problem.realism = share
        moved = problem.space.plausibility(problem.domain.project(corners))
        assert (moved >= 1.0 - share).all()
        assert moved.max() < 1.0 - share + 0.05, "points move no farther than needed"
    problem.realism = None
    np.testing.assert_array_equal(problem.domain.project(corners), corners)


def test_projection_repeated_changes_nothing() -> None:
    for box in (bi.Box(data=correlated(200)), recipe_box()):
        domain = bi.Problem(box, None, bi.Minimize()).domain
        once = domain.project(np.random.default_rng(0).random((300, domain.dim)))
        assert (domain.plausibility(once) >= 0.05).all()
        np.testing.assert_array_equal(domain.project(once), once)


def test_descents_stay_in_the_plausible_part() -> None:
    class Total(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(dim=-1, keepdim=True)

    problem = bi.Problem(bi.Box(data=correlated(200)), Total(), bi.Maximize())
    inside = project(problem.domain, torch.rand(200, 6, dtype=torch.float64))
    assert (problem.space.plausibility(inside.numpy()) >= 0.05).all()
    study = bi.Study.create("descents", problem, "gradient", seed=0)
    study.run(budget=60)
    ends = np.array([t.outcome.point for t in study.trials if t.outcome.point is not None])
    assert len(ends)
    assert (problem.space.plausibility(ends) >= 0.04).all(), "single precision"


def test_mixed_boxes_keep_combinations_of_the_data() -> None:
    box = recipe_box()
    likely, unlikely = (
        box.plausibility(box.encode([{"acid": acid, "steps": 3, "temperature": 80.0}]))[0]
        for acid in ("b", "a")
    )
    assert likely > 0.2
    assert unlikely < 0.05
    draws = box.decode(box.sample(np.random.default_rng(0), 200))
    cold = [design["temperature"] < 60.0 for design in draws if design["acid"] == "a"]
    assert len(cold) > 80
    assert np.mean(cold) > 0.95
    problem = bi.Problem(box, lambda design: design["temperature"], bi.Maximize())
    study = bi.Study.create("mixed", problem, seed=0)
    study.run(budget=6)
    assert problem.space.plausibility(np.array([t.point for t in study.trials])).min() >= 0.05


def test_the_log_holds_a_hash_and_notices_other_data() -> None:
    box = bi.Box([-9.0] * 5 + [0.0], [9.0] * 5 + [99.0], data=correlated(400))
    assert len(json.dumps(box.to_json())) < 2000
    problem = bi.Problem(box, lambda x: float(x.sum()), bi.Maximize())
    assert problem.to_json()["space"]["data"] == box.to_json()["data"]
    other = bi.Box([-9.0] * 5 + [0.0], [9.0] * 5 + [99.0], data=correlated(400, seed=1))
    assert other.to_json()["data"] != box.to_json()["data"]


@pytest.mark.parametrize("box", [bi.Box(data=correlated(80)), recipe_box()])
def test_declarations_keep_the_measure(box: bi.Box) -> None:
    problem = bi.Problem(box, None, bi.Minimize(), name="declared")
    sent = json.loads(json.dumps(declaration_of(problem)))
    body = ProblemDeclaration.model_validate(sent).model_dump(mode="json", exclude_none=True)
    declared = problem_from_declaration(body, "declared")
    assert declared.to_json() == problem.to_json()
    points = np.random.default_rng(0).random((50, box.domain.dim))
    np.testing.assert_array_equal(declared.domain.project(points), problem.domain.project(points))
    own, same = (one.domain.sample(np.random.default_rng(1), 20) for one in (problem, declared))
    np.testing.assert_array_equal(own, same)
    sent["space"]["data"]["rows"] = [[0.5]]
    with pytest.raises(bi.InvalidInputError, match="rows of data must fit"):
        problem_from_declaration(sent, "declared")


def test_resumed_studies_propose_the_same_points(tmp_path: Any) -> None:
    def create(name: str) -> bi.Study:
        box = bi.Box(data=correlated(100))
        problem = bi.Problem(box, lambda x: float(x.sum()), bi.Maximize())
        storage = f"sqlite:///{tmp_path}/{name}.db"
        return bi.Study.create("s", problem, seed=0, storage=storage, exist_ok=True)

    one = create("once")
    for _ in range(4):
        for study in (one, create("twice")):
            (trial,) = study.ask(budget=20)
            study.tell(trial, float(trial.design.sum()))
    points = [[trial.point for trial in create(name).trials] for name in ("once", "twice")]
    np.testing.assert_array_equal(*points)


def test_solutions_mark_designs_far_from_the_data() -> None:
    box = bi.Box(data=correlated(200))
    problem = bi.Problem(box, lambda x: float(x.sum()), bi.Maximize(), realism=None)
    study = bi.Study.create("far", problem, "prior", seed=0)
    study.enqueue(point=np.ones(6))
    study.run(budget=3)
    solutions = study.solutions(1)
    assert solutions[0].plausibility < 0.05
    assert "Implausible: trial 0" in repr(solutions)


def test_control_regressors_provide_the_box_and_the_judge() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rows = correlated(120)
    controls = bi.realism.control_regressors(linear.LinearRegression(), rows, rows.sum(axis=1))
    problem = bi.Problem(controls.box(), controls.attacked, bi.Maximize(), judge=controls.data)
    study = bi.Study.create("controls", problem, seed=0)
    study.run(budget=8)
    (one,) = study.solutions(1)
    assert one.plausibility >= 0.05
    assert one.judged == pytest.approx(one.loss, rel=0.05)


def test_constant_columns_stay_constant_within_bounds() -> None:
    rows = np.c_[correlated(60, 2), np.zeros(60)]
    with pytest.warns(UserWarning, match="same value of 'x2'"):
        box = bi.Box([-9.0, 0.0, -1.0], [9.0, 99.0, 1.0], data=rows)
    domain = bi.Problem(box, None, bi.Minimize()).domain
    points = domain.project(np.random.default_rng(0).random((100, 3)))
    assert (domain.plausibility(points) >= 0.05).all()
    assert np.abs(points[:, 2] - 0.5).max() < 0.1
    frame = [{"acid": "a", "x": float(x)} for x in rows[:, 0]]
    with pytest.warns(UserWarning, match="same value of 'acid'"):
        typed = bi.Box({"acid": bi.Choice("a", "b", "c"), "x": (-9.0, 9.0)}, data=frame)
    designs = typed.decode(bi.Problem(typed, None, bi.Minimize()).domain.project(np.eye(4)))
    assert {design["acid"] for design in designs} == {"a"}


ROWS = correlated(20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": ROWS[:1]}, "at least 10 rows, got 1"),
        ({"data": ROWS[0]}, r"shape \(n, d\).*got shape \(6,\)"),
        ({"data": "rows.csv"}, "Load the file first"),
        ({"data": np.where(ROWS[3, 2] == ROWS, np.nan, ROWS)}, "'x2' .* finite, got nan in row 3"),
        ({"data": ROWS.astype(str)}, "'x0' .* must hold numbers, got .*Choice"),
        ({"data": np.c_[ROWS, np.ones(20)]}, "'x6' .* two different values, got only 1"),
        ({"lower": [-1] * 5, "upper": [1] * 5, "data": ROWS}, r"shape \(n, 5\).*got 6 columns"),
        ({"lower": [-0.1] * 6, "upper": [9.0] * 6, "data": ROWS}, "Widen the bounds"),
        ({"names": list("abc"), "data": ROWS}, r"shape \(n, 3\)"),
        ({"lower": [0.0] * 6}, "upper is missing.*data=X"),
        (
            {"lower": {"acid": bi.Choice("a", "c"), "steps": (0, 9), "temperature": (0, 120)}},
            "'acid' .* values of .*got 'b'",
        ),
        ({"lower": {"acid": bi.Choice("a", "b")}}, "unknown .*steps.*without its outputs"),
        (
            {
                "lower": {
                    "acid": bi.Choice("a", "b"),
                    "steps": bi.Int(0, 9),
                    "temperature": bi.Int(0, 120),
                }
            },
            "'temperature' .* whole numbers",
        ),
    ],
)
def test_bad_data_are_reported_before_any_call(arguments: dict[str, Any], message: str) -> None:
    if isinstance(arguments.get("lower"), dict):
        arguments = {**arguments, "data": recipes(30)}
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Box(**arguments)
