"""Points that probably meet a target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.models.gp.averaged_posterior import AveragedPosterior
from bo_invert.models.inverse.acceptance import Acceptance
from bo_invert.models.inverse.fit import TargetFit, TargetOptions, fit_target_model
from bo_invert.models.inverse.likely_points import mean_and_jacobian, with_exact_observations
from bo_invert.models.inverse.target_region import TargetRegion
from bo_invert.types import Array


def one_entry(region: TargetRegion) -> TargetRegion:
    """Return the first entry, with an interval of some standard deviations."""
    lower, upper = region.lower[:1] - 0.5, region.upper[:1] + 0.2
    return TargetRegion(region.columns[:1], lower, upper, region.avoided[:1], region.noise[:1])


def wavy(x: Array) -> Array:
    return np.array([np.sin(3 * x[0]) + x[1], x[0] * x[1] + 0.05 * np.sin(60 * x[0])])


@pytest.fixture(scope="module")
def study() -> bi.Study:
    made = bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), wavy, bi.Target([0.9, 0.3], tolerance=0.01),
        outputs=["a", "b"],
    )  # fmt: skip
    study = bi.Study.create("wavy", made, "sobol", seed=0)
    return study.run(30, stop_when_hit=False)


@pytest.fixture(scope="module")
def fit(study: bi.Study) -> TargetFit:
    return fit_target_model(study.statement, study.history, TargetOptions(noisy=True))


def test_jacobian_is_the_derivative_of_the_mean(fit: TargetFit) -> None:
    x, step = np.random.default_rng(0).random((4, 2)), 1e-5
    mean, jacobian = mean_and_jacobian(fit.model, x)
    assert mean == pytest.approx(fit.model.mean(x))
    for j, shift in enumerate(step * np.eye(2)):
        both = [mean_and_jacobian(fit.model, x + sign * shift)[0] for sign in (1, -1)]
        assert jacobian[:, :, j] == pytest.approx((both[0] - both[1]) / (2 * step), abs=1e-4)


def test_means_pass_through_exact_observations(study: bi.Study, fit: TargetFit) -> None:
    points, y = study.history.points, study.history.y
    before = np.abs(mean_and_jacobian(fit.model, points)[0] - y)
    model = with_exact_observations(fit, points[:3])
    after = np.abs(mean_and_jacobian(model, points)[0] - y)
    assert before[:3].max() > 0.01  # noise of the fit
    assert after[:3].max() < 0.002
    assert with_exact_observations(fit, points[:0]) is fit.model


def averaged_fit(study: bi.Study, noisy: bool) -> TargetFit:
    options = TargetOptions(noisy=noisy, averaged=True)
    fit = fit_target_model(study.statement, study.history, options)
    assert isinstance(fit.model.surrogate.gp, AveragedPosterior)
    return fit


def test_averaged_means_pass_through_exact_observations(study: bi.Study) -> None:
    points, y, fit = study.history.points, study.history.y, averaged_fit(study, noisy=True)
    before = np.abs(mean_and_jacobian(fit.model, points)[0] - y)
    after = np.abs(mean_and_jacobian(with_exact_observations(fit, points[:3]), points)[0] - y)
    assert before[:3].max() > 0.005  # noise of the fit
    assert after[:3].max() < 0.002


def test_averages_without_twins_are_left_out_one_by_one(study: bi.Study) -> None:
    gp = averaged_fit(study, noisy=False).model.surrogate.gp
    errors, variances = gp.leave_twins_out(2.0, 12)  # no correlation is above 2
    mean, own = gp.leave_one_out()
    assert errors.numpy() == pytest.approx((gp.values[..., 0].mT - mean).numpy(), abs=1e-8)
    assert variances.numpy() == pytest.approx(own.numpy(), rel=1e-6)


def test_few_observations_make_probabilities_moderate(fit: TargetFit, study: bi.Study) -> None:
    """A Student t distribution has heavier tails, so certain hits become less certain."""
    points = np.random.default_rng(0).random((500, 2))
    normal = Acceptance(fit.model)(points)
    assert Acceptance(fit.model, degrees=1e6)(points) == pytest.approx(normal, abs=1e-5)
    # Points that the domain does not allow, alone and beside others.
    assert Acceptance(fit.model)(points[:3] + 9.0).tolist() == [0.0] * 3
    mixed = Acceptance(fit.model)(np.concatenate([points[:2], points[:1] + 9.0]))
    assert mixed == pytest.approx([*normal[:2], 0.0])
    mean, variance = fit.model.scores(fit.model.unit(points))
    _, std = fit.model.surrogate.warped_moments(mean, variance)
    drawn = np.random.default_rng(1).standard_t(3.0, 200_000)
    scalar = replace(fit.model, region=one_entry(fit.model.region))
    at = scalar.surrogate.warped_moments(mean, variance)[0][0, 0]
    region = scalar.region
    inside = (drawn * float(std[0, 0]) + float(at) > float(region.lower[0])) & (
        drawn * float(std[0, 0]) + float(at) < float(region.upper[0])
    )
    assert Acceptance(scalar, degrees=3.0)(points[:1])[0] == pytest.approx(inside.mean(), abs=0.01)


def test_twins_are_left_out_together(study: bi.Study) -> None:
    twins = study.history.points + 1e-4
    more = bi.Study.create("twins", study.problem, "sobol", seed=0)  # type: ignore[arg-type]
    points = np.concatenate([study.history.points, twins])
    more.add(points=points, Y=[wavy(point) for point in points])
    fit = fit_target_model(more.statement, more.history, TargetOptions())
    gp = fit.model.surrogate.gp
    mean, variance = gp.leave_one_out()
    alone = ((gp.values[..., 0].mT - mean).abs() / variance.sqrt()).quantile(0.9, dim=0) / 1.645
    assert (fit.model.inflation.sqrt() > alone).all()
    # Without twins, both agree up to the finite sample correction.
    own = fit_target_model(study.statement, study.history, TargetOptions())
    gp = own.model.surrogate.gp
    mean, variance = gp.leave_one_out()
    errors = (gp.values[..., 0].mT - mean).abs() / variance.sqrt()
    plain = (errors.quantile(0.93, dim=0) / 1.645).clamp(min=1.0)
    assert own.model.inflation.sqrt().numpy() == pytest.approx(plain.numpy(), rel=0.35)
