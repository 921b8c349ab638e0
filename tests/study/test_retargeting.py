"""Studies for another objective on the observations of an existing one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.problems.json_declaration import declaration_of, problem_from_declaration
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.study.retargeting import logged_problem, with_objective
from bo_invert.types import Array


def tank(x: Array) -> dict[str, float]:
    if x[0] + x[1] > 1.9:
        raise bi.InfeasibleError("too full")
    return {"level": float(np.sin(2 * x[0]) + x[1] ** 2), "loss": float(x[0] * x[1])}


def problem(value: float = 0.8, **options: object) -> bi.Problem:
    target = bi.Target({"level": value}, tolerance=0.002, scale=0.5)
    return bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), tank, target, outputs=["level", "loss"])


@pytest.fixture(scope="module")
def first() -> bi.Study:
    study = bi.Study.create("tank", problem(), "auto", seed=3, storage=MemoryStore())
    study.enqueue(x=[0.99, 0.99])
    return study.run(40)


def test_observations_are_read_again_and_cost_nothing(first: bi.Study) -> None:
    other = first.retarget({"level": 1.1})
    assert other.name == "tank 2"
    assert other.spent.calls == 0
    assert np.array_equal(other.history.points, first.history.points)
    assert np.array_equal(other.history.y, first.history.y)
    expected = ((first.history.y[:, 0] - 1.1) / 0.5) ** 2  # tolerance and scale are carried on
    assert other.history.losses == pytest.approx(expected)
    assert other.problem is not None
    assert other.problem.objective.tolerance == 0.002  # type: ignore[attr-defined]
    assert [trial.reason for trial in other.history.failed] == ["too full"]


def test_source_is_recorded(first: bi.Study) -> None:
    other = first.retarget({"level": 1.05})
    assert other.source is not None
    assert other.source.study == "tank"
    assert other.source.id == first.journal.header["id"]
    assert other.source.trials == len(first.trials) == len(other.trials)
    assert other.trials[2].query.meta["source"] == {"study": "tank", "trial": 2}
    assert first.source is None
    assert other.seed == first.seed + 1


def test_chain_holds_each_observation_once(first: bi.Study) -> None:
    study = first
    for value in np.linspace(0.2, 1.2, 4):
        study = study.retarget({"level": float(value)})
        before = len(study.trials)
        study.run(10)
        assert study.spent.calls == len(study.trials) - before
        assert study.best is not None
        assert abs(study.best.y[0] - value) <= 0.002  # type: ignore[index]
    assert len(np.unique(study.history.points, axis=0)) == len(study.history.points)
    origins = {trial.query.meta["source"]["study"] for trial in study.trials[: len(first.trials)]}
    assert origins == {"tank"}


@pytest.mark.parametrize(
    ("objective", "constraints"),
    [
        (bi.Minimize("loss"), "level >= 0.5"),
        (bi.Pareto(bi.Minimize("loss"), bi.Maximize("level")), None),
        (bi.Target({"loss": (0.3, None)}), ()),
        (bi.Target({"level": 0.7, "loss": 0.2}, tolerance=0.01), ()),
    ],
)
def test_other_objectives(first: bi.Study, objective: bi.Objective, constraints: object) -> None:
    other = first.retarget(objective, constraints=constraints)  # type: ignore[arg-type]
    assert other.problem is not None
    found = [other.problem.outcome(y, trial.outcome.cost)  # type: ignore[union-attr]
             for trial in other.history.completed for y in [trial.y]]  # fmt: skip
    assert [one.loss for one in found] == pytest.approx(other.history.losses)
    assert [one.violation for one in found] == pytest.approx(other.history.violations)
    before = len(other.trials)
    other.run(3)
    assert len(other.trials) <= before + 3


def test_all_arguments_of_the_problem_are_carried_on() -> None:
    made = bi.Problem(
        bi.Box({"a": bi.Float(0, 1)}), lambda d: d["a"], bi.Target({"y": 0.3}), outputs=["y"],
        name="all", judge=lambda d: d["a"], draw=lambda d: np.zeros((2, 2)), reuse=True,
        plausibility=lambda d: np.ones(len(d)), units={"a": "m"}, input_noise={"a": 0.01},
    )  # fmt: skip
    other = with_objective(made, bi.Minimize("y"))
    fields = {name for name in vars(made) if name not in ("objective", "statement")}
    assert set(vars(other)) >= fields - {"_passes_gradients"}
    for name in ("space", "oracle", "judge", "reuse", "units", "input_noise", "name", "realism"):
        assert getattr(other, name) == getattr(made, name), name
    assert other.draw is not None
    assert other.plausibility is not None


@pytest.mark.parametrize("value", [0.5, [0.5], np.array([0.5]), {"level": 0.5}])
def test_a_value_is_that_of_the_outputs_of_the_former_target(first: bi.Study, value: Any) -> None:
    target = first.retarget(value).problem.objective
    assert isinstance(target, bi.Target)
    assert (target.indices, target.tolerances, target.scale) == ((0,), (0.002,), (0.5,))
    both = first.retarget([0.5, 0.1], tolerance=0.01).problem.objective
    assert isinstance(both, bi.Target)
    assert both.indices == (0, 1)


def test_unknown_output_and_other_mistakes(first: bi.Study) -> None:
    with pytest.raises(bi.InvalidInputError, match=r"no output 'depth'.*recorded the outputs"):
        first.retarget({"depth": 1.0})
    with pytest.raises(bi.InvalidInputError, match="tolerance belongs to a target"):
        first.retarget(bi.Minimize("loss"), tolerance=0.1)
    with pytest.raises(bi.BoInvertError, match="already in this storage"):
        first.retarget({"level": 1.0}, "tank")
    with pytest.raises(bi.UnsuitableStrategyError):
        first.retarget(bi.Minimize("loss"), strategy="inverse")


def test_the_target_of_a_least_change_constrains_only_its_own_study() -> None:
    start = {"x": 0.2, "n": 1}
    problem = bi.Problem(
        bi.Box({"x": bi.Float(0.0, 1.0), "n": bi.Int(0, 4)}),
        lambda design: {"y": design["x"] + design["n"], "z": design["x"]},
        bi.Nearest(start, bi.Target({"y": 2.2}, tolerance=0.05)),
        outputs=["y", "z"], constraints="z <= 0.9",
    )  # fmt: skip
    study = bi.Study.create("least", problem, seed=0, storage=MemoryStore()).run(6)
    other = study.retarget(bi.Nearest(start, bi.Target({"y": 3.2}, tolerance=0.05)))
    assert other.problem is not None
    assert [str(one) for one in other.problem.constraints] == [
        "z <= 0.9", "y >= 3.15", "y <= 3.25",
    ]  # fmt: skip
    assert other.run(20).best is not None
    assert other.best.y[0] == pytest.approx(3.2, abs=0.05)
    # A reopened study knows its constraints from the log only.
    again = bi.Study.open(other.name, study._store, other.problem).retarget(bi.Minimize("z"))
    assert again.problem is not None
    assert [str(one) for one in again.problem.constraints] == ["z <= 0.9"]
    value = study.retarget({"y": 3.0})
    assert value.problem is not None
    assert value.problem.objective == bi.Target({"y": 3.0}, 0.05).bind(["y", "z"])


def test_same_script_resumes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tank.db"
    study = bi.Study.create("tank", problem(), "auto", seed=1, storage=url).run(20)
    once = study.retarget(bi.Target({"level": 1.2}), "second", exist_ok=True)
    before = len(once.trials)
    once.run(2)
    again = study.retarget(bi.Target({"level": 1.2}), "second", exist_ok=True)
    assert len(again.trials) == len(once.trials)
    again.run(4)
    whole = study.retarget(bi.Target({"level": 1.2}), "third").run(4)
    assert np.array_equal(whole.history.points, again.history.points)
    assert len(whole.trials) == before + 4
    with pytest.raises(bi.InvalidInputError, match="problem must be"):
        study.retarget({"level": 1.3}, "second", exist_ok=True)
    opened = bi.Study.open("second", url)
    assert opened.source is not None
    assert opened.source.study == "tank"


def test_export_and_import(first: bi.Study, tmp_path: Path) -> None:
    store = first._store
    other = first.retarget({"level": 0.9}, "exported")
    export_study(store, "exported", tmp_path / "one.jsonl")
    copy = MemoryStore()
    import_study(copy, tmp_path / "one.jsonl")
    opened = bi.Study.open("exported", copy)
    assert opened.source == other.source
    assert np.array_equal(opened.history.y, other.history.y)


def test_predicted_solution_needs_no_call(first: bi.Study) -> None:
    other = first.retarget({"level": 1.0})
    found = other.predicted_solution()
    assert other.spent.calls == 0
    assert found.trial is None
    low, _, high = found.outputs["level"]
    true = tank(np.asarray(found.design))["level"]
    assert low <= true <= high
    assert 0.0 < found.hit <= 1.0
    assert "meets the target" in repr(found)
    assert np.array_equal(found.point, other.predicted_solution().point)


def test_observed_design_is_the_solution(first: bi.Study) -> None:
    found = first.predicted_solution()
    assert first.best is not None
    assert found.trial == first.best.number
    assert found.hit == 1.0
    assert found.outputs["level"][0] == first.best.y[0]  # type: ignore[index]


def test_predicted_solution_needs_a_target(first: bi.Study) -> None:
    with pytest.raises(bi.InvalidInputError, match="must have a target"):
        first.retarget(bi.Minimize("loss")).predicted_solution()


def test_report_names_the_source(first: bi.Study, tmp_path: Path) -> None:
    page = first.retarget({"level": 0.6}).report(tmp_path / "page.html").read_text()
    assert f"study tank, {len(first.trials)} trials" in page


def test_the_problem_of_a_log_has_its_objective_and_constraints(first: bi.Study) -> None:
    made = first.retarget(bi.Maximize("level"), constraints="loss <= 0.5")
    found = logged_problem(made.journal.header, problem())
    assert found.to_json() == made.journal.header["problem"]
    assert found.oracle is not None
    assert logged_problem(first.journal.header, problem(0.7)).objective == problem(0.7).objective
    other = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), None, bi.Minimize("mass"), outputs=["mass"])
    assert logged_problem(made.journal.header, other) is other


def test_a_declared_problem_stays_differentiable() -> None:
    declared = problem_from_declaration({**declaration_of(problem()), "differentiable": True}, "p")
    assert with_objective(declared, bi.Minimize("loss")).differentiable
