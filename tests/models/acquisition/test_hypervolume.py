"""Tests of the hypervolume, of its boxes, and of its expected improvement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.models.acquisition import hypervolume_improvement
from bo_invert.models.acquisition.box_decomposition import hypervolume, non_dominated_boxes
from bo_invert.models.acquisition.known_plausibility import known_plausibility
from bo_invert.models.base import to_unit
from bo_invert.models.fitted_model import FittedModel, fit_model
from bo_invert.models.optim.score import DifferentiableScore
from bo_invert.spaces.latent import Latent
from bo_invert.study.study import Study
from bo_invert.types import Array


def front(k: int, n: int) -> Array:
    rows = np.abs(np.random.default_rng(k).normal(size=(n, k)))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(("k", "n"), [(2, 7), (3, 6), (4, 5)])
def test_volume_and_boxes_agree_with_samples(k: int, n: int) -> None:
    losses, reference = front(k, n), np.full(k, 1.1)
    losses[0] = 2.0  # beyond the reference point
    drawn = 1.1 * np.random.default_rng(0).random((20_000, k))
    dominated = (losses[:, None] <= drawn).all(2).any(0)
    share = hypervolume(losses, reference) / 1.1**k
    assert share == pytest.approx(dominated.mean(), abs=0.015)
    lower, upper = non_dominated_boxes(losses, reference)
    inside = ((lower[:, None] < drawn) & (drawn < upper[:, None])).all(2).sum(0)
    assert (inside == ~dominated).all()  # disjoint, and complete


def test_points_beyond_the_reference_have_no_volume() -> None:
    assert hypervolume(np.array([[1.0, 2.0]]), np.array([1.0, 3.0])) == 0.0
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0.0
    lower, upper = non_dominated_boxes(np.empty((0, 2)), np.ones(2))
    assert upper.tolist() == [[1.0, 1.0]]
    assert np.isneginf(lower).all()


def outputs(p: dict[str, float]) -> dict[str, float]:
    x = np.array(list(p.values()))
    wave = 3 * ((x - 0.5) ** 2).sum() + np.sin(5 * x[0])
    return {"a": float((x**2).sum()), "b": float(wave), "c": float(x[0] - x[1]), "g": float(x[1])}


def model(criteria: bi.Pareto, noisy: bool, constraints: list[str]) -> FittedModel:
    space = bi.Box({f"x{i}": (0.0, 1.0) for i in range(3)})
    names = ["a", "b", "c", "g"]
    problem = bi.Problem(space, outputs, criteria, outputs=names, constraints=constraints)
    history = Study.create("s", problem, "sobol").run(16).history
    unit = to_unit(problem.domain, history.points)
    return fit_model(problem.statement, history, unit, noisy=noisy)


TWO = bi.Pareto(bi.Minimize("a"), bi.Maximize("b"))
THREE = bi.Pareto(bi.Minimize("a"), bi.Maximize("b"), bi.Minimize("c"))
CASES = [(TWO, [], False), (TWO, ["g <= 0.5"], False), (THREE, [], False), (TWO, [], True)]


@pytest.mark.parametrize(("criteria", "constraints", "noisy"), CASES)
@pytest.mark.parametrize("pending", [0, 2])
def test_the_analytic_form_agrees_with_samples_and_differences(
    criteria: bi.Pareto, constraints: list[str], noisy: bool, pending: int, monkeypatch: Any
) -> None:
    fitted = model(criteria, noisy, constraints)
    rng = np.random.default_rng(1)
    waiting, x = rng.random((pending, 3)), rng.random((60, 3))
    score: Any = fitted.log_expected_improvement(waiting, seed=0)
    assert isinstance(score, DifferentiableScore)
    values, slopes = score.gradient(x, np.zeros(60, dtype=int))
    steps = 1e-6 * np.eye(3)
    numeric = np.stack([(score.values(x + e) - score.values(x - e)) / 2e-6 for e in steps], 1)
    # Far below, rounding errors of the differences exceed the tolerance.
    near = values > -1e4
    assert near.sum() >= 10
    allowed = 1e-3 * (1.0 + np.abs(numeric).max(1))[:, None]
    assert (np.abs(slopes - numeric) <= allowed)[near].all()
    # Samples are exact where the improvement is likely.
    monkeypatch.setattr(hypervolume_improvement._Coordinates, "linear", lambda *_: None)
    monkeypatch.setattr(hypervolume_improvement, "_SAMPLES", {2: 256, 3: 128})
    sampled = fitted.log_expected_improvement(waiting, seed=0)
    likely = np.argsort(-values)[:3]
    likely = likely[values[likely] > -7.0]
    assert values[likely] == pytest.approx(sampled.values(x[likely]), abs=0.5)


@pytest.mark.parametrize(
    "criteria",
    [
        bi.Pareto(bi.Minimize("a"), bi.Target({"b": (0.5, 1.0), "c": 0.2})),
        bi.Pareto(bi.Minimize("a"), bi.Composite(lambda y: (y**2).sum(-1), ("b", "c"))),
        bi.Pareto(bi.Minimize("a"), bi.Composite(lambda y: np.abs(np.asarray(y)).sum(-1))),
    ],
)
def test_other_criteria_are_sampled_or_modelled(criteria: bi.Pareto) -> None:
    fitted = model(criteria, False, [])
    score: Any = fitted.log_expected_improvement(np.full((1, 3), 0.3), seed=0)
    x = np.random.default_rng(2).random((8, 3))
    values, slopes = score.gradient(x, np.zeros(8, dtype=int))
    assert np.isfinite(values).all()
    assert np.isfinite(slopes).all()


def test_a_distant_reference_point_has_a_slope() -> None:
    criteria = bi.Pareto(bi.Minimize("a"), bi.Maximize("b"), reference=[-5.0, 50.0])
    score: Any = model(criteria, False, []).log_expected_improvement(np.empty((0, 3)), seed=0)
    values, slopes = score.gradient(np.full((1, 3), 0.4), np.zeros(1, dtype=int))
    assert np.isfinite(values).all()
    assert np.abs(slopes).max() > 0.0


@pytest.mark.parametrize("fitted", [False, True])
def test_a_known_plausibility_has_a_slope(fitted: bool) -> None:
    codes = np.random.default_rng(0).normal(size=(2000, 2)) @ np.array([[1.0, 0.6], [0.0, 0.5]])
    space = Latent(lambda z: z, dim=2, data=codes if fitted else None, encoder=lambda x: x)
    domain, points = space.domain, space.sample(np.random.default_rng(1), 40)
    known = known_plausibility(domain, points, domain.plausibility(points))
    assert known is not None
    unit = to_unit(domain, points)
    values, slopes = known(unit)
    assert values == pytest.approx(domain.plausibility(points), abs=2e-3)
    steps = 1e-2 * np.eye(2)
    numeric = np.stack([(known(unit + e)[0] - known(unit - e)[0]) / 2e-2 for e in steps], 1)
    near = np.abs(slopes - numeric) <= 0.25 * np.abs(numeric).max()
    assert near.mean() > 0.9
    assert known_plausibility(domain, points, np.full(40, 0.5)) is None


def test_the_model_of_a_latent_knows_the_plausibility() -> None:
    space = Latent(lambda z: z, dim=2)
    criteria = bi.Pareto(bi.Maximize("s"), bi.Plausibility())
    problem = bi.Problem(space, lambda x: {"s": float(x[0])}, criteria)
    study = Study.create("latent", problem, "auto", seed=1).run(16)
    found = study.front
    assert found.hypervolume > 0.25
    exact = space.plausibility(np.array([trial.point for trial in found]))
    assert found.values[:, 1] == pytest.approx(exact)
    assert torch.is_grad_enabled()
