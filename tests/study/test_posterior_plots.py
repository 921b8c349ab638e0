"""Plots of the posterior of designs: corner plots of boxes, maps and galleries of latents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.report.charts.layers import Band, Points
from bo_invert.types import Array


def two_rings(x: dict[str, Any]) -> float:
    return float(abs(x["a"]) + x["b"] ** 2)


@pytest.fixture(scope="module")
def rings() -> bi.Study:
    """Study whose solutions are two separate branches, a = 2 and a = -2 for small b."""
    space = bi.Box({"a": bi.Float(-3.0, 3.0), "b": bi.Float(-0.3, 0.3)})
    problem = bi.Problem(
        space, two_rings, bi.Target({"y": 2.0}, tolerance=0.1), outputs=["y"], units={"a": "mm"}
    )
    study = bi.Study.create("rings", problem, "sobol", seed=0)
    designs = space.domain.values(space.domain.sample(np.random.default_rng(0), 40))
    study.add(designs, [two_rings(one) for one in designs])
    return study


def oven(count: int = 30) -> bi.Study:
    """Study of eight parameters of all types, of which four matter."""
    space = bi.Box(
        {
            "heat": bi.Float(80.0, 220.0),
            "time": bi.Float(1.0, 100.0, log=True),
            "flour": bi.Choice("wheat", "rye", "spelt"),
            "yeast": bi.When("flour", "wheat", bi.Float(0.0, 1.0)),
            "trays": bi.Int(1, 4),
            **{f"idle {i}": bi.Float(0.0, 1.0) for i in range(3)},
            "oven": bi.Fixed("stone"),
        }
    )

    def taste(x: dict[str, Any]) -> float:
        return float(x["heat"] / 40.0 + np.log10(x["time"]) + 2.0 * (x["flour"] == "rye"))

    problem = bi.Problem(space, taste, bi.Target({"y": 5.0}, tolerance=0.1), outputs=["y"])
    study = bi.Study.create("oven", problem, "sobol", seed=0)
    designs = space.domain.values(space.domain.sample(np.random.default_rng(0), count))
    study.add(designs, [taste(one) for one in designs])
    return study


def points(plot: Any, panel: int) -> dict[str, Points]:
    layers = plot.chart.panels[panel].layers
    return {layer.role: layer for layer in layers if isinstance(layer, Points)}


def test_pairs_are_coloured_by_branch_and_verified_designs_are_marked(rings: bi.Study) -> None:
    found = rings.posterior(300)
    plot = found.plot()
    assert plot.chart.corner == 2
    pair = points(plot, 1)
    assert {"branch 1", "branch 2", "verified"} <= set(pair)
    sides = {tuple(np.unique(np.sign(pair[role].x))) for role in ("branch 1", "branch 2")}
    assert sides == {(-1.0,), (1.0,)}
    assert sum(len(pair[f"branch {i + 1}"].x) for i in range(2)) == 300
    hits = [t.design["a"] for t in rings.trials if abs(two_rings(t.design) - 2.0) <= 0.1]
    assert sorted(pair["verified"].x) == pytest.approx(sorted(hits))
    assert plot.chart.panels[1].x.label == "a [mm]"
    assert list(plot.data["class"].value_counts()) == [300, len(hits)]


def test_marginals_are_stacked_shares_of_the_samples(rings: bi.Study) -> None:
    bands = [
        layer
        for layer in rings.posterior(300).plot().chart.panels[0].layers
        if isinstance(layer, Band)
    ]
    assert np.array_equal(bands[0].high, bands[1].low)
    assert bands[-1].high[:-1].sum() == pytest.approx(1.0)
    assert bands[0].low.max() == 0.0


def test_a_study_draws_its_posterior_in_both_renderers(rings: bi.Study, tmp_path: Path) -> None:
    plot = rings.plot.posterior()
    assert plot.chart.heading.endswith("rings")
    pair = {tuple(layer.x) for layer in points(plot, 1).values()}
    assert pair <= {tuple(trace.x) for trace in plot.figure.data if trace.mode == "markers"}
    for width in (400, 1200):
        assert len(plot.to_matplotlib(width).axes) == 3
        assert plot.save(tmp_path / "a.png", width=width, scale=1.0).stat().st_size > 1000
    page = plot.save(tmp_path / "a.html").read_text()
    assert "panels corner" in page
    assert "--row:2;--column:1" in page


def test_inner_panels_of_a_wide_corner_have_no_labels_and_narrow_ones_form_a_grid() -> None:
    plot = oven().posterior(50).plot()
    assert plot.chart.corner == 6
    wide, narrow = plot.to_matplotlib(1200), plot.to_matplotlib(400)
    assert wide.axes[1].get_ylabel()
    assert not wide.axes[1].get_xlabel()
    assert all(axes.get_xlabel() for axes in narrow.axes)
    columns = {round(axes.get_subplotspec().colspan.start) for axes in narrow.axes}
    assert columns == {0, 1}


def test_many_parameters_are_reduced_to_the_ones_that_the_target_restricts() -> None:
    plot = oven().posterior(200).plot()
    shown = {panel.x.label for panel in plot.chart.panels}
    assert {"heat", "time", "flour"} <= shown
    assert any("6 of 8 parameters" in note for note in plot.notes)
    assert "oven" not in plot.data.columns
    chosen = oven().posterior(50).plot(["flour", "yeast"])
    assert [text for _, text in chosen.chart.panels[0].x.ticks] == ["wheat", "rye", "spelt"]
    assert any("conditional" in note for note in chosen.notes)
    # Designs without yeast are not drawn beside it, and levels lie beside each other.
    pair = np.concatenate([layer.x for layer in points(chosen, 1).values()])
    assert (np.abs(pair) < 0.5).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["c"], "among"),
        (["a", "a"], "twice"),
        ([], "at least one"),
        (3, "must be a list"),
    ],
)
def test_params_are_checked(rings: bi.Study, params: Any, message: str) -> None:
    with pytest.raises(bi.InvalidInputError, match=message):
        rings.posterior(10).plot(params)


def test_seven_parameters_are_too_many() -> None:
    found = oven().posterior(10)
    with pytest.raises(bi.InvalidInputError, match="at most 6 parameters, got 7"):
        found.plot(list(found.axes)[:7])


def _latent(d: int, decode: Any) -> bi.Study:
    def mean(x: Array) -> float:
        return float(np.abs(x).max())

    target = bi.Target({"y": 0.8}, tolerance=0.1)
    problem = bi.Problem(bi.Latent(decode, d), mean, target, outputs=["y"])
    study = bi.Study.create("latent", problem, "sobol", seed=0)
    drawn = problem.space.sample(np.random.default_rng(0), 25)
    study.add(None, [mean(one) for one in problem.space.decode(drawn)], points=drawn)
    return study


def test_a_latent_of_images_has_a_map_and_a_gallery_of_each_branch(tmp_path: Path) -> None:
    def images(z: Array) -> Array:
        ramp = np.linspace(0.0, 1.0, 64).reshape(8, 8)
        return 1.0 / (1.0 + np.exp(-(z[:, :1, None] * ramp + z[:, 1:2, None] * ramp.T)))

    plot = _latent(3, images).plot.posterior()
    first, *gallery = plot.chart.panels
    assert first.picture is None
    assert {"background", "branch 1"} <= set(points(plot, 0))
    assert gallery
    assert all(panel.picture is not None for panel in gallery)
    assert gallery[0].title.startswith("branch 0")
    assert any("principal axes" in note for note in plot.notes)
    plot.save(tmp_path / "a.html")
    assert plot.to_matplotlib(400).axes


def test_a_latent_without_pictures_has_a_map_or_a_corner_of_coordinates() -> None:
    study = _latent(2, lambda z: z)
    assert len(study.plot.posterior().chart.panels) == 1
    assert study.plot.posterior(["z0", "z1"]).chart.corner == 2
    assert _latent(1, lambda z: z).plot.posterior().chart.corner == 1
