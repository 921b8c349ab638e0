"""Tests of reports, plots and texts of a study with several criteria."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.study.front import ParetoFront
from bo_invert.study.front_report import front_sentences, front_steps, front_table
from bo_invert.study.plots import study_data
from bo_invert.study.report import study_report


def beam(p: dict[str, Any]) -> dict[str, float]:
    return {"mass": 1.0 + p["x"] + p["y"], "stiffness": p["x"] ** 2 + 0.2 * p["y"]}


@pytest.fixture(scope="module")
def study() -> bi.Study:
    space = bi.Box({"x": bi.Float(0, 1), "y": bi.Float(0, 1), "kind": bi.Choice("wood", "steel")})
    problem = bi.Problem(
        space, beam, bi.Pareto(bi.Minimize("mass"), bi.Maximize("stiffness")),
        outputs=["mass", "stiffness"], constraints=["mass <= 2.5"],
        units={"mass": "kg", "stiffness": "kN/mm", "x": "m"},
    )  # fmt: skip
    return bi.Study.create("beam", problem, "sobol", seed=0).run(16)


def test_the_result_is_the_front(study: bi.Study, tmp_path: Path) -> None:
    report = study_report(study)
    assert report.solution is not None
    assert report.solution.columns[:4] == (
        "trial", "minimize mass [kg]", "maximize stiffness [kN/mm]", "x [m]"
    )  # fmt: skip
    assert [row[0] for row in report.solution.rows] == [t.number for t in study.front]
    assert report.solutions is not None
    assert report.solutions.title == "Designs of the Pareto front"
    kinds = [chart.kind for chart in report.course]
    assert kinds == ["hypervolume_history", "pareto_front"]
    titles = [chart.title for chart in report.model]
    for name in ("mass [kg]", "stiffness [kN/mm]"):
        for title in (f"Importance of the parameters for {name}", f"{name} by parameter"):
            assert title in titles
    page = study.report(tmp_path / "report.html").read_text()
    assert "hypervolume" in page
    assert "mean loss" not in page
    assert "compromise" in page


def test_solutions_are_designs_of_the_front(study: bi.Study) -> None:
    found = study.solutions(3)
    numbers = [t.number for t in study.front]
    assert {one.trial.number for one in found} <= set(numbers)
    assert len(found) == min(3, len(numbers))
    assert "mass claimed" in found.table().columns
    assert "stiffness claimed" in found.table().columns
    assert "mean loss" not in repr(found)
    np.testing.assert_allclose(found.claims(0), [found[0].y[0], found[0].y[1]])


def test_texts_and_pages_show_the_hypervolume(
    study: bi.Study, capfd: pytest.CaptureFixture[str]
) -> None:
    html = study._repr_html_()
    assert "hypervolume" in html
    assert "loss" not in html
    problem = bi.Problem(
        study.problem.space, beam, study.problem.objective, outputs=["mass", "stiffness"]
    )
    bi.Study.create("bar", problem, "random").run(4, progress=True)
    shown = capfd.readouterr().err
    assert "hypervolume" in shown
    assert "front of" in shown
    assert "mean loss" not in shown


def front_of(values: list[list[float]], study: bi.Study) -> ParetoFront:
    rows = np.array(values)
    trials = tuple(t for t in study.trials if t.feasible)[: len(rows)]
    return ParetoFront(
        trials, rows, ("mass", "stiffness"), ("minimize", "maximize"), np.array([9.0, 0.0]), 1.0
    )


def test_compromise_and_spread_of_a_front(study: bi.Study) -> None:
    front = front_of([[0.0, 0.0], [0.2, 0.8], [0.25, 0.85], [1.0, 1.0]], study)
    assert front.compromise is front.trials[1] or front.compromise is front.trials[2]
    chosen = front.spread(3)
    assert front.trials[0] in chosen
    assert front.trials[3] in chosen
    assert len(front.spread(9)) == 4
    empty = front_of([], study)
    assert front_table(study_data(study), empty) is None
    assert "empty" in front_sentences(study_data(study), ParetoFront(
        (), np.empty((0, 2)), ("a", "b"), ("minimize",) * 2, np.full(2, np.inf), 0.0
    ))[0]  # fmt: skip


def test_steps_name_the_constraint_that_limits_the_front() -> None:
    # Stiffness grows with mass, so that the best designs lie at the bound.
    problem = bi.Problem(
        bi.Box({"x": bi.Float(0, 1)}), None, bi.Pareto(bi.Minimize("cost"), bi.Maximize("y")),
        outputs=["cost", "y", "heat"], constraints=["heat <= 1"],
    )  # fmt: skip
    study = bi.Study.create("limits", problem, "random")
    x = np.linspace(0.5, 1.0, 10)
    study.add([{"x": one} for one in x], [[one, one, 1.0 + max(0.0, one - 0.9)] for one in x])
    steps = front_steps(study_data(study), study.front, study.hypervolume)
    assert any("heat <= 1 limits" in step for step in steps)


def test_designs_outside_of_the_space_are_marked_as_such() -> None:
    problem = bi.Problem(
        bi.Box({"x": bi.Float(0, 1), "z": bi.Float(0, 1)}), None, bi.Minimize("y"), outputs=["y"]
    )
    study = bi.Study.create("out", problem, "random")
    study.add([{"x": 0.2, "z": 0.1, "y": 1.0}, {"x": 0.4, "z": 0.5, "y": 2.0}])
    study.add([{"x": 1.5, "z": 0.5, "y": 0.1}], outside="model")
    (moved,) = study.ask()
    study.tell(moved, {"y": 3.0}, at={"x": -0.5}, outside="model")
    chart = study.plot.slice(["x"]).chart
    (panel,) = chart.panels
    assert "outside of the search space" in chart.legend
    assert "constraint violated" not in chart.legend
    marks = [one for one in panel.layers if getattr(one, "role", "") == "outside"]
    assert sorted(marks[0].x.tolist()) == [-0.5, 1.5]
    assert panel.x.bounds is not None
    assert panel.x.bounds[0] < -0.5
    assert panel.x.bounds[1] > 1.5
    assert "outside of the search space" in study.plot.optimization_history().chart.legend
    timeline = study.plot.timeline().chart
    assert "constraint violated" not in timeline.legend


def test_comparisons_show_designs_of_the_fronts(study: bi.Study, tmp_path: Path) -> None:
    comparison = bi.compare(study.problem, ["random", "sobol"], budget=8, seeds=2)
    assert "median hypervolume of" in comparison.summary()
    page = comparison.save(tmp_path).joinpath("report.html").read_text()
    assert "Designs of the Pareto front of each run" in page
    assert all(len(run.finds) >= 1 for run in comparison.runs)
    assert any(len(run.finds) > 1 for run in comparison.runs)
