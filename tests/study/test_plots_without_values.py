"""Plots and reports of studies without successes, and of outputs that do not vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.report.charts.sensitivity import importances
from bo_invert.types import Array


def failed() -> bi.Study:
    pareto = bi.Pareto(bi.Minimize("y"), bi.Maximize("z"))
    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), None, pareto, outputs=["y", "z"])
    study = bi.Study.create("lab", problem, "random")
    study.add([{"a": 0.1}, {"a": 0.2}], [bi.FailedError("spilled"), bi.FailedError("cracked")])
    return study


def test_a_front_without_successes_says_why(tmp_path: Path) -> None:
    study = failed()
    for plot in (study.plot.pareto_front(), study.plot.pareto_front(["y", "z"])):
        (panel,) = plot.chart.panels
        assert (
            panel.message
            == "No trial is completed: 2 trials failed. Reason of the last one: cracked"
        )
        assert len(plot.data) == 0
    study.report(tmp_path / "report.html")
    assert "2 trials failed" in (tmp_path / "report.html").read_text()
    assert study.front.summary() == "no feasible trial yet"


@pytest.mark.parametrize("constraints", [[], ["a + b <= 1.5"]])
@pytest.mark.parametrize(
    "output", [lambda a: 5.0, lambda a: 0.0, lambda a: 5.0 + 1e-15 * np.sin(9 * a)]
)
def test_an_output_that_does_not_vary_has_no_importances(
    output: Callable[[float], float], constraints: list[str], tmp_path: Path
) -> None:
    space = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)}, constraints=constraints)
    study = bi.Study.create("lab", bi.Problem(space, None, bi.Minimize("y"), outputs=["y"]))
    designs = [{"a": x, "b": 1.0 - x} for x in np.linspace(0, 1, 7).tolist()]
    study.add(designs, [output(one["a"]) for one in designs])
    plot = study.plot.param_importances()
    assert plot.chart.panels[0].message.startswith("y does not vary, so")
    assert plot.data["importance"].isna().all()
    plot.save(tmp_path / "plot.html")


class Known:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def draws(self, points: Array, output: str | None) -> Array:
        return 1000.0 + self.scale * np.array([points[:, 0]] * 4)


@pytest.mark.parametrize("constraints", [[], ["a + b <= 1.5"]])
def test_indices_are_shares_and_rounding_has_none(constraints: list[str]) -> None:
    space = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)}, constraints=constraints)
    for seed in range(4):
        found = importances(Known(1.0), space.domain, None, count=64, seed=seed)
        assert not found.constant
        assert found.shares.min() >= 0.0
        assert found.shares.max() <= 1.0
    assert importances(Known(1e-12), space.domain, None, count=64).constant
