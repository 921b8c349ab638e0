"""Tests of fitted measures and of the plausibility of codes and designs."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bo_invert.errors import InvalidInputError
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.latent_plausibility import fit_measure
from bo_invert.generators.mixture_em import fit_mixture

CENTRES = np.array([[4.0, 0.0, 0.0], [-4.0, 1.0, 0.0], [0.0, -5.0, 2.0]])


def clusters(n, seed):
    rng = np.random.default_rng(seed)
    return CENTRES[rng.integers(3, size=n)] + rng.standard_normal((n, 3)) * [1.0, 0.5, 3.0]


@pytest.fixture(scope="module")
def measure():
    return fit_measure(clusters(2000, 0))


def test_whitened_codes_have_mean_zero_and_covariance_one(measure):
    points = measure.whiten(clusters(2000, 0))
    assert_allclose(points.mean(axis=0), 0.0, atol=1e-9)
    assert_allclose(np.cov(points.T), np.eye(3), atol=0.02)


def test_color_undoes_whiten(measure):
    codes = clusters(50, 1)
    assert_allclose(measure.color(measure.whiten(codes)), codes, atol=1e-9)


@pytest.mark.parametrize("level", [0.05, 0.2, 0.5, 0.9])
def test_plausibility_is_calibrated_on_fresh_codes(measure, level):
    fresh = measure.reference.plausibility(measure.whiten(clusters(20_000, 2)))
    assert abs((fresh <= level).mean() - level) < (0.02 if level < 0.1 else 0.04)


def overlapping(n, seed):
    """Ten clusters of different widths in 32 dimensions, with few codes per parameter."""
    known = np.random.default_rng(5)
    centres, widths = 1.5 * known.standard_normal((10, 32)), known.uniform(0.2, 1.0, (10, 32))
    rng = np.random.default_rng(seed)
    which = rng.integers(10, size=n)
    return centres[which] + widths[which] * rng.standard_normal((n, 32))


def test_plausibility_is_calibrated_for_mixtures_with_many_parameters():
    """Fits to all codes and to the folds must find the same modes."""
    off = []
    for seed in range(3):
        measure = fit_measure(overlapping(1000, seed), seed)
        fresh = measure.reference.plausibility(measure.whiten(overlapping(20_000, 10 + seed)))
        off.append([(fresh <= level).mean() - level for level in (0.05, 0.25, 0.5)])
        assert len(measure.reference.weights) > 1
    assert np.abs(np.mean(off, axis=0)).max() < 0.03


def test_fresh_codes_calibrate_the_densities():
    rng = np.random.default_rng(0)
    measure = fit_measure(rng.standard_normal((200, 3)), fresh=2.0 * rng.standard_normal((9000, 3)))
    assert len(measure.reference.quantiles) == 2000
    ranks = measure.reference.plausibility(measure.whiten(2.0 * rng.standard_normal((20_000, 3))))
    assert_allclose([(ranks <= level).mean() for level in (0.05, 0.5)], [0.05, 0.5], atol=0.02)


def test_the_mean_between_clusters_is_implausible(measure):
    assert measure.reference.plausibility(np.zeros((1, 3)))[0] < 0.01
    assert measure.reference.plausibility(measure.whiten(CENTRES)).min() > 0.5


def test_draws_look_like_the_codes(measure):
    drawn = measure.color(measure.reference.sample(np.random.default_rng(3), 20_000))
    assert_allclose(drawn.mean(axis=0), clusters(20_000, 4).mean(axis=0), atol=0.2)
    assert_allclose(np.cov(drawn.T), np.cov(clusters(20_000, 4).T), atol=0.8)


def test_the_radius_is_a_measured_quantile(measure):
    norms = np.linalg.norm(measure.whiten(clusters(2000, 0)), axis=1)
    assert (norms <= measure.radius(0.9)).mean() == pytest.approx(0.9, abs=0.001)


def test_the_same_seed_gives_the_same_measure():
    one, two = fit_measure(clusters(300, 5), seed=1), fit_measure(clusters(300, 5), seed=1)
    assert_array_equal(one.reference.means, two.reference.means)
    assert_array_equal(one.reference.quantiles, two.reference.quantiles)


def test_normal_codes_need_one_component_and_clusters_more(measure):
    normal = np.random.default_rng(0).standard_normal((500, 4))
    assert len(fit_measure(normal).reference.weights) == 1
    assert len(measure.reference.weights) > 1


def test_a_mixture_finds_separate_clusters():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(-5, 1, (300, 2)), rng.normal(5, 1, (100, 2))])
    mixture, shares = fit_mixture(points, np.eye(2)[(points[:, 0] > 0).astype(int)])
    order = mixture.means[:, 0].argsort()
    assert_allclose(mixture.weights[order], [0.75, 0.25], atol=0.01)
    assert_allclose(mixture.means[order], [[-5, -5], [5, 5]], atol=0.3)
    assert_allclose(shares.sum(axis=1), 1.0)


def test_coordinates_of_very_different_scale_are_whitened_each():
    codes = np.random.default_rng(0).standard_normal((400, 3)) * [1.0, 1e-4, 100.0]
    covariance = np.cov(fit_measure(codes).whiten(codes).T)
    assert_allclose(covariance.diagonal(), 1.0, atol=0.01)
    # Correlations are shrunk, so that the covariance is not exactly I.
    assert_allclose(covariance, np.eye(3), atol=0.1)


def test_a_constant_coordinate_is_no_obstacle():
    codes = np.random.default_rng(0).standard_normal((100, 3)) * [1.0, 0.0, 1.0]
    measure = fit_measure(codes)
    assert np.isfinite(measure.reference.plausibility(measure.whiten(codes))).all()


def test_few_codes_of_many_dimensions_stay_finite():
    codes = np.random.default_rng(0).standard_normal((70, 32))
    measure = fit_measure(codes)
    fresh = measure.whiten(np.random.default_rng(1).standard_normal((500, 32)))
    assert np.median(np.linalg.norm(fresh, axis=1)) < 3 * np.sqrt(32)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((5, 3)), "at least 10 different rows.*got 1 among 5"),
        (np.arange(21.0).reshape(7, 3), "at least 8 different rows.*got 7$"),
        (np.repeat(np.arange(21.0).reshape(7, 3), 9, axis=0), "got 7 among 63"),
        (np.ones((50, 3)), "got 1 among 50"),
        (np.repeat(np.eye(9)[:, :3] + np.arange(9)[:, None], 9, 0), "at least 10 .* got 9 among"),
        (np.full((50, 3), np.nan), "must be finite"),
        (np.zeros(50), "shape"),
    ],
)
def test_invalid_codes_are_errors(codes, message):
    with pytest.raises(InvalidInputError, match=message):
        fit_measure(codes)


# Designs: real ones lie near a plane in 6 dimensions.

BASIS = np.linalg.qr(np.random.default_rng(9).standard_normal((6, 2)))[0]


def real(n, seed):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 2)) @ BASIS.T + 0.1 * rng.standard_normal((n, 6))


@pytest.fixture(scope="module")
def realism():
    measure = fit_measure(real(1000, 0) @ BASIS)
    return DesignRealism(lambda x: x @ BASIS, lambda z: z @ BASIS.T, measure, real(1000, 1))


def test_held_out_designs_are_uniform(realism):
    own = realism(real(1000, 1))
    assert_allclose(np.quantile(own, [0.05, 0.5, 0.95]), [0.05, 0.5, 0.95], atol=0.01)


@pytest.mark.parametrize("level", [0.05, 0.25, 0.5, 0.9])
def test_fresh_real_designs_are_uniform(realism, level):
    assert abs((realism(real(10_000, 2)) <= level).mean() - level) < 0.03


def test_designs_off_the_manifold_are_implausible(realism):
    assert realism(np.random.default_rng(0).standard_normal((100, 6)) * 2).mean() < 0.01


def test_designs_far_out_on_the_manifold_are_implausible(realism):
    assert_array_equal(realism(np.array([[9.0, 0.0]]) @ BASIS.T), 0.0)


def test_one_bad_score_makes_a_design_implausible(realism):
    middle = np.zeros((1, 6))
    off = middle + 2 * np.linalg.svd(BASIS.T)[2][-1]
    assert realism(middle)[0] > 0.5
    assert realism(off)[0] == 0.0


def test_a_design_with_nan_has_plausibility_zero_and_leaves_others_unchanged(realism):
    designs = real(3, 0)
    alone = realism(designs)
    designs[1, 2] = np.nan
    assert_array_equal(realism(designs), [alone[0], 0.0, alone[2]])


def test_no_designs_give_no_plausibilities(realism):
    assert realism([]).shape == (0,)


def test_mismatched_pieces_are_errors(realism):
    with pytest.raises(InvalidInputError, match="held-out"):
        DesignRealism(lambda x: x, lambda z: z, realism.measure, [])
    with pytest.raises(InvalidInputError, match="must return designs of shape"):
        DesignRealism(lambda x: x @ BASIS, lambda z: z, realism.measure, real(10, 0))
