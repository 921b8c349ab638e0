"""The wish for plausible designs inside acquisitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert import registry
from bo_invert.domain import Domain, Reference
from bo_invert.models.base import to_unit
from bo_invert.models.confine import confined
from bo_invert.models.realism import realism
from bo_invert.types import JSON


def test_nothing_is_wished_without_a_floor() -> None:
    assert realism(Domain("gaussian", 3, {}, radius=3.0)) is None
    assert realism(bi.Box([0.0], [1.0]).domain) is None


@pytest.mark.parametrize("measured", [True, False])
def test_the_edge_lies_at_the_floor(measured: bool) -> None:
    rng = np.random.default_rng(0)
    space = bi.Latent(lambda z: z, dim=3, floor=0.2, **({"codes": mixed()} if measured else {}))
    domain = space.domain
    score = realism(domain)
    assert score is not None
    points = domain.uniform(rng, 4000)
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
def test_implausible_points_are_moved_to_the_edge_nearby(measured: bool, floor: float) -> None:
    domain = bi.Latent(lambda z: z, dim=3, floor=floor, **({"codes": mixed()} if measured else {})).domain
    points = domain.uniform(np.random.default_rng(1), 2000)
    moved = confined(domain)(points)
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


def test_a_mode_below_the_floor_is_left() -> None:
    """The edge cannot be found up the density from there."""
    means, factors = np.array([[-3.0, 0.0], [3.0, 0.0]]), np.array([0.3 * np.eye(2), np.eye(2)])
    reference = Reference(np.array([0.99, 0.01]), means, factors, np.empty(0))
    known = reference.sample(np.random.default_rng(0), 5000)
    reference = replace(reference, quantiles=np.sort(reference.log_density(known)))
    domain = Domain("gaussian", 2, {}, radius=5.0, reference=reference, floor=0.3)
    (moved,) = confined(domain)(np.array([[3.0, 0.5]]))
    assert domain.plausibility(moved)[0] >= 0.3


def test_a_point_goes_to_the_edge_of_its_own_mode() -> None:
    """Steps that come ever nearer to the edge must pass it: rounding would send the point across to another mode."""
    domain = bi.Latent(lambda z: z, dim=3, floor=0.5, codes=mixed()).domain
    move = confined(domain)
    for seed in range(20):
        points = domain.sample(np.random.default_rng(seed), 1000)
        sides = points.sum(axis=1)
        moved = move(points)
        assert (domain.plausibility(moved) >= 0.5).all()
        assert (moved.sum(axis=1) * sides > 0.0)[np.abs(sides) > 1.0].all()


#: Nothing of theirs could heed it: they search without a model.
PLAIN = {"random", "sobol", "prior", "cmaes", "gradient", "differential_evolution", "dual_annealing", "nevergrad"}
PLAIN |= {"scipy_least_squares"}
#: Other people's programs, which know bounds but no floor; and a network that imitates draws.
OTHERS = {"ax", "botorch", "optuna", "amortized"}
#: It asks as its children do.
COMPOSED = {"then"}
OPTIONS: dict[str, JSON] = {"pcn": {"steps": 20}, "o3": {"draws": 6, "seeds": 4}, "polish": {"share": 0.4}}


def far(floor: float, measured: bool) -> bi.Problem:
    """The target lies where only few codes are."""
    space = bi.Latent(lambda z: z, dim=3, floor=floor, **({"codes": mixed()} if measured else {}))
    return bi.Problem(space, lambda x: {"sum": float(x.sum()), "first": x[0]}, bi.Target({"sum": 9.0, "first": 3.0}))


MODELLED = sorted({*registry.names("strategies")} - PLAIN - OTHERS - COMPOSED)


@pytest.mark.parametrize(
    ("name", "measured"), [*((name, False) for name in MODELLED), ("spherical", True), ("o3", True)]
)
def test_what_is_asked_keeps_to_the_floor(name: str, measured: bool) -> None:
    strategy = {"name": name, "options": OPTIONS.get(name, {})}
    study = bi.Study.create("s", far(0.5, measured), strategy=strategy, seed=0).run(10)
    points = np.array([trial.point for trial in study.trials])
    assert study.problem.space.domain.plausibility(points).min() > 0.49


class _Same(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z


class _Sum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1, keepdim=True)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("measured", [True, False])
def test_descents_keep_to_the_floor(optimizer: str, measured: bool) -> None:
    """They end at its edge, where the sum is greatest; without a floor they go on to the radius."""
    ends = {}
    for floor in (0.0, 0.5):
        space = bi.Latent(_Same(), dim=3, floor=floor, **({"codes": mixed()} if measured else {}))
        options = {"optimizer": optimizer, "base": "prior", "share": 0.2}
        problem = bi.Problem(space, _Sum(), bi.Maximize(), name="far")
        study = bi.Study.create("s", problem, strategy={"name": "polish", "options": options}, seed=0).run(100)
        descents = [trial for trial in study.trials if trial.query.descent is not None]
        best = min(descents, key=lambda trial: trial.loss or 0.0)
        ends[floor] = space.domain.plausibility(np.array([trial.point for trial in descents]))
        inside = space.domain.uniform(np.random.default_rng(0), 20000)
        inside = inside[space.domain.plausibility(inside) >= floor]
        assert -(best.loss or 0.0) > 0.97 * inside.sum(axis=1).max()
    assert ends[0.0].min() < 0.1
    assert ends[0.5].min() > 0.49


def test_a_floor_is_a_plausibility() -> None:
    with pytest.raises(bi.InvalidInput, match="floor"):
        bi.Latent(lambda z: z, dim=2, floor=1.0)
