"""Tests of the plausibility penalty in acquisition functions."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert import registry
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.reference_measure import Reference
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import ProblemChangedError
from bo_invert.models.acquisition.plausibility_penalty import plausibility_penalty
from bo_invert.models.base import to_unit
from bo_invert.storage.open import open_store
from bo_invert.types import JSON


def test_no_penalty_without_a_plausibility_bound() -> None:
    assert plausibility_penalty(gaussian_domain(3, radius=3.0)) is None
    assert plausibility_penalty(bi.Box([0.0], [1.0]).domain) is None


def latent(floor: float, measured: bool) -> Domain:
    return replace(same(measured).domain, floor=floor)


@pytest.mark.parametrize("measured", [True, False])
def test_the_penalty_begins_at_the_plausibility_bound(measured: bool) -> None:
    rng = np.random.default_rng(0)
    domain = latent(0.2, measured)
    score = plausibility_penalty(domain)
    assert score is not None
    points = replace(domain, floor=0.0).uniform(rng, 4000)
    values = score(torch.tensor(to_unit(domain, points))).numpy()
    plausible = domain.plausibility(points) >= 0.2
    clear = np.abs(domain.plausibility(points) - 0.2) > 0.02
    assert 50 < plausible.sum() < 3900
    assert (values[plausible & clear] == 0.0).all()
    assert (values[~plausible & clear] < -10.0).all()


def mixed() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-2.0, 0.5, (400, 3)), rng.normal(2.0, 0.5, (400, 3))])


@pytest.mark.parametrize("floor", [0.05, 0.5])
@pytest.mark.parametrize("measured", [True, False])
def test_implausible_points_move_to_the_nearest_boundary(measured: bool, floor: float) -> None:
    domain = latent(floor, measured)
    points = replace(domain, floor=0.0).uniform(np.random.default_rng(1), 2000)
    moved = domain.project(points)
    outside = domain.plausibility(points) < floor - 0.01
    assert 0.1 < outside.mean() < 1.0
    ends = domain.plausibility(moved[outside])
    assert ends.min() > floor - 0.01
    assert (ends < floor + 0.02).mean() > 0.95  # few come over a ridge
    well = domain.plausibility(points) > floor + 0.01
    np.testing.assert_array_equal(moved[well], points[well])
    if not measured:
        lengths = np.linalg.norm(moved[outside], axis=1) / np.linalg.norm(points[outside], axis=1)
        np.testing.assert_allclose(moved[outside], lengths[:, None] * points[outside], atol=1e-9)


def test_a_mode_below_the_bound_is_left() -> None:
    """The gradient of the density does not lead to the boundary from there."""
    means, factors = np.array([[-3.0, 0.0], [3.0, 0.0]]), np.array([0.3 * np.eye(2), np.eye(2)])
    reference = Reference(np.array([0.99, 0.01]), means, factors, np.empty(0))
    known = reference.sample(np.random.default_rng(0), 5000)
    reference = replace(reference, quantiles=np.sort(reference.log_density(known)))
    domain = gaussian_domain(2, radius=5.0, reference=reference, floor=0.3)
    (moved,) = domain.project(np.array([[3.0, 0.5]]))
    assert domain.plausibility(moved)[0] >= 0.3


def test_a_point_moves_to_the_boundary_of_its_own_mode() -> None:
    """Steps pass the boundary; rounding errors would move a point at it to another mode."""
    domain = latent(0.5, True)
    move = domain.project
    for seed in range(20):
        points = replace(domain, floor=0.0).sample(np.random.default_rng(seed), 1000)
        sides = points.sum(axis=1)
        moved = move(points)
        assert (domain.plausibility(moved) >= 0.5).all()
        assert (moved.sum(axis=1) * sides > 0.0)[np.abs(sides) > 1.0].all()


#: Strategy that delegates to others, and those of other problems.
COMPOSED = {"then", "nearest", "robust"}
#: Options that save time: a plain model, few initial points, short walks.
PLAIN_GP: JSON = {"kernel": "matern", "warp": False, "initial": 5}
OPTIONS: dict[str, JSON] = {
    "gp": PLAIN_GP,
    "turbo": PLAIN_GP,
    "pcn": {"steps": 20, "walkers": 4, "initial": 5},
    "polish": {"share": 0.4, "base": {"name": "gp", "options": PLAIN_GP}},
    "ax": {"initialization_budget": 5},
    "botorch": {"num_restarts": 2, "raw_samples": 32},
}
PEERS = {"ax", "botorch", "optuna", "nevergrad", "trust_bo"}


@cache
def same(measured: bool) -> bi.Latent:
    """Latent space whose designs are the codes, with a mixture of two modes or without."""
    return bi.Latent(_Same(), dim=3, **({"codes": mixed()} if measured else {}))


def far(realism: float | None, measured: bool) -> bi.Problem:
    """Problem with a target in a region of few codes."""
    return bi.Problem(
        same(measured),
        _Both(),
        bi.Target({"sum": 9.0, "first": 3.0}),
        outputs=["sum", "first"],
        realism=realism,
    )


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        pytest.param(name, measured, marks=[pytest.mark.peers] if name in PEERS else [])
        for name in sorted({*registry.names("strategies")} - COMPOSED)
        for measured in ([True] if name in PEERS else [False, True])
    ],
)
@pytest.mark.slow
def test_proposals_are_plausible(name: str, measured: bool) -> None:
    strategy = {"name": name, "options": OPTIONS.get(name, {})}
    study = bi.Study.create("s", far(0.5, measured), strategy=strategy, seed=0).run(7)
    points = np.array([trial.point for trial in study.trials])
    assert study.problem.space.domain.plausibility(points).min() > 0.49


class _Same(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z


class _Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1, keepdim=True)


class _Both(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.sum(-1), x[..., 0]], dim=-1)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("measured", [True, False])
def test_descents_respect_the_bound(optimizer: str, measured: bool) -> None:
    """They end at its boundary; without a bound they continue to the radius."""
    ends = {}
    for floor in (0.0, 0.5):
        space = same(measured)
        options = {"optimizer": optimizer, "base": "prior", "share": 0.2}
        problem = bi.Problem(space, _Sum(), bi.Maximize(), name="far", realism=1.0 - floor)
        study = bi.Study.create(
            "s", problem, strategy={"name": "polish", "options": options}, seed=0
        ).run(100)
        descents = [trial for trial in study.trials if trial.query.descent is not None]
        best = min(descents, key=lambda trial: trial.loss or 0.0)
        ends[floor] = space.domain.plausibility(np.array([trial.point for trial in descents]))
        inside = space.domain.uniform(np.random.default_rng(0), 20000)
        inside = inside[space.domain.plausibility(inside) >= floor]
        assert -(best.loss or 0.0) > 0.97 * inside.sum(axis=1).max()
    assert ends[0.0].min() < 0.1
    assert ends[0.5].min() > 0.49


def test_realism_must_be_a_share() -> None:
    problem = far(None, True)
    for share in (0.0, 1.5, True, "most", np.mean):
        with pytest.raises(bi.InvalidInputError, match="realism must be a share"):
            problem.realism = share  # type: ignore[assignment]
    assert problem.statement.domain.floor == 0.0
    problem.realism = 0.95
    assert problem.statement.domain.floor == pytest.approx(0.05)
    assert problem.space.domain.floor == 0.0, "of points that users give, nothing is moved"


def test_another_bound_is_another_problem() -> None:
    """The bound changes the proposals of strategies."""
    store = open_store(None)
    bi.Study.create("s", far(0.9, True), strategy="gp", storage=store)
    with pytest.raises(ProblemChangedError, match="realism"):
        bi.Study.open("s", store, problem=far(0.99, True))
    assert "realism" not in far(0.99, True).to_json()
    assert far(None, True).to_json() == far(1.0, True).to_json()


def test_a_users_own_point_is_not_moved() -> None:
    study = bi.Study.create("s", far(0.5, True), strategy="prior")
    point = study.problem.space.domain.project(np.array([2.5, 0.0, 0.0]))
    assert study.problem.space.plausibility(point[None])[0] < 0.5
    assert np.array_equal(study.enqueue(point=point).point, point)
    assert np.array_equal(study.add(points=[point], Y=[[1.0, 2.0]])[0].point, point)
