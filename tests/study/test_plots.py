"""Plots of studies: data, files, all kinds of studies and parameters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.layers import Band, Bars, Hatch, Heat, Line, Paths, Points
from bo_invert.study.plots import StudyPlots

FREE = ["optimization_history", "slice", "parallel_coordinate", "timeline", "latent_map"]
"""Plots that need neither a model nor several objectives."""
MODEL = ["contour", "param_importances", "predicted_vs_observed"]


def oven(design: dict[str, Any]) -> dict[str, float]:
    heat = design["heat"]
    good = 90.0 - (heat - 150.0) ** 2 / 200.0 - 10.0 * (np.log10(design["time"]) - 1.0) ** 2
    return {"crust": good + 5.0 * (design["flour"] == "rye"), "smoke": heat / 4.0}


def box() -> bi.Box:
    return bi.Box(
        {
            "heat": bi.Float(80.0, 220.0),
            "time": bi.Float(1.0, 100.0, log=True),
            "flour": bi.Choice("wheat", "rye", "spelt"),
            "trays": bi.Int(1, 4),
        }
    )


def baked(fails: int = 7, **options: Any) -> bi.Study:
    """Study with past data, trials, a failure, a violation and a pending trial."""
    problem = bi.Problem(
        box(), None, bi.Maximize("crust"), outputs=["crust", "smoke"],
        constraints=["smoke <= 50"], name="oven", units={"heat": "°C", "crust": "points"},
    )  # fmt: skip
    study = bi.Study.create("bread", problem, "random", **options)
    rng = np.random.default_rng(0)
    past = [problem.space.domain.values(problem.space.domain.sample(rng, 1))[0] for _ in range(5)]
    study.add(past, [oven(one) for one in past])
    for trial in study.ask(14):
        answer: object = oven(trial.design)
        study.tell(trial, bi.FailedError("<b>burnt</b>") if trial.number == fails else answer)
    study.ask(1)
    return study


@pytest.fixture(scope="module")
def bread() -> bi.Study:
    return baked()


def layers(plot: Any, kind: type) -> list[Any]:
    return [layer for layer in plot.chart.layers() if isinstance(layer, kind)]


@pytest.mark.parametrize("name", [*FREE, *MODEL, "solutions"])
def test_each_plot_has_data_figures_and_files(name: str, bread: bi.Study, tmp_path: Path) -> None:
    plot = getattr(bread.plot, name)()
    assert len(plot.data)
    assert plot.figure.data
    assert plot.to_matplotlib(400).get_size_inches()[0] == 4.0
    png = plot.save(tmp_path / "made" / "a.png", width=400, scale=1.0)
    assert png.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "<svg" in plot.save(tmp_path / "a.svg", width=400).read_text()
    page = plot.save(tmp_path / "a.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "bread" in page
    data = json.loads(plot.save(tmp_path / "a.json").read_text())
    assert data["panels"]
    assert "data:image/png" in plot._repr_html_()
    assert plot._repr_mimebundle_()["application/vnd.plotly.v1+json"]["data"]
    assert "bread" in repr(plot)


def test_both_renderers_draw_the_same_points(bread: bi.Study) -> None:
    plot = bread.plot.slice(["heat"])
    drawn = {tuple(trace.x) for trace in plot.figure.data if trace.mode == "markers"}
    (axes,) = plot.to_matplotlib().axes
    offsets = {tuple(one.get_offsets()[:, 0]) for one in axes.collections if len(one.get_offsets())}
    points = {tuple(layer.x) for layer in layers(plot, Points)}
    assert points == drawn
    assert points <= offsets


def test_the_classes_of_trials_are_marked(bread: bi.Study) -> None:
    plot = bread.plot.optimization_history()
    roles = {layer.role: len(layer.x) for layer in layers(plot, Points)}
    violated = sum(not t.feasible and t.y is not None for t in bread.trials)
    assert roles["past"] + roles["trial"] + roles["violated"] == 18
    assert (roles["violated"], roles["failed"], roles["best"]) == (violated, 1, 1)
    # Past data lie left of the first call, which the failed trial is billed for, too.
    assert plot.data.loc[plot.data["class"] == "past data", "calls"].max() == 0
    assert plot.data["calls"].max() == 14
    assert plot.chart.panels[0].y.label == "crust [points]"
    (line,) = layers(plot, Line)
    assert line.y[-1] == max(t.y[0] for t in bread.trials if t.feasible)


def test_axes_have_units_scales_and_levels(bread: bi.Study) -> None:
    heat, time, flour, trays = (panel.x for panel in bread.plot.slice().chart.panels)
    assert heat.label == "heat [°C]"
    assert time.log
    assert [text for _, text in flour.ticks] == ["wheat", "rye", "spelt"]
    assert [position for position, _ in trays.ticks] == [1, 2, 3, 4]


def test_the_model_of_a_slice_passes_through_the_best_trial(bread: bi.Study) -> None:
    plot = bread.plot.slice(["heat"])
    (line,), (band,) = layers(plot, Line), layers(plot, Band)
    best = bread.best
    assert best is not None
    assert best.y is not None
    at = np.interp(best.design["heat"], line.x, line.y)
    assert abs(at - best.y[0]) < 3.0
    assert (band.low <= line.y).all()
    assert (line.y <= band.high).all()


def test_importances_are_sobol_indices(bread: bi.Study) -> None:
    frame = bread.plot.param_importances().data.set_index("parameter")
    assert set(frame.index) == {"heat", "time", "flour", "trays"}
    assert frame.index[0] == "heat"
    assert frame.loc["trays", "importance"] < 0.1
    assert (frame["low"] <= frame["importance"]).all()
    assert (frame["importance"] <= frame["high"]).all()
    assert (frame["first_order"] <= frame["importance"]).all()
    assert layers(bread.plot.param_importances(["flour"]), Bars)[0].y.tolist() == [0.0]


def test_contours_mark_what_is_probably_infeasible() -> None:
    plot = baked(fails=-1).plot.contour(["heat", "time"])
    (heat,), (hatch,) = layers(plot, Heat), layers(plot, Hatch)
    assert heat.z.shape == (len(heat.y), len(heat.x))
    # smoke <= 50 excludes heat above 200
    assert hatch.excluded[:, heat.x > 210].all()
    assert not hatch.excluded[:, heat.x < 190].any()


def test_input_constraints_are_hatched_and_bound_the_slices() -> None:
    space = bi.Box({"a": bi.Float(0.0, 1.0), "b": bi.Float(0.0, 1.0)}, constraints=["a + b <= 1"])
    problem = bi.Problem(space, None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("corner", problem, "random")
    for trial in study.ask(8):
        study.tell(trial, trial.design["a"] - trial.design["b"])
    (hatch,) = layers(study.plot.contour(), Hatch)
    a, b = np.meshgrid(hatch.x, hatch.y)
    assert hatch.excluded[a + b > 1.05].all()
    assert not hatch.excluded[a + b < 0.95].any()
    frame = study.plot.param_importances()
    assert any("Shapley" in note for note in frame.notes)


def test_conditional_and_fixed_parameters() -> None:
    space = bi.Box(
        {
            "solver": bi.Choice("sgd", "adam"),
            "momentum": bi.When("solver", "sgd", bi.Float(0.0, 1.0)),
            "water": bi.Fixed("tap"),
            "rate": bi.Float(0.1, 1.0, step=0.1),
        }
    )
    problem = bi.Problem(space, None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("net", problem, "random")
    for trial in study.ask(10):
        study.tell(trial, trial.design["rate"] + trial.design.get("momentum", 0.0))
    plot = study.plot.slice()
    assert [panel.x.label for panel in plot.chart.panels] == ["solver", "momentum", "rate"]
    active = sum("momentum" in trial.design for trial in study.trials)
    panel = plot.chart.panels[1]
    assert (
        sum(len(x.x) for x in panel.layers if isinstance(x, Points) and x.role == "trial") == active
    )
    (paths,) = layers(study.plot.parallel_coordinate(), Paths)
    assert (paths.y[:, 1] < 0.0).sum() == 10 - active
    for name in ("contour", "param_importances", "solutions"):
        assert getattr(study.plot, name)().figure.data


def test_a_target_has_a_logarithmic_distance_and_its_own_line() -> None:
    problem = bi.Problem(box(), None, bi.Target({"crust": 80.0}), outputs=["crust", "smoke"])
    study = bi.Study.create("aim", problem, "random")
    for trial, value in zip(study.ask(6), [10.0, 200.0, 79.0, 80.1, 80.001, 80.0], strict=True):
        study.tell(trial, {"crust": value, "smoke": 1.0})
    distance = study.plot.optimization_history()
    assert distance.chart.panels[0].y.log
    assert min(layer.y.min() for layer in layers(distance, Points)) > 0  # an exact hit is drawn
    crust = study.plot.optimization_history("crust")
    assert [line.y.tolist() for line in layers(crust, Line)] == [[80.0, 80.0]]


def test_the_recommended_trial_of_a_noisy_study_has_an_interval() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize())
    study = bi.Study.create("noise", problem, "gp", noisy=True)
    rng = np.random.default_rng(0)
    points = rng.random((16, 1))
    study.add(points, [float((x[0] - 0.4) ** 2 + 0.3 * rng.standard_normal()) for x in points])
    (best,) = [x for x in layers(study.plot.optimization_history(), Points) if x.role == "best"]
    found = study.recommend()
    assert best.y[0] == found.loss.expected
    assert (best.low[0], best.high[0]) == (found.loss.low, found.loss.high)


def test_a_pareto_study_has_a_front_and_a_hypervolume() -> None:
    objective = bi.Pareto(bi.Minimize("smoke"), bi.Maximize("crust"))
    study = bi.Study.create(
        "both", bi.Problem(box(), oven, objective, outputs=["crust", "smoke"]), "random"
    )
    study.run(15)
    plot = study.plot.pareto_front()
    front = {trial.number for trial in study.front}
    assert set(plot.data.loc[plot.data["on_front"], "trial"]) == front
    assert study.plot.optimization_history().chart.kind == "hypervolume_history"
    volumes = study.plot.hypervolume_history().data["hypervolume"]
    assert (np.diff(volumes) >= 0).all()
    for name in (one for one in StudyPlots.NAMES if one != "posterior"):  # it needs a target
        assert getattr(study.plot, name)().figure.layout is not None


def test_outputs_of_one_objective_against_each_other(bread: bi.Study) -> None:
    plot = bread.plot.pareto_front({"smoke": "minimize", "crust": "maximize"})
    rows = plot.data[plot.data["on_front"]]
    for row in rows.itertuples():
        better = (plot.data["smoke"] <= row.smoke) & (plot.data["crust"] > row.crust)
        assert not (better & (plot.data["class"] != "constraint violated")).any()
    with pytest.raises(InvalidInputError, match=r"one objective\. Name at least two outputs"):
        bread.plot.pareto_front()


@pytest.mark.parametrize("name", FREE)
def test_an_empty_study_is_drawn_or_refused(name: str) -> None:
    problem = bi.Problem(box(), None, bi.Maximize("crust"), outputs=["crust", "smoke"])
    study = bi.Study.create("empty", problem, "random")
    if name == "latent_map":
        with pytest.raises(InvalidInputError, match="at least one trial must be completed"):
            study.plot.latent_map()
    else:
        assert getattr(study.plot, name)().to_matplotlib(400)


@pytest.mark.parametrize("name", MODEL)
def test_a_model_needs_observations(name: str) -> None:
    problem = bi.Problem(box(), None, bi.Maximize("crust"), outputs=["crust", "smoke"])
    study = bi.Study.create("young", problem, "random")
    with pytest.raises(InvalidInputError, match="observations"):
        getattr(study.plot, name)()


def test_unknown_names_and_endings_are_refused(bread: bi.Study, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"params must be among .* got 'het'"):
        bread.plot.slice(["het"])
    with pytest.raises(InvalidInputError, match="target must be one of"):
        bread.plot.slice(target="steam")
    with pytest.raises(InvalidInputError, match="at least two parameters"):
        bread.plot.contour(["heat"])
    with pytest.raises(InvalidInputError, match=r"must end in \.html, .*Write 'a\.html'"):
        bread.plot.slice().save(tmp_path / "a.pdf")
    with pytest.raises(InvalidInputError, match="units must name parameters or outputs"):
        bi.Problem(box(), None, bi.Maximize("crust"), units={"heta": "°C"})


def test_plots_without_the_problem(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    baked(storage=url)
    study = bi.Study.open("bread", url)
    for name in (*FREE, *MODEL):  # the log of a box holds what a model needs
        assert getattr(study.plot, name)().figure.data


def test_names_of_users_are_text_in_pages(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    space = bi.Box({f"p{nasty}": bi.Float(0.0, 1.0), f"c{nasty}": bi.Choice(nasty, "b")})
    problem = bi.Problem(space, None, bi.Maximize(f"y{nasty}"), outputs=[f"y{nasty}"], name=nasty)
    study = bi.Study.create(nasty, problem, "random")
    for trial in study.ask(5):
        study.tell(trial, bi.FailedError(nasty) if trial.number == 2 else float(trial.number))
    for name in (*FREE, *MODEL, "solutions"):
        page = getattr(study.plot, name)().save(tmp_path / "a.html").read_text()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        figures = re.findall(r'class="figure">([^<]*)</script>', page)
        assert figures
        assert all(nasty not in json.dumps(json.loads(one)) for one in figures)
