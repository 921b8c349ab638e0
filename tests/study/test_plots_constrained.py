"""Tests of plots in constrained spaces: slices, contours and ternary panels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Panel
from bo_invert.report.charts.layers import Heat, Labels, Line, Paths, Points

F = bi.Float


@pytest.fixture(scope="module")
def study() -> bi.Study:
    space = bi.Box(
        {"a": F(0, 1), "b": F(0, 1), "c": F(0, 1), "T": F(20, 80)}, constraints=["a + b + c == 1"]
    )
    problem = bi.Problem(
        space, lambda p: 4 * p["a"] * p["b"] - p["c"], bi.Maximize("y"), outputs=["y"]
    )
    return bi.Study.create("mixture", problem, "random", seed=1).run(20)


def test_slices_and_contours_of_a_mixture_have_a_model(study: bi.Study) -> None:
    plot = study.plot.slice()
    assert any("Cox" in note for note in plot.notes)
    for panel in plot.chart.panels:
        (line,) = (one for one in panel.layers if isinstance(one, Line) and one.role == "model")
        assert np.isfinite(line.y).sum() > 30
    frame = study.plot.param_importances().data
    assert set(frame["method"]) == {"Shapley effect"}
    assert frame["importance"].sum() == pytest.approx(1.0, abs=0.1)
    assert frame.set_index("parameter")["importance"]["T"] < 0.1


def test_three_parts_of_a_mixture_have_a_triangle(study: bi.Study) -> None:
    chart = study.plot.contour(["a", "b", "c"]).chart
    (panel,) = chart.panels
    (heat,) = (one for one in panel.layers if isinstance(one, Heat))
    pure = {"a": 1.0, "b": 0.0, "c": 0.0, "T": study.best.design["T"]}
    corner = study.predict([pure], noise=False)
    assert heat.z[0, 0] == pytest.approx(float(corner.outputs["y"].median[0]), abs=1e-6)
    assert np.isnan(heat.z[-1, 0])
    (trials,) = (one for one in panel.layers if isinstance(one, Points) and one.role == "trial")
    by_number = {t.number: t.design for t in study.trials}
    first = by_number[int(trials.texts[0].split()[1].rstrip(","))]
    assert trials.x[0] == pytest.approx(first["b"] + first["c"] / 2)
    assert {len(one.layers) > 0 for one in study.plot.contour().chart.panels} == {True}


@pytest.mark.parametrize(
    "space",
    [
        bi.Box({"a": F(0, 1), "b": F(0, 1)}, constraints=["a == b"]),
        bi.Box(dict.fromkeys("abcd", F(0, 1)), constraints=[bi.Exactly(1, of=list("abcd"))]),
        bi.Box(dict.fromkeys("abc", bi.Int(0, 6)), constraints=["a + b + c == 6"]),
        bi.Box(
            {
                "s": bi.Choice("x", "y"),
                "a": bi.When("s", "x", F(0, 1)),
                "b": bi.When("s", "y", F(0, 1)),
            }
        ),
    ],
    ids=["equal", "one of four", "integers", "conditional"],
)  # fmt: skip
def test_no_panel_is_empty_without_a_reason(space: bi.Box, tmp_path: Any) -> None:
    def fn(p: Mapping[str, Any]) -> float:
        return float(sum(v for v in p.values() if not isinstance(v, str)))

    study = bi.Study.create("odd", bi.Problem(space, fn, bi.Minimize("y"), outputs=["y"]), "random")
    study.run(8)
    for plot in (study.plot.slice(), study.plot.contour()):
        assert all(panel.layers for panel in plot.chart.panels)
        for ending in ("png", "html", "json"):
            assert plot.save(tmp_path / f"plot.{ending}").stat().st_size > 1000


def observed(space: bi.Box) -> bi.Study:
    """Return a study of the sum of all numbers, with eight observations."""

    def fn(p: Mapping[str, Any]) -> float:
        return float(sum(v for v in p.values() if not isinstance(v, str)))

    problem = bi.Problem(space, fn, bi.Minimize("y"), outputs=["y"])
    return bi.Study.create("sum", problem, "random", seed=2).run(8)


def pairs(plot: Any) -> list[tuple[str, str]]:
    return [(panel.x.label, panel.y.label) for panel in plot.chart.panels]


def test_contours_leave_out_pairs_without_area() -> None:
    left = "Left out, because constraints or conditions leave no area: a and b."
    count = observed(
        bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=[bi.AtMost(1, of=["a", "b"])])
    )
    shown = count.plot.contour()
    assert pairs(shown) == [("a", "c"), ("b", "c")]
    assert any(note.startswith(left) for note in shown.notes)
    # A pair that the user names is shown.
    named = count.plot.contour(["a", "b"])
    assert pairs(named) == [("a", "b")]
    assert not any("Left out" in note for note in named.notes)
    branches = {"a": bi.When("s", "x", F(0, 1)), "b": bi.When("s", "y", F(0, 1))}
    branched = observed(bi.Box({"s": bi.Choice("x", "y"), **branches})).plot.contour()
    assert pairs(branched) == [("s", "a"), ("s", "b")]
    assert any(note.startswith(left) for note in branched.notes)


def test_one_panel_remains_if_no_pair_has_an_area() -> None:
    space = bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=[bi.AtMost(1, of=list("abc"))])
    shown = observed(space).plot.contour()
    assert len(shown.chart.panels) == 1
    assert any("a and c; b and c" in note for note in shown.notes)


def test_levels_have_an_area() -> None:
    space = bi.Box({"n": bi.Int(0, 3), "m": bi.Int(0, 3)}, constraints="n + m <= 3")
    shown = observed(space).plot.contour()
    assert pairs(shown) == [("n", "m")]
    assert not any("Left out" in note for note in shown.notes)


def test_empty_panels_state_the_reason() -> None:
    assert Panel().message == "No values to show."
    assert Panel(reason="No model.").message == "No model."
    shown = Points("trial", "", np.zeros(1), np.zeros(1))
    assert Panel(layers=(shown,), reason="No model.").message == ""
    hidden = Points("trial", "", np.zeros(1), np.full(1, np.nan))
    assert Panel(layers=(hidden,)).message


def test_names_that_cannot_be_drawn_are_refused(study: bi.Study) -> None:
    plot = study.plot
    for names, text in (
        (["a", "a"], "'a' twice"), ([["a"], "b"], "must be among"), (3, "list of names"),
        ([], "at least two parameters"), ("a", "at least two parameters"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=text):
            plot.contour(names)
    with pytest.raises(InvalidInputError, match="two outputs"):
        plot.pareto_front(["y"])
    with pytest.raises(InvalidInputError, match="directions by output"):
        plot.pareto_front("y")


@pytest.mark.parametrize("value", [0.0, 1e15, -1e90])
def test_constants_are_drawn(value: float, tmp_path: Path) -> None:
    space = bi.Box({"a": F(0, 1), "b": F(0, 1)})
    problem = bi.Problem(space, lambda _: value, bi.Minimize("y"), outputs=["y"])
    plots = bi.Study.create("constant", problem, "random").run(4).plot
    for name in ("contour", "slice"):
        for ending in ("png", "csv"):
            getattr(plots, name)().save(tmp_path / f"{name}.{ending}")
    assert (tmp_path / "slice.csv").read_text().startswith("trial,class,a,b,y")


def test_absent_parameters_have_a_place_in_parallel_coordinates() -> None:
    space = bi.Box({"solver": bi.Choice("sgd", "adam"), "m": bi.When("solver", "sgd", F(0, 1))})
    study = bi.Study.create("net", bi.Problem(space, None, bi.Minimize("y"), outputs=["y"]))
    study.add([{"solver": "adam", "y": 1.0}, {"solver": "sgd", "m": 0.5, "y": 2.0}])
    (panel,) = study.plot.parallel_coordinate().chart.panels
    assert any("absent" in one.texts for one in panel.layers if isinstance(one, Labels))
    (paths,) = (one for one in panel.layers if isinstance(one, Paths))
    assert np.isfinite(paths.y).all()
