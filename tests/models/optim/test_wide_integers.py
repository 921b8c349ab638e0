"""Local search over integers with more values than a machine word holds."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.models.optim.discrete_search import neighbours


@pytest.mark.parametrize(
    ("low", "high"), [(-(2**62), 2**62), (-(2**63), 2**63 - 1), (0, 2**64), (0, 2**200)]
)
def test_neighbours_of_any_integer_lie_within_its_bounds(low: int, high: int) -> None:
    domain = bi.Box({"n": bi.Int(low, high), "c": bi.Choice("a", "b")}).domain
    rng = np.random.default_rng(0)
    for start in (0.0, 0.4, 1.0):
        point = domain.project(np.full((1, domain.dim), start))[0]
        found = neighbours(domain, point, rng)
        assert ((found >= 0.0) & (found <= 1.0)).all()
        assert len(np.unique(found[:, 0])) > 3


def test_neighbours_of_an_integer_are_those_before() -> None:
    domain = bi.Box({"n": bi.Int(0, 999)}).domain
    point = domain.project(np.array([[0.5]]))[0]
    here = domain.axes["n"].decode(point[None])[0]
    found = neighbours(domain, point, np.random.default_rng(3))
    jumps = np.random.default_rng(3).integers(1000, size=4).tolist()
    wanted = sorted({here - 2, here - 1, here + 1, here + 2, *jumps} - {here})
    assert domain.axes["n"].decode(found) == wanted
