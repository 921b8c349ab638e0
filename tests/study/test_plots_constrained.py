"""Tests of plots in constrained spaces: importances, slices, contours and ternary panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.search_domain import Domain
from bo_invert.report.charts.chart import Panel
from bo_invert.report.charts.layers import Heat, Line, Points
from bo_invert.report.charts.sensitivity import importances, shapley_effects
from bo_invert.types import Array

F = bi.Float


class Known:
    """Function as a model without uncertainty."""

    def __init__(self, fn: Callable[[Array], Array]) -> None:
        self._fn = fn

    def draws(self, points: Array, output: str | None) -> Array:
        return np.array([self._fn(points)] * 8)


def shares(domain: Domain, fn: Callable[[Array], Array], count: int | None = None) -> Array:
    return np.asarray(np.median(shapley_effects(Known(fn), domain, None, count).shares, axis=0))


def mixture_study(n: int = 12) -> bi.Study:
    space = bi.Box(
        {"a": F(0, 1), "b": F(0, 1), "c": F(0, 1), "T": F(20, 80)}, constraints=["a + b + c == 1"]
    )
    problem = bi.Problem(
        space, lambda p: 4 * p["a"] * p["b"] - p["c"], bi.Maximize("y"), outputs=["y"]
    )
    return bi.Study.create("mixture", problem, "random", seed=1).run(n)


def test_shapley_effects_of_a_mixture_agree_with_theory() -> None:
    # Fractions are uniform on the triangle: c({a}) = 0, c({a, b}) = E (1 - c)^2 / 12 = 1/24 and
    # c(all) = Var a = 1/18 give the effect (2/144 + 1/54) / (1/18) = 0.583 of a.
    space = bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=["a + b + c == 1"])
    found = shares(space.domain, lambda x: x[:, 0])
    np.testing.assert_allclose(found, [0.583, 0.208, 0.208], atol=0.1)
    equal = shares(space.domain, lambda x: x.prod(axis=1))
    np.testing.assert_allclose(equal, 1 / 3, atol=0.1)


def test_shapley_effects_without_dependence_are_shares_of_variance() -> None:
    space = bi.Box(dict.fromkeys("abc", F(0, 1)), constraints=["a + b + c <= 3"])
    found = shares(space.domain, lambda x: x[:, 0] + 2 * x[:, 1])
    np.testing.assert_allclose(found, [0.2, 0.8, 0.0], atol=0.1)


def test_equal_parameters_share_their_effect() -> None:
    space = bi.Box(dict.fromkeys("ab", F(0, 1)), constraints=["a == b"])
    np.testing.assert_allclose(shares(space.domain, lambda x: x[:, 0]), 0.5, atol=0.1)


def test_parameters_that_decide_on_others_have_importance() -> None:
    space = bi.Box({"solver": bi.Choice("sgd", "adam"), "m": bi.When("solver", "sgd", F(0, 1))})

    def fn(points: Array) -> Array:
        rows = space.domain.values(points)
        return np.array([row.get("m", 2.0) for row in rows])

    found = importances(Known(fn), space.domain, None)
    solver, m = np.median(found.shares, axis=0)
    assert solver > 0.8
    assert 0.01 < m < 0.3


def test_slices_and_contours_of_a_mixture_have_a_model() -> None:
    study = mixture_study()
    plot = study.plot.slice()
    assert any("Cox" in note for note in plot.notes)
    for panel in plot.chart.panels:
        (line,) = (one for one in panel.layers if isinstance(one, Line) and one.role == "model")
        assert np.isfinite(line.y).sum() > 30
    frame = study.plot.param_importances().data
    assert set(frame["method"]) == {"Shapley effect"}
    assert frame["importance"].sum() == pytest.approx(1.0, abs=0.1)
    assert frame.set_index("parameter")["importance"]["T"] < 0.1


def test_three_parts_of_a_mixture_have_a_triangle() -> None:
    study = mixture_study()
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
    for plot in (study.plot.slice(), study.plot.contour(), study.plot.param_importances()):
        assert all(panel.layers for panel in plot.chart.panels)
        for ending in ("png", "html", "json"):
            assert plot.save(tmp_path / f"plot.{ending}").stat().st_size > 1000


def test_empty_panels_state_the_reason() -> None:
    assert Panel().message == "No values to show."
    assert Panel(reason="No model.").message == "No model."
    shown = Points("trial", "", np.zeros(1), np.zeros(1))
    assert Panel(layers=(shown,), reason="No model.").message == ""
    hidden = Points("trial", "", np.zeros(1), np.full(1, np.nan))
    assert Panel(layers=(hidden,)).message
