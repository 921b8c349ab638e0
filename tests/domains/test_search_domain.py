from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bo_invert.domains.box_domain import box_domain
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.parameters import Choice, Float, Int
from bo_invert.domains.reference_measure import Reference
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError

MIXED = box_domain(
    {"rate": Float(1e-4, 1.0, log=True), "kind": Choice("a", "b", "c"), "n": Int(1, 9)}
)
CUBE = box_domain({f"x{i}": Float(-2.0, 3.0) for i in range(4)})
SHELL = gaussian_domain(6, radius=3.0)


def two_clusters() -> Domain:
    means = np.array([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    factors = np.stack([0.3 * np.eye(3), 0.1 * np.eye(3)])
    measure = Reference(np.array([0.75, 0.25]), means, factors, np.empty(0))
    held_out = measure.sample(np.random.default_rng(1), 4000)
    measure = Reference(measure.weights, means, factors, np.sort(measure.log_density(held_out)))
    return gaussian_domain(3, radius=10.0, reference=measure)


every_domain = pytest.mark.parametrize(
    "domain", [MIXED, CUBE, SHELL, two_clusters()], ids=["mixed", "cube", "shell", "clusters"]
)


def test_columns_and_dimension_follow_the_widths() -> None:
    assert MIXED.dim == 5
    assert MIXED.columns == {"rate": slice(0, 1), "kind": slice(1, 4), "n": slice(4, 5)}
    assert not MIXED.continuous
    assert CUBE.continuous
    assert SHELL.continuous


@every_domain
def test_draws_can_be_evaluated_as_they_are(domain: Domain) -> None:
    for draw in (domain.sample, domain.uniform, domain.sobol):
        points = draw(np.random.default_rng(0), 50)
        assert points.shape == (50, domain.dim)
        assert np.allclose(domain.project(points), points, atol=1e-12)
        assert np.array_equal(points, draw(np.random.default_rng(0), 50))
        assert not np.array_equal(points, draw(np.random.default_rng(1), 50))


@every_domain
def test_sobol_continues_where_it_was(domain: Domain) -> None:
    whole = domain.sobol(np.random.default_rng(3), 21)
    parts = [
        domain.sobol(np.random.default_rng(3), n, skip=skip)
        for skip, n in ((0, 1), (1, 4), (5, 16))
    ]
    assert np.array_equal(np.concatenate(parts), whole)


def test_sobol_covers_the_cube_evenly() -> None:
    points = CUBE.sobol(np.random.default_rng(0), 64)
    for column in points.T:
        assert np.bincount((column * 16).astype(int), minlength=16).tolist() == [4] * 16


def test_sobol_in_a_latent_is_standard_normal() -> None:
    points = gaussian_domain(2).sobol(np.random.default_rng(0), 1024)
    assert np.abs(points.mean(axis=0)).max() < 0.01
    assert np.abs(points.std(axis=0) - 1.0).max() < 0.02


@given(st.lists(st.floats(-5.0, 5.0), min_size=5, max_size=5))
def test_projection_changes_nothing_that_is_evaluated(u: list[float]) -> None:
    point = np.array(u)
    nearest = MIXED.project(point)
    assert nearest.shape == point.shape
    assert np.array_equal(MIXED.project(nearest), nearest)
    assert MIXED.values(nearest[None]) == MIXED.values(point[None])


@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_projection_pulls_inside_the_radius(z: list[float]) -> None:
    point = np.array(z)
    nearest = SHELL.project(point)
    assert np.linalg.norm(nearest) <= 3.0 + 1e-9
    if np.linalg.norm(point) <= 3.0:
        assert np.array_equal(nearest, point)
    else:
        assert nearest @ point == pytest.approx(np.linalg.norm(nearest) * np.linalg.norm(point))


def test_values_and_encode_are_inverse() -> None:
    rows = [{"rate": 0.01, "kind": "c", "n": 4}, {"rate": 1.0, "kind": "a", "n": 9}]
    points = MIXED.encode(rows)
    assert points[0].tolist() == pytest.approx([0.5, 0.0, 0.0, 1.0, 3.5 / 9])
    for row, again in zip(rows, MIXED.values(points), strict=True):
        assert again == {**row, "rate": pytest.approx(row["rate"])}
    assert MIXED.encode([]).shape == (0, 5)


def test_encode_names_what_is_wrong() -> None:
    with pytest.raises(InvalidInputError, match=r"missing \['n'\], unknown \['m'\]"):
        MIXED.encode([{"rate": 0.1, "kind": "a", "m": 2}])
    with pytest.raises(InvalidInputError, match="parameter 'kind': 'z'"):
        MIXED.encode([{"rate": 0.1, "kind": "z", "n": 2}])
    with pytest.raises(InvalidInputError, match="parameter 'rate': 'fast' is not a number"):
        MIXED.encode([{"rate": "fast", "kind": "a", "n": 2}])


def test_plausibility_of_the_standard_normal_is_calibrated() -> None:
    domain = gaussian_domain(8)
    scores = domain.plausibility(np.random.default_rng(0).standard_normal((20_000, 8)))
    for share in (0.05, 0.5, 0.95):
        assert (scores < share).mean() == pytest.approx(share, abs=0.015)
    assert (CUBE.plausibility(np.zeros((3, 4))) == 1.0).all()


def test_plausibility_of_a_measured_reference_is_calibrated() -> None:
    domain = two_clusters()
    scores = domain.plausibility(domain.sample(np.random.default_rng(2), 4000))
    for share in (0.05, 0.5):
        assert (scores < share).mean() == pytest.approx(share, abs=0.03)
    near, between = domain.plausibility(np.array([[-2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    assert near > 0.5
    assert between < 0.01


def test_reference_density_is_that_of_its_mixture() -> None:
    from scipy.stats import multivariate_normal

    rng = np.random.default_rng(0)
    factors = np.tril(rng.normal(size=(2, 3, 3)))
    factors[:, range(3), range(3)] = rng.uniform(0.5, 2.0, (2, 3))
    means, weights = rng.normal(size=(2, 3)), np.array([0.3, 0.7])
    points = rng.normal(size=(10, 3))
    density = sum(
        w * multivariate_normal(m, f @ f.T).pdf(points)
        for w, m, f in zip(weights, means, factors, strict=True)
    )
    reference = Reference(weights, means, factors, np.zeros(1))
    assert reference.log_density(points) == pytest.approx(np.log(density))
    drawn = reference.sample(rng, 40_000)
    assert drawn.mean(axis=0) == pytest.approx(weights @ means, abs=0.05)


def test_bounds() -> None:
    assert CUBE.bounds.tolist() == [[0.0] * 4, [1.0] * 4]
    assert SHELL.bounds.tolist() == [[-3.0] * 6, [3.0] * 6]
    assert gaussian_domain(2, radius=1.5).bounds.tolist() == [[-1.5] * 2, [1.5] * 2]


@every_domain
def test_described_as_json(domain: Domain) -> None:
    described = json.loads(json.dumps(domain.to_json(), allow_nan=False))
    assert described["dim"] == domain.dim
    assert list(described["parameters"]) == list(domain.parameters)
    assert described["radius"] == (domain.radius if math.isfinite(domain.radius) else None)


@every_domain
def test_pickle_and_replace_preserve_the_class(domain: Domain) -> None:
    for copy in (pickle.loads(pickle.dumps(domain)), replace(domain)):
        assert type(copy) is type(domain)
        assert copy.to_json() == domain.to_json()


@pytest.mark.parametrize("domain", [CUBE, gaussian_domain(6)], ids=["box", "latent"])
def test_reference_measure_has_the_stated_moments(domain: Domain) -> None:
    draws = domain.sample(np.random.default_rng(0), 20_000)
    assert draws.mean() == pytest.approx(domain.centre, abs=0.01)
    assert draws.std() == pytest.approx(domain.scale, rel=0.01)
    gaps = np.linalg.norm(draws[:10_000] - draws[10_000:], axis=1)
    assert np.sqrt((gaps**2).mean()) == pytest.approx(domain.typical_distance, rel=0.01)
