"""Tests of modelled outputs, expected improvement and its optimisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import special

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.models.acquisition import expected_improvement as acquisition
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.gp import hyperparameter_fit as fit
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.optim import duplicates as spacing, optimize_acquisition as search
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.types import Array

NOTHING = np.empty((0, 2))
NEW = torch.tensor(np.random.default_rng(99).random((6, 2)))


def smooth(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.sin(4 * x[:, 0]) + 0.1 * x[:, 1], 50.0 + 20.0 * np.cos(3 * x[:, 1])])


def statement(objective: Any, m: int, constraints: Any = (), d: int = 2) -> bi.ProblemStatement:
    space = bi.Box([0.0] * d, [1.0] * d)
    return bi.Problem(space, None, objective, outputs=m, constraints=constraints).statement


def known(
    x: Array, losses: Array, feasible: Any = True, pending: Array = NOTHING, noisy: bool = False
) -> AcquisitionData:
    return AcquisitionData(losses, np.zeros(len(x), dtype=bool) | feasible, pending, noisy)


def modelled(
    objective: Any, n: int = 12, constraints: Any = (), belief: Any = fit.EXACT
) -> tuple[Surrogate, ModelledOutputs, Array, Array]:
    """Fit two smooth outputs; return surrogate, modelled outputs, points and losses."""
    x = np.random.default_rng(7).random((n, 2))
    observed = statement(objective, 2, constraints)
    losses = observed.objective.loss(smooth(x))
    outputs = ModelledOutputs(observed, smooth(x), losses)
    return (
        fit_surrogate(x, outputs.values, search_space=ModelSearchSpace(noise_priors=(belief,))),
        outputs,
        x,
        losses,
    )


def sampled(surrogate: Surrogate, inputs: torch.Tensor, count: int, seed: int = 0) -> Array:
    """Draw modelled outputs ``(count, b, c)`` jointly at inputs ``(b, d)``."""
    mean, covariance = surrogate.gp.joint(inputs)
    rng = np.random.default_rng(seed)
    draws = [
        rng.multivariate_normal(mean[j, :, 0].numpy(), covariance[j].numpy(), count, method="svd")
        for j in range(len(mean))
    ]
    return surrogate.values(torch.tensor(np.stack(draws, -1))).numpy()


# What is modelled


def test_only_outputs_that_are_read_are_modelled() -> None:
    y = np.random.default_rng(5).standard_normal((6, 4))
    observed = statement(bi.Minimize("y2"), 4, ["y0 <= 0.5"])
    outputs = ModelledOutputs(observed, y, y[:, 2])
    assert outputs.columns == [0, 2]
    assert outputs.loss_column == (1, 1.0)
    assert outputs.warp_directions == (0, 1)
    numbers = torch.tensor(outputs.values)
    assert np.allclose(outputs.loss(numbers), y[:, 2])
    assert ((outputs.violation(numbers).numpy() > 0) == (y[:, 0] > 0.5)).all()
    assert ModelledOutputs(statement(bi.Maximize("y1"), 4), y, -y[:, 1]).loss_column == (0, -1.0)


def test_a_composite_without_torch_is_modelled_by_its_loss() -> None:
    y = np.random.default_rng(6).standard_normal((5, 2))
    losses = np.abs(y).sum(-1)
    works = ModelledOutputs(statement(bi.Composite(lambda v: abs(v).sum(-1)), 2), y, losses)
    assert works.composite
    assert works.loss_column is None
    assert works.values.shape == (5, 2)
    fails = ModelledOutputs(
        statement(bi.Composite(lambda v: np.abs(np.asarray(v)).sum(-1)), 2, ["y1 <= 0"]), y, losses
    )
    assert fails.modelled_losses
    assert fails.loss_column == (0, 1.0)
    assert np.allclose(fails.loss(torch.tensor(fails.values)), losses)
    assert ((fails.violation(torch.tensor(fails.values)).numpy() > 0) == (y[:, 1] > 0)).all()


@pytest.mark.parametrize("m", [2, 40])
def test_target_loss_of_scores(m: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((30, 2))
    y = smooth(x) @ rng.standard_normal((2, m)) + np.outer(np.exp(x[:, 0]), np.linspace(0, 1, m))
    target = bi.Target(y[3], scale=np.linspace(1.0, 2.0, m))
    observed = statement(target, m)
    outputs = ModelledOutputs(observed, y, observed.objective.loss(y))
    surrogate = fit_surrogate(x, outputs.values)
    numbers = surrogate.gp(NEW)[0]
    assert torch.allclose(
        surrogate.loss_function(outputs)(numbers),
        outputs.loss(surrogate.values(numbers)),
        rtol=1e-9,
    )


def test_outliers_are_clipped() -> None:
    x = np.random.default_rng(3).random((20, 2))
    y = smooth(x)
    y[4], y[9] = 1e300, -1e300
    values = ModelledOutputs(statement(bi.Minimize("y0"), 2), y, y[:, 0]).values[:, 0]
    rest = [i for i in range(20) if i not in (4, 9)]
    assert np.array_equal(values[rest], y[rest, 0])
    assert np.isfinite(values.std())
    assert values[4] > 1e6 * y[rest, 0].max() > 1e6 * y[rest, 0].min() > values[9]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_posterior_mean_score_is_independent_of_units(scale: float) -> None:
    x = np.random.default_rng(3).random((25, 1))
    y = np.column_stack([scale * x[:, 0], x[:, 0]])  # the loss wants 0, the constraint a half
    outputs = ModelledOutputs(statement(bi.Minimize("y0"), 2, ["y1 >= 0.5"], d=1), y, y[:, 0])
    score = acquisition.posterior_mean_score(fit_surrogate(x, outputs.values), outputs)
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
    assert grid[score(grid).argmax(), 0] == pytest.approx(0.4, abs=0.1)


# What a point is worth


@pytest.mark.parametrize("objective", [bi.Minimize("y0"), bi.Maximize("y0")])
def test_log_ei_agrees_with_the_formula(objective: Any) -> None:
    surrogate, outputs, x, losses = modelled(objective)
    score = acquisition.log_expected_improvement(surrogate, outputs, known(x, losses), seed=0)
    sign = 1.0 if isinstance(objective, bi.Minimize) else -1.0
    mean, variance = (part.numpy()[:, 0] for part in surrogate.gp(NEW))
    std = np.sqrt(variance)
    u = (surrogate.gp.values[0, :, 0].numpy() * sign).min() - sign * mean
    expected = std * (
        np.exp(-0.5 * (u / std) ** 2) / np.sqrt(2 * np.pi) + u / std * special.ndtr(u / std)
    )
    assert np.allclose(score(NEW).exp(), expected, rtol=1e-8)


def test_ei_with_pending_points_is_the_marginal_gain() -> None:
    """A million joint draws estimate the marginal gain of one more point in the batch."""
    surrogate, outputs, x, losses = modelled(bi.Minimize("y0"), n=7)
    pending = np.random.default_rng(3).random((3, 2))
    score = acquisition.log_expected_improvement(
        surrogate, outputs, known(x, losses, pending=pending), seed=0, samples=1024
    )
    joint = sampled(surrogate, torch.cat([torch.tensor(pending), NEW]), 400_000)[..., 0]
    best = np.minimum(losses.min(), joint[:, :3].min(1, keepdims=True))
    expected = np.maximum(best - joint[:, 3:], 0.0).mean(0) / surrogate.weights[0, 0].item()
    assert expected.max() > 0.01
    assert np.allclose(score(NEW).exp(), expected, rtol=0.05, atol=2e-4)


def test_noisy_ei_agrees_with_samples() -> None:
    surrogate, outputs, x, losses = modelled(bi.Minimize("y0"), n=6, belief=fit.NOISY)
    score = acquisition.log_expected_improvement(
        surrogate, outputs, known(x, losses, noisy=True), seed=0, samples=2048
    )
    joint = sampled(surrogate, torch.cat([torch.tensor(x), NEW]), 400_000)[..., 0]
    expected = np.maximum(joint[:, :6].min(1, keepdims=True) - joint[:, 6:], 0.0).mean(0)
    assert np.allclose(
        score(NEW).exp() * surrogate.weights[0, 0].item(), expected, rtol=0.05, atol=1e-3
    )


@pytest.mark.parametrize("structured", [False, True])
def test_constraints_multiply_ei_by_their_probability(structured: bool) -> None:
    objective = bi.Composite(lambda y: y[..., 0] + 0.0) if structured else bi.Minimize("y0")
    surrogate, outputs, x, losses = modelled(objective, 8, ["y1 <= 60"])
    feasible = smooth(x)[:, 1] <= 60
    assert feasible.any()
    given = known(x, losses, feasible)
    score = acquisition.log_expected_improvement(surrogate, outputs, given, seed=0, samples=4096)
    draws = sampled(surrogate, NEW, 400_000)
    gains = np.maximum(losses[feasible].min() - draws[..., 0], 0.0) * (draws[..., 1] <= 60)
    ladder = np.sort(losses[feasible])[:5]
    unit = ladder.mean() - ladder[0] if structured else surrogate.weights[0, 0].item()
    assert np.allclose(score(NEW).exp() * unit, gains.mean(0), rtol=0.05, atol=2e-3)


def test_violations_are_improved_without_a_feasible_point() -> None:
    surrogate, outputs, x, losses = modelled(bi.Minimize("y0"), 12, ["y1 <= 31"])
    x, losses = x[smooth(x)[:, 1] > 40], losses[smooth(x)[:, 1] > 40]
    surrogate = fit_surrogate(x, smooth(x))
    score = acquisition.log_expected_improvement(
        surrogate, outputs, known(x, losses, False), seed=0
    )
    at = torch.tensor([[0.5, 0.1], [0.5, 0.95]], dtype=torch.float64)
    assert score(at)[1] > score(at)[0] + 1.0


def test_composite_ei_agrees_with_samples() -> None:
    surrogate, outputs, x, losses = modelled(
        bi.Composite(lambda y: (y[..., 0] - 0.2) ** 2 + 0.01 * y[..., 1]), 8
    )
    score = acquisition.log_expected_improvement(
        surrogate, outputs, known(x, losses), seed=0, samples=4096
    )
    draws = sampled(surrogate, NEW, 400_000)
    loss = (draws[..., 0] - 0.2) ** 2 + 0.01 * draws[..., 1]
    ladder = np.sort(losses)[:5]
    expected = np.maximum(losses.min() - loss, 0.0).mean(0)
    assert np.allclose(
        score(NEW).exp() * (ladder.mean() - ladder[0]), expected, rtol=0.05, atol=2e-3
    )


def test_composite_ei_peaks_at_the_solution() -> None:
    """Two accurately modelled outputs determine the solution; the loss alone does not."""
    surrogate, outputs, x, losses = modelled(
        bi.Target(smooth(np.array([[0.31, 0.62]]))[0], scale=[1.0, 20.0]), 40
    )
    with one_thread():
        score = acquisition.log_expected_improvement(surrogate, outputs, known(x, losses), seed=0)
        rng = np.random.default_rng(0)
        domain = outputs.statement.domain
        found, _ = search.optimize_acquisition(
            score, domain, x[np.argsort(losses)[:3]], list(x), rng
        )
    assert float(outputs.statement.objective.loss(smooth(found[None]))[0]) < 1e-5 < losses.min()


@pytest.mark.parametrize(
    "objective", [bi.Minimize("y0"), bi.Target([0.3, 55.0]), bi.Target(0.3, output="y0")]
)
def test_gradients_with_pending_points(objective: Any) -> None:
    surrogate, outputs, x, losses = modelled(objective, 9)
    pending = np.random.default_rng(4).random((2, 2))
    score = acquisition.log_expected_improvement(
        surrogate, outputs, known(x, losses, pending=pending), seed=1, samples=16
    )
    at = NEW[:3].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda inputs: score(inputs).clamp(min=-60.0), at, rtol=1e-3, atol=1e-4
    )


def test_feasibility_learns_the_region_of_failures() -> None:
    x = np.random.default_rng(8).random((60, 2))
    surrogate = fit_surrogate(
        x,
        (x[:, :1] < 0.6).astype(float),
        search_space=ModelSearchSpace(noise_priors=(fit.LABELS,)),
    )
    chance = acquisition.log_feasibility(surrogate)(
        torch.tensor([[0.2, 0.5], [0.95, 0.5]], dtype=torch.float64)
    ).exp()
    assert chance[0] > 0.8
    assert chance[1] < 0.2


# Where it is highest


def test_optimisation_avoids_known_points() -> None:
    domain = bi.Box({"n": bi.Int(1, 3), "kind": bi.Choice("a", "b")}).domain
    rng = np.random.default_rng(9)

    def score(inputs: torch.Tensor) -> torch.Tensor:
        return -inputs.sum(-1)

    found: list[np.ndarray] = []
    for _ in range(6):
        found.append(
            search.optimize_acquisition(score, domain, np.array(found).reshape(-1, 2), found, rng)[
                0
            ]
        )
    assert len(np.unique(np.array(found), axis=0)) == 6
    assert found[0].tolist() == domain.encode([{"n": 1, "kind": "a"}])[0].tolist()
    again, _ = search.optimize_acquisition(score, domain, np.array(found), found, rng)
    assert np.linalg.norm(np.array(found) - again, axis=1).min() < 1e-9


def test_optimisation_stays_within_the_radius_of_a_latent() -> None:
    domain = gaussian_domain(4, radius=2.5)
    rng = np.random.default_rng(10)
    point, _ = search.optimize_acquisition(
        lambda inputs: inputs.sum(-1), domain, np.zeros((1, 4)), [], rng
    )
    assert np.linalg.norm(point) == pytest.approx(2.5)
    assert np.allclose(point, 1.25, atol=1e-3)


def test_optimisation_in_a_box_stays_inside() -> None:
    domain = bi.Box([0.0] * 3, [1.0] * 3).domain
    centre = np.array([0.5, 0.5, 0.98])
    rng = np.random.default_rng(11)
    point = search.optimize_in_box(
        lambda inputs: inputs.sum(-1), domain, centre, 0.05, [centre], rng
    )
    assert np.allclose(point, [0.55, 0.55, 1.0])


def test_optimisation_respects_the_min_distance() -> None:
    domain = bi.Box([0.0, 0.0], [1.0, 1.0]).domain
    best = np.array([0.3, 0.7])
    target = torch.tensor(best)

    def score(inputs: torch.Tensor) -> torch.Tensor:
        return -((inputs - target) ** 2).sum(-1)

    rng = np.random.default_rng
    free, _ = search.optimize_acquisition(score, domain, best[None], [best], rng(0))
    apart, _ = search.optimize_acquisition(
        score, domain, best[None], [best], rng(0), duplicates=spacing.DuplicateFilter(domain, 0.05)
    )
    assert np.linalg.norm(free - best) < 0.01
    assert 0.05 <= np.linalg.norm(apart - best) < 0.15
