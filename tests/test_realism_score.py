"""The wish for plausible designs inside acquisitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domain import Domain
from bo_invert.models.base import to_unit
from bo_invert.models.realism import realism


def test_nothing_is_wished_without_a_floor() -> None:
    assert realism(Domain("gaussian", 3, {}, radius=3.0)) is None
    assert realism(bi.Box([0.0], [1.0]).domain) is None


@pytest.mark.parametrize("measured", [True, False])
def test_the_edge_lies_at_the_floor(measured: bool) -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(-2.0, 0.5, (400, 3)), rng.normal(2.0, 0.5, (400, 3))])
    space = bi.Latent(lambda z: z, dim=3, floor=0.2, **({"codes": codes} if measured else {}))
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


@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "gp"},
        {"name": "pcn", "options": {"steps": 20}},
        {"name": "o3", "options": {"draws": 6, "seeds": 4}},
    ],
    ids=lambda spec: str(spec["name"]),
)
def test_the_search_keeps_to_the_floor(strategy: Any) -> None:
    """The best value lies far out; a floor keeps the queries after the design inside."""
    found = {}
    for floor in (0.0, 0.4):
        space = bi.Latent(lambda z: z, dim=3, floor=floor)
        problem = bi.Problem(space, lambda x: float(x.sum()), bi.Maximize(), name="far")
        study = bi.Study.create("s", problem, strategy=strategy, seed=0).run(20)
        found[floor] = space.domain.plausibility(np.array([trial.point for trial in study.trials[6:]]))
    assert found[0.0].min() < 0.3
    assert found[0.4].min() > 0.395


def test_a_floor_is_a_plausibility() -> None:
    with pytest.raises(bi.InvalidInput, match="floor"):
        bi.Latent(lambda z: z, dim=2, floor=1.0)
