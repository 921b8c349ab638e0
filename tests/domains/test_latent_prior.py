"""Points moved to where they may be asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.search_domain import Domain

RNG = np.random.default_rng(0)
CODES = np.concatenate([RNG.normal(-2.0, 0.5, (400, 3)), RNG.normal(2.0, 0.3, (400, 3))])


def latent(floor: float, **options: Any) -> Domain:
    return replace(bi.Latent(lambda z: z, dim=3, **options).domain, floor=floor)


@pytest.mark.parametrize("options", [{}, {"codes": CODES}], ids=["normal", "measured"])
@pytest.mark.parametrize("floor", [0.05, 0.4, 0.9])
def test_everything_ends_plausible_and_what_was_stays(options: Any, floor: float) -> None:
    domain = latent(floor, **options)
    inside = domain.project
    points = replace(domain, floor=0.0).uniform(np.random.default_rng(1), 2000)
    before = domain.plausibility(points)
    moved = inside(points)
    after = domain.plausibility(moved)
    assert after.min() >= floor
    assert after.max(where=before < floor, initial=0.0) < floor + 0.02, "no farther than the edge"
    clear = before > floor + 0.01
    assert np.array_equal(moved[clear], points[clear])
    assert inside(moved) == pytest.approx(moved, abs=1e-12)
    assert inside(points[0]) == pytest.approx(moved[0])


def test_the_nearest_of_a_ball() -> None:
    domain = latent(0.3)
    point = np.array([[3.0, 1.0, -2.0]])
    moved = domain.project(point)
    assert np.cross(moved, point) == pytest.approx(0.0, abs=1e-12)
    assert domain.plausibility(moved) == pytest.approx(0.3, abs=1e-4)


def test_density_and_slope_are_those_of_the_reference() -> None:
    domain = latent(0.1, codes=CODES)
    assert domain.reference is not None
    points = domain.uniform(np.random.default_rng(2), 5)
    value, gradient = domain.reference.slope(points)
    assert value == pytest.approx(domain.reference.log_density(points))
    for i, step in enumerate(1e-6 * np.eye(3)):
        up, down = (domain.reference.log_density(points + sign * step) for sign in (1, -1))
        assert gradient[:, i] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"codes": CODES}], ids=["normal", "measured"])
def test_draws_below_the_floor_are_drawn_again(options: Any) -> None:
    """They are not heaped on its edge."""
    domain = latent(0.5, **options)
    shares = domain.plausibility(domain.sample(np.random.default_rng(1), 2000))
    assert shares.min() >= 0.5
    assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.625, 0.75, 0.875], abs=0.05)
    assert np.array_equal(
        domain.sample(np.random.default_rng(1), 5), domain.sample(np.random.default_rng(1), 5)
    )
