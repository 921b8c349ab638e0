"""Tests of priors as maps from N(0, I)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from bo_invert.errors import InvalidInputError
from bo_invert.generators.priors import (
    NAMED,
    Normal,
    Prior,
    Sphere,
    Truncated,
    Uniform,
    as_prior,
    named_prior,
)
from bo_invert.spaces.latent import Latent

PRIORS = [*NAMED.values(), Uniform(0.0, 1.0), Truncated(1.0), Sphere(1.0)]
POINTS = np.random.default_rng(0).standard_normal((4000, 3))


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_tensors_agree_with_arrays_and_points_inverts_codes(prior: Prior) -> None:
    codes = prior.codes(POINTS)
    assert_allclose(prior.tensor(torch.tensor(POINTS)), codes, rtol=1e-9, atol=1e-12)
    assert_allclose(prior.codes(prior.points(codes)), codes, atol=3e-3)
    some = torch.tensor(POINTS[:5], requires_grad=True)
    assert torch.autograd.gradcheck(prior.tensor, (some,))


@pytest.mark.parametrize("prior", PRIORS, ids=str)
def test_far_out_points_stay_on_the_support(prior: Prior) -> None:
    far = 40.0 * POINTS
    codes = prior.codes(far)
    assert np.isfinite(codes).all()
    assert np.isfinite(prior.tensor(torch.tensor(far, dtype=torch.float32)).numpy()).all()
    assert np.isfinite(prior.points(codes)).all()
    if isinstance(prior, Uniform):
        assert prior.low <= codes.min() <= codes.max() <= prior.high
    if isinstance(prior, Truncated):
        assert np.abs(codes).max() <= prior.bound


def test_draws_are_those_of_the_prior() -> None:
    uniform = Uniform(-1.0, 1.0).codes(POINTS)
    assert_allclose(np.quantile(uniform, [0.1, 0.5, 0.9]), [-0.8, 0.0, 0.8], atol=0.03)
    truncated = Truncated(1.0).codes(POINTS)
    assert_allclose(
        np.quantile(truncated, [0.5, 0.9]), [0.0, 0.7203], atol=0.03
    )  # Phi^-1(0.1587 + 0.9 * 0.6827)
    assert_allclose(np.linalg.norm(Sphere().codes(POINTS), axis=1), 3**0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(1.0, 1.0),
        lambda: Truncated(0.0),
        lambda: Sphere(-1.0),
        lambda: named_prior("cauchy"),
        lambda: as_prior(3, None),
        lambda: Latent(lambda z: z, 2, prior="cauchy"),
    ],
)
def test_invalid_priors_are_errors(make: Any) -> None:
    with pytest.raises(InvalidInputError):
        make()


class Decoder(torch.nn.Module):
    """Decoder with its own prior."""

    def __init__(self, prior: Any) -> None:
        super().__init__()
        if prior is not None:
            self.prior = prior

    def forward(self, codes: Any) -> Any:
        return codes


def test_the_prior_of_the_decoder_is_the_default() -> None:
    space = Latent(Decoder(Uniform(-1.0, 1.0)), 3)
    assert np.abs(space.decode(30 * POINTS)).max() <= 1.0
    assert space.to_json()["prior"] == "Uniform(low=-1.0, high=1.0)"
    assert space.plausibility(np.zeros((1, 3)))[0] == 1.0
    assert_allclose(space.codes(POINTS), space.decode_tensor(torch.tensor(POINTS)), atol=1e-6)


def test_the_measure_is_fitted_to_draws_of_the_decoder() -> None:
    space = Latent(Decoder(lambda rng, n: 5 + rng.random((n, 3))), 3)
    assert space.measure is not None
    assert_allclose(space.measure.mean, 5.5, atol=0.02)


@pytest.mark.parametrize(
    "own", [torch.nn.Linear(2, 2), "uniform", lambda: None, torch.distributions.Normal(0.0, 1.0)]
)
def test_other_attributes_named_prior_are_ignored(own: Any) -> None:
    assert Latent(Decoder(own), 3).to_json()["measure"] == "N(0, I)"


def test_a_given_prior_overrides_that_of_the_decoder() -> None:
    assert (
        Latent(Decoder(Uniform()), 3, prior="normal").to_json()
        == Latent(Decoder(None), 3).to_json()
    )
    assert as_prior("sphere", Decoder(Uniform()))[0] == Sphere()
    assert as_prior(None, Decoder(None)) == (Normal(), None)


def test_codes_of_a_bounded_prior_are_measured_in_its_normal_coordinates() -> None:
    """Samples of the fitted measure stay within the bounds of the uniform prior."""
    known = np.random.default_rng(1).uniform(0.5, 1.0, (500, 3))
    space = Latent(Decoder(Uniform()), 3, codes=known)
    codes = space.codes(space.sample(np.random.default_rng(0), 2000))
    assert codes.max() <= 1.0
    assert np.quantile(codes, 0.005) > 0.3
    assert_allclose(np.median(codes, axis=0), 0.75, atol=0.05)


@pytest.mark.parametrize(("name", "d"), [("normal", 32), ("uniform", 32), ("truncated", 8)])
def test_drawn_priors_are_calibrated_on_fresh_draws(name: str, d: int) -> None:
    prior = NAMED[name]
    space = Latent(
        lambda z: z, d, prior=lambda rng, n: 3 + 2 * prior.codes(rng.standard_normal((n, d)))
    )
    assert space.measure is not None
    fresh = space.measure.whiten(
        3 + 2 * prior.codes(np.random.default_rng(7).standard_normal((20_000, d)))
    )
    for level in (0.01, 0.05, 0.1, 0.25, 0.5):
        assert abs((space.plausibility(fresh) <= level).mean() - level) < 0.02
    assert abs((np.linalg.norm(fresh, axis=1) <= space.domain.radius).mean() - 0.99) < 0.01
