"""Posterior averaged over output scales and shared or separate lengthscales."""

from __future__ import annotations

import numpy as np
import torch

import bo_invert as bi
from bo_invert.models.acquisition.expected_improvement import (
    AcquisitionData,
    log_expected_improvement,
)
from bo_invert.models.acquisition.log_ei import log_h
from bo_invert.models.gp.averaged_posterior import OUTPUT_SCALES, AveragedPosterior, average
from bo_invert.models.gp.hyperparameter_fit import NOISY
from bo_invert.models.gp.kernels import RBF
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.posterior import GPPosterior, condition
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Minimize
from bo_invert.types import Array


def data(n: int = 12, d: int = 3) -> tuple[Array, Array]:
    x = np.random.default_rng(0).uniform(size=(n, d))
    return x, np.column_stack([np.sin(4.0 * x[:, 0]) + x[:, 1], x[:, 2] ** 2])


def averaged(shares: list[list[float]]) -> AveragedPosterior:
    x, y = (torch.tensor(v) for v in data())
    scores = (y - y.mean(0)) / y.std(0, correction=0)
    logs = torch.zeros(2, 4, dtype=torch.float64) - 1.0
    logs[:, 3] = -6.0
    gp = condition(RBF, logs[:, :3], logs[:, 3].exp(), x, scores)
    return average(gp, NOISY, scores.new_tensor(shares))


def components(gp: AveragedPosterior) -> list[GPPosterior]:
    """The components one by one, conditioned again."""
    return [
        condition(
            gp.kernel, part.log_lengthscales, part.noise[:, 0], gp.inputs, part.values[..., 0].mT
        )
        for part in (split(gp.components, c) for c in range(len(gp.scales)))
    ]


def split(gp: GPPosterior, c: int) -> GPPosterior:
    rows = slice(2 * c, 2 * c + 2)
    return GPPosterior(
        gp.kernel, gp.log_lengthscales[rows], gp.noise[rows], gp.constant[rows], gp.inputs,
        gp.values[rows], gp.cholesky[rows], gp.inverse_cholesky[rows], gp.weights[rows],
    )  # fmt: skip


SHARES = [[0.4, 0.1], [0.3, 0.2], [0.2, 0.3], [0.1, 0.4]]
"""Rows: shared lengthscales at both scales, then separate ones; columns: outputs."""


def test_moments_are_those_of_the_mixture() -> None:
    gp = averaged(SHARES)
    assert gp.scales.tolist() == [*OUTPUT_SCALES, *OUTPUT_SCALES]
    at = torch.tensor(data(5)[0]) * 0.9
    mean, variance = gp(at)
    parts = [part(at) for part in components(gp)]
    means = torch.stack([m * s for (m, _), s in zip(parts, gp.scales, strict=True)])
    variances = torch.stack([v * s**2 for (_, v), s in zip(parts, gp.scales, strict=True)])
    weights = gp.shares[:, None]
    centre = (weights * means).sum(0)
    torch.testing.assert_close(mean, centre)
    second = (weights * (variances + means**2)).sum(0)
    torch.testing.assert_close(variance, second - centre**2, atol=1e-9, rtol=1e-6)


def test_covariance_is_that_of_the_joint_distribution() -> None:
    inputs = torch.tensor(data(5)[0]) * 0.9
    for gp in (averaged(SHARES), components(averaged(SHARES))[0]):
        _, joint = gp.joint(inputs)
        torch.testing.assert_close(gp.covariance(inputs[:2], inputs[2:]), joint[:, :2, 2:])


def test_extension_conditions_all_components() -> None:
    gp, inputs = averaged(SHARES), torch.tensor(data(5)[0])[:2] * 0.8
    samples = gp(inputs)[0].mT[..., None] + 0.5
    after = gp.extend(inputs, samples)
    mean, variance = after(inputs)
    torch.testing.assert_close(mean, samples[..., 0].mT, atol=1e-3, rtol=1e-3)
    assert (variance < 1e-3 * gp(inputs)[1]).all()


def test_numpy_and_torch_agree_with_autograd() -> None:
    gp = averaged(SHARES)
    normals = torch.tensor(np.random.default_rng(1).normal(size=(4, 2, 2)))
    fantasies, _ = gp.fantasize(gp.inputs[:2] * 0.8, normals)
    for posterior in (gp, fantasies):
        at = torch.tensor(data(4)[0] * 0.95, requires_grad=True)
        assert torch.autograd.gradcheck(posterior.fantasies, at)
        mean, variance, cache = posterior.array_moments(at.detach().numpy())
        expected = posterior.moments(at.detach())
        np.testing.assert_allclose(mean, expected[0].numpy(), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(variance, expected[1].numpy(), rtol=1e-8, atol=1e-10)
        slope = posterior.array_moments.gradient(cache, np.ones_like(mean), np.ones_like(variance))
        total = sum(part.sum() for part in posterior.fantasies(at))
        (gradient,) = torch.autograd.grad(total, at)
        np.testing.assert_allclose(slope, gradient.numpy(), rtol=1e-7, atol=1e-9)


def test_fantasies_hold_their_samples_and_joint_its_marginals() -> None:
    gp = averaged(SHARES)
    pending = gp.inputs[:3] * 0.8
    mean, covariance = gp.joint(pending)
    one, variance = gp(pending)
    torch.testing.assert_close(mean[..., 0].mT, one)
    torch.testing.assert_close(covariance.diagonal(dim1=-2, dim2=-1).mT, variance)
    normals = torch.tensor(np.random.default_rng(1).normal(size=(5, 2, 3)))
    after, samples = gp.fantasize(pending, normals)
    means, left = after.fantasies(pending)
    torch.testing.assert_close(means, samples.permute(2, 1, 0), atol=1e-3, rtol=1e-3)
    assert float(left.max()) < 1e-4


def test_leave_one_out_is_that_of_the_mixture() -> None:
    gp = averaged([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    (only,) = components(gp)
    for found, expected in zip(gp.leave_one_out(), only.leave_one_out(), strict=True):
        torch.testing.assert_close(found, expected)


def test_components_of_one_output_scale() -> None:
    one = averaged(SHARES).of_scale(1.0)
    assert one is not None
    assert one.scales.tolist() == [1.0, 1.0]
    torch.testing.assert_close(one.shares[:, 0], torch.tensor([2 / 3, 1 / 3]).double())
    assert one.components.log_lengthscales.shape == (4, 3)
    without = averaged([[0.0, 0.5], [0.5, 0.0], [0.0, 0.5], [0.5, 0.0]])
    assert without.of_scale(1.0) is None


def surrogate(n: int, memo: object = None) -> Surrogate:
    x, y = data(n)
    return fit_surrogate(x, y[:, :1], memo, ModelSearchSpace.of("auto", False, (1,)))


def test_few_observations_are_averaged_and_the_memo_repeats_it() -> None:
    few, many = surrogate(12), surrogate(80)
    assert isinstance(few.gp, AveragedPosterior)
    assert not isinstance(many.gp, AveragedPosterior)
    again = surrogate(12, few.memo)
    assert isinstance(again.gp, AveragedPosterior)
    torch.testing.assert_close(again.gp.shares, few.gp.shares)
    assert again.memo["shares"] == few.memo["shares"]


def test_memos_of_earlier_versions_select_without_average() -> None:
    memo = {key: value for key, value in surrogate(12).memo.items() if key != "shares"}
    assert type(surrogate(12, memo).gp) is GPPosterior


def test_expected_improvement_uses_the_average() -> None:
    model = surrogate(12)
    y = data(12)[1]
    statement = ProblemStatement("p", bi.Box([0.0] * 3, [1.0] * 3).domain, ("a",), Minimize())
    outputs = ModelledOutputs(statement, y[:, :1], y[:, 0])
    score = log_expected_improvement(
        model, outputs, AcquisitionData(y[:, 0], np.ones(12, dtype=bool), np.empty((0, 3))), seed=0
    )
    at = data(6)[0] * 0.9
    mean, variance = model.gp(torch.tensor(at))
    std, best = variance[:, 0].sqrt(), model.gp.values[0, :, 0].min()
    expected = std.log() + log_h((best - mean[:, 0]) / std)
    torch.testing.assert_close(score(torch.tensor(at)), expected)


def test_slopes_of_means_agree_with_autograd() -> None:
    gp = averaged(SHARES)
    normals = torch.tensor(np.random.default_rng(1).normal(size=(1, 2, 2)))
    extended, _ = gp.fantasize(gp.inputs[:2] * 0.8, normals)
    for posterior in (gp, gp.components, extended):
        at = torch.tensor(data(4)[0] * 0.95)
        mean, variance, slopes = posterior.linearised(at)
        torch.testing.assert_close((mean, variance), posterior(at))
        full = torch.autograd.functional.jacobian(lambda x, gp=posterior: gp(x)[0], at)
        own = torch.stack([full[row, :, row] for row in range(len(at))])
        torch.testing.assert_close(slopes, own)
        assert posterior.linearised(at[:0])[2].shape == (0, *slopes.shape[1:])
