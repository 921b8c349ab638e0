"""Particles of posteriors that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.search_domain import Domain
from bo_invert.models.inverse.smc import sample_particles, systematic
from bo_invert.types import Array

PARTICLES = 2000


def test_masses_of_separate_branches_vary_little() -> None:
    """Variances are 1.7 times those of independent draws; 2.6 without moves between branches."""
    domain = bi.Box([0.0] * 2, [1.0] * 2).domain

    def log_acceptance(points: Array) -> Array:
        gap = np.abs(np.sin(6 * np.pi * points[:, 0]) + np.cos(6 * np.pi * points[:, 1]) - 0.8)
        return -np.clip((gap - 0.05) / 0.003, 0.0, 200.0)

    reference = np.random.default_rng(0).random((400_000, 2))
    reference = reference[log_acceptance(reference) == 0.0]

    # Cells of half a period hold one branch or parts of it.
    def cells(points: Array) -> Array:
        index = np.minimum(np.floor(points * 6).astype(int), 5) @ [6, 1]
        return np.bincount(index, minlength=36)

    shares = cells(reference) / len(reference)
    used = shares > 0.01
    squares = []
    for seed in range(6):
        found = sample_particles(
            log_acceptance, domain, 1000, np.random.default_rng(seed), final_rounds=4
        )
        gaps = cells(found.points) / 1000.0 - shares
        squares.append(gaps[used] ** 2 / (shares[used] / 1000.0))
    assert np.mean(squares) < 2.2


def test_four_narrow_branches_keep_their_mass() -> None:
    centres = np.array([[0.1, 0.1], [0.9, 0.2], [0.5, 0.8], [0.2, 0.6]])
    shares, width = np.array([0.1, 0.2, 0.3, 0.4]), 0.01

    def log_acceptance(x: Array) -> Array:
        square = ((x[:, None] - centres) ** 2).sum(-1)
        return np.log(np.exp(-0.5 * square / width**2) @ shares + 1e-300)

    domain = bi.Box([0.0] * 2, [1.0] * 2).domain
    found = sample_particles(log_acceptance, domain, PARTICLES, np.random.default_rng(0))
    nearest = ((found.points[:, None] - centres) ** 2).sum(-1).argmin(1)
    # Masses of branches change by resampling, by about n^-1/2 in each of some ten steps.
    assert np.bincount(nearest, minlength=4) / PARTICLES == pytest.approx(shares, abs=0.06)
    spread = (found.points - centres[nearest]).std()
    assert spread == pytest.approx(width, rel=0.05)
    assert found.log_evidence == pytest.approx(np.log(2 * np.pi * width**2), abs=0.2)


def test_latent_posterior_of_a_linear_measurement() -> None:
    # z ~ N(0, I) in 5 dimensions and z_0 + z_1 = 2 measured with noise 0.1.
    domain = gaussian_domain(5)
    found = sample_particles(
        lambda z: -0.5 * ((z[:, 0] + z[:, 1] - 2.0) / 0.1) ** 2,
        domain, PARTICLES, np.random.default_rng(1),
    ).points  # fmt: skip
    variance = 2.0 + 0.1**2
    assert found.mean(0) == pytest.approx([2 / variance] * 2 + [0.0] * 3, abs=0.08)
    assert found.std(0) == pytest.approx([np.sqrt(1 - 1 / variance)] * 2 + [1.0] * 3, abs=0.08)
    assert (found[:, 0] + found[:, 1]).std() == pytest.approx(0.1, rel=0.1)


def _mixed() -> Domain:
    space = {"x": bi.Float(0, 1), "n": bi.Int(0, 9), "c": bi.Choice("a", "b", "c")}
    return bi.Box(space).domain


def test_integers_and_choices() -> None:
    domain = _mixed()

    def log_acceptance(points: Array) -> Array:
        values = domain.values(points)
        wanted = {("a", 2): 0.2, ("c", 7): 0.8}
        mass = np.array([wanted.get((v["c"], v["n"]), 1e-12) for v in values])
        return np.log(mass) - 0.5 * ((points[:, 0] - 0.5) / 0.05) ** 2

    found = sample_particles(log_acceptance, domain, PARTICLES, np.random.default_rng(2))
    values = domain.values(found.points)
    share = np.mean([v["c"] == "c" and v["n"] == 7 for v in values])
    assert share == pytest.approx(0.8, abs=0.08)
    assert np.mean([(v["c"], v["n"]) in (("a", 2), ("c", 7)) for v in values]) > 0.99
    assert found.points[:, 0].std() == pytest.approx(0.05, rel=0.15)


def test_particles_of_a_mixture_stay_in_it() -> None:
    names = ["a", "b", "c"]
    box = bi.Box({n: bi.Float(0, 1) for n in names}, constraints=["a + b + c == 1"])
    found = sample_particles(
        lambda x: -0.5 * ((x[:, 0] - 0.6) / 0.02) ** 2,
        box.domain, PARTICLES, np.random.default_rng(3),
    ).points  # fmt: skip
    assert box.domain.satisfied(found).all()
    assert found[:, 0].mean() == pytest.approx(0.6, abs=0.01)
    # b is uniform in [0, 1 - a].
    assert (found[:, 1] / (1 - found[:, 0])).mean() == pytest.approx(0.5, abs=0.04)


def test_floor_and_radius_hold() -> None:
    domain = gaussian_domain(3, radius=2.0, floor=0.3)
    found = sample_particles(
        lambda z: 3.0 * z[:, 0], domain, PARTICLES, np.random.default_rng(4)
    ).points
    assert (np.linalg.norm(found, axis=1) <= 2.0).all()
    assert (domain.plausibility(found) >= 0.3).all()


def test_hopeless_acceptance_ends() -> None:
    domain = bi.Box([0.0], [1.0]).domain
    found = sample_particles(lambda x: np.full(len(x), -1e9), domain, 100, np.random.default_rng(5))
    assert found.tempered == 1.0  # constant: nothing to temper
    assert found.points.std() > 0.2


def test_systematic_resampling_repeats_in_proportion() -> None:
    rows = systematic(np.array([1.0, 2.0, 0.0, 5.0]), 4, np.random.default_rng(0))
    assert len(rows) == 4
    assert 2 not in rows
    assert (rows == 3).sum() in (2, 3)


@pytest.mark.parametrize(
    ("parameters", "constraints"),
    [
        # Parameters that exist for some values only, in two levels.
        (
            {
                "n": bi.Int(1, 3),
                "of 2": bi.When("n", [2, 3], {"b": bi.Float(0, 1), "m": bi.Choice("p", "q")}),
                "of 3": bi.When("n", 3, {"c": bi.Float(0, 1)}),
                "a": bi.Float(0, 1),
            },
            (),
        ),
        # The number of values of `a` depends on an integer.
        ({"n": bi.Int(1, 4), "a": bi.Float(0, 1), "b": bi.Float(0, 1)}, ("a <= 0.25 * n",)),
    ],
    ids=["conditions", "constraint"],
)
def test_masses_of_discrete_values_are_those_of_rejection(
    parameters: dict[str, Any], constraints: tuple[str, ...]
) -> None:
    domain = bi.Box(parameters, constraints=constraints).domain

    def log_acceptance(points: Array) -> Array:
        total = [sum(v.get(name, 0.0) for name in "abc") for v in domain.values(points)]
        return -0.5 * ((np.array(total) - 0.6) / 0.03) ** 2

    def shares(points: Array, weights: Array) -> Array:
        numbers = [v["n"] for v in domain.values(points)]
        return np.bincount(numbers, weights, minlength=5) / weights.sum()

    drawn = domain.sample(np.random.default_rng(0), 60_000)
    exact = shares(drawn, np.exp(log_acceptance(drawn)))
    found = [
        sample_particles(log_acceptance, domain, 1000, np.random.default_rng(seed), 2).points
        for seed in range(3)
    ]
    assert all((domain.project(points) == points).all() for points in found)
    assert shares(np.concatenate(found), np.ones(3000)) == pytest.approx(exact, abs=0.035)
