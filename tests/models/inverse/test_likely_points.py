"""Points that probably meet a target."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.models.inverse.fit import TargetFit, TargetOptions, fit_target_model
from bo_invert.models.inverse.likely_points import mean_and_jacobian, with_exact_observations
from bo_invert.types import Array


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
